"""Looks and claims that need not begin at the beginning, and forget nothing for long all the same."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.bookmark import DEAR_SECONDS, LONGEST_REST_SECONDS, REST, Bookmark
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.loop import Loop
from celery_sqlalchemy_kit.pipeline import Ahead
from celery_sqlalchemy_kit.routines import Cause, Declared
from celery_sqlalchemy_kit.storage.values import Batch, Position, Presence, View
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import routines as table
from celery_sqlalchemy_kit.testing import SettableClock
from celery_sqlalchemy_kit.testing.beat import Recorder
from celery_sqlalchemy_kit.testing.bench import register
from example.memory_store import Memory, MemoryStore, claims

SECOND = timedelta(seconds=1)
RESCUED_AFTER, GRACE = 10 * SECOND, 60 * SECOND
#: Of a look from the beginning, in the tests below; and how long none follows it.
DEAR = 0.05
RESTS = REST * DEAR


@pytest.fixture
def bookmark(clock):
    return Bookmark(clock, RESCUED_AFTER, GRACE)


class Asked:
    """Looks, and what each was told that it may leave out."""

    def __init__(self, clock, bookmark):
        self.clock, self.bookmark, self.told = clock, bookmark, []

    def __call__(self, takes=0.0, *, oldest=None, to_claim=False):
        def look(passed):
            self.told.append(passed)
            now = self.clock.now()
            self.clock.advance(takes)
            return View(now, to_claim, None, oldest)

        self.bookmark.look(look)
        return self.told[-1]

    def twice(self, takes, **seen):
        """As one may be dear by chance."""
        assert self(takes, **seen) is None
        assert self(takes, **seen) is None


@pytest.fixture
def look(clock, bookmark):
    return Asked(clock, bookmark)


def test_looks_that_are_cheap_all_begin_at_the_beginning(clock, bookmark, look):
    for _ in range(5):
        assert look(DEAR_SECONDS * 0.9) is None
        assert math.inf == bookmark.anew_at


def test_a_dear_look_is_followed_by_others_that_go_on(clock, bookmark, look):
    look.twice(DEAR)
    over = clock.monotonic() + RESTS
    assert math.inf == bookmark.anew_at

    assert look() is not None
    assert over == bookmark.anew_at
    clock.advance(RESTS * 0.99)
    assert look(10 * DEAR) is not None  # however long such a one takes
    clock.advance(RESTS * 0.01)
    assert look() is None
    assert look() is None


def test_a_look_may_have_been_dear_by_chance(look):
    for takes in (DEAR, 0, 9, DEAR_SECONDS, DEAR):
        assert look(takes) is None
    assert look() is None


@pytest.mark.parametrize(
    ("grace", "rests"), [(GRACE, LONGEST_REST_SECONDS), (20 * SECOND, 5), (0 * SECOND, 0)]
)
def test_it_does_not_rest_until_what_is_late_counts_as_missed(clock, grace, rests):
    bookmark = Bookmark(clock, RESCUED_AFTER, grace)
    look = Asked(clock, bookmark)
    look.twice(9)
    if rests:
        assert look() is not None
        assert clock.monotonic() + rests == bookmark.anew_at
    clock.advance(rests)
    assert look() is None


def test_what_may_stand_before_it_is_looked_for_at_once(clock, bookmark, look):
    look.twice(DEAR)
    assert look() is not None
    bookmark.claimed(replace(batch(clock), still_due=True), bookmark.position(), clock.monotonic())
    assert bookmark.position() is None
    assert look(DEAR) is None
    assert look() is not None
    bookmark.begin_anew()
    assert look() is None


def test_before_anything_is_known_a_look_begins_at_the_beginning(clock, look):
    look.twice(DEAR, to_claim=True)
    assert look(DEAR, to_claim=True) is None


def test_a_look_goes_back_as_far_as_what_is_done_now_may_stand(clock, bookmark, look):
    look(DEAR)
    now = clock.now()
    look(DEAR)

    passed = look()

    assert Position(now - SECOND, str(UUID(int=0))) == passed.position
    assert now - RESCUED_AFTER - SECOND == passed.claimed_at


def test_a_run_that_was_seen_unpublished_is_seen_again(clock, look):
    oldest = clock.now() - 60 * SECOND
    look.twice(DEAR, oldest=oldest)
    assert oldest == look(oldest=oldest).claimed_at
    assert oldest == look().claimed_at
    assert oldest < look().claimed_at


def batch(clock, number=0, *, more=False):
    last = Position(clock.now() - 100 * SECOND + number * SECOND, str(uuid4()))
    return Batch(clock.now(), more=more, last=last)


def test_claims_go_on_where_a_full_one_ended_or_shortly_before_the_present(clock, bookmark, look):
    assert bookmark.position() is None
    full = batch(clock, more=True)
    now = clock.monotonic()
    bookmark.claimed(full, None, now)
    assert full.last == bookmark.position()
    bookmark.claimed(replace(full, last=None), full.last, now)  # all it took was to be planned
    assert full.last == bookmark.position()

    bookmark.claimed(batch(clock), full.last, now)

    assert clock.now() - SECOND == bookmark.position().next_run_at


def test_what_a_look_from_the_beginning_sees_is_claimed_from_the_beginning(clock, bookmark, look):
    began = clock.monotonic()
    bookmark.claimed(batch(clock), None, began)
    look()
    assert bookmark.position() is not None
    look.twice(DEAR, to_claim=True)
    assert bookmark.position() is None
    assert look(to_claim=True) is not None
    assert bookmark.position() is None
    for after in (None, batch(clock).last):  # were begun before that
        bookmark.claimed(batch(clock, more=True), after, began)
        assert bookmark.position() is None
    begun = batch(clock, 1, more=True)
    bookmark.claimed(begun, None, clock.monotonic())
    assert begun.last == bookmark.position()
    look(to_claim=True)
    assert begun.last == bookmark.position()
    assert begun.last == look(to_claim=True).position


# -- in a loop --------------------------------------------------------------------------------


def every(seconds, name="poll", **fields):
    return Declared(name, f"tasks.{name}", schedules.parse(seconds), **fields)


class Dear:
    """A scheduler whose looks from the beginning take long; counts both kinds."""

    def __init__(self, beat, *declared, **settings):
        self.beat = beat(*declared, **settings)
        self.seconds, self.whole, self.others = DEAR, 0, 0
        self._look = self.beat.store.look
        self.beat.store.look = self.look
        self.beat.run()

    def look(self, *, after=None):
        if after is None:
            self.whole += 1
            self.beat.clock.advance(self.seconds)
        else:
            self.others += 1
        return self._look(after=after)

    def rest(self):
        """Until the next look from the beginning is far away."""
        whole, until = self.whole, self.beat.clock.monotonic() + 15
        while self.whole == whole:
            assert self.beat.clock.monotonic() < until
            self.beat.advance(0.1)
        self.beat.run()

    def set(self, name, **values):
        mine = table.c.name == name
        with self.beat.engine.begin() as connection:
            connection.execute(table.update().where(mine).values(values))


def test_what_is_due_is_run_while_looks_are_dear(beat, clock):
    dear = Dear(beat, every(1), every(0.25, "often"))
    began = clock.monotonic()

    sent = dear.beat.advance(60)

    past = clock.monotonic() - began

    names = [run.routine_name for run in sent]
    assert past == pytest.approx(names.count("poll"), abs=1)
    assert 4 * past == pytest.approx(names.count("often"), abs=1)
    assert len(sent) == len({run.id for run in sent})
    assert not any(run.cause is Cause.CATCH_UP for run in sent)
    assert dear.whole * (DEAR + RESTS) == pytest.approx(past, rel=0.3)
    assert dear.others > 100


@pytest.mark.parametrize("name", ["now", "past", "plan"])
def test_an_edit_is_obeyed_while_looks_are_dear(beat, clock, name):
    dear = Dear(beat, every(0.2), every(3600, "edited"))
    dear.beat.advance(30)
    dear.rest()
    order = {
        "now": {"next_run_at": clock.now()},
        "past": {"next_run_at": clock.now() - 10 * SECOND},
        "plan": {"schedule": '{"timedelta": 0.1}', "next_run_at": None},
    }
    dear.set("edited", **order[name])
    began, whole = clock.monotonic(), dear.whole

    at_once = [run.routine_name for run in dear.beat.run()]
    later = [run.routine_name for run in dear.beat.advance(RESTS + DEAR)]

    if name == "now":
        assert ["edited"] == at_once
    assert "edited" in at_once + later
    if name == "past" and dear.beat.engine.dialect.name == "postgresql":
        assert [] == at_once
        assert dear.whole > whole
    assert clock.monotonic() - began < 3 * RESTS


def test_a_scheduler_without_anything_else_to_do_does_not_sleep_over_it(beat, clock):
    dear = Dear(beat, every(3600))
    dear.beat.advance(30)
    dear.rest()
    dear.set("poll", next_run_at=clock.now() - 10 * SECOND)

    seconds = 0.0
    while seconds <= 0:
        seconds = dear.beat.loop.turn()  # woken by the edit

    assert seconds <= RESTS
    dear.beat.advance(seconds + 0.001)
    assert ["poll"] == [run.routine_name for run in dear.beat.publisher.sent]


def test_a_run_that_is_ordered_by_hand_is_sent_at_once_while_looks_are_dear(beat, routines):
    dear = Dear(beat, every(0.2), every(3600, "ordered"))
    dear.beat.advance(30)
    dear.rest()
    order = routines.run_now("ordered")
    whole = dear.whole

    sent = dear.beat.run()

    assert order in {run.id for run in sent}
    assert whole == dear.whole


def test_what_a_killed_scheduler_had_claimed_is_rescued_while_looks_are_dear(beat, clock):
    dear = Dear(beat, every(0.2))
    dear.beat.advance(30)
    other = beat(every(3600, "stranded"))
    other.run()
    dear.set("stranded", next_run_at=clock.now())
    other.publisher.publish = lambda *_, **__: []  # it never came to it
    other.run()
    other.loop = None

    sent = dear.beat.advance(RESCUED_AFTER.total_seconds() + RESTS + DEAR)

    assert 1 == [run.routine_name for run in sent].count("stranded")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_row_that_was_held_is_claimed_soon_after_while_looks_are_dear(beat, clock):
    dear = Dear(beat, every(0.2), every(3600, "held"))
    dear.beat.advance(30)
    dear.set("held", next_run_at=clock.now() + SECOND)
    operator = make_engine(dear.beat.engine.url)
    with operator.begin() as connection:
        connection.execute(sa.text("SELECT * FROM routines WHERE name = 'held' FOR UPDATE"))
        dear.beat.advance(15)
        assert not [run for run in dear.beat.publisher.sent if run.routine_name == "held"]

    sent = dear.beat.advance(RESTS + DEAR)

    assert 1 == [run.routine_name for run in sent].count("held")
    operator.dispose()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_backlog_is_claimed_once_and_as_a_whole_while_looks_are_dear(beat, clock):
    dear = Dear(
        beat,
        *(every(60, f"r{n}") for n in range(105)),
        scheduler_batch_size=10,
        ahead=Ahead(2),
    )
    clock.advance(60)

    sent = dear.beat.advance(RESTS + DEAR)

    assert sorted(f"r{n}" for n in range(105)) == sorted(run.routine_name for run in sent)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_is_set_into_the_past_does_not_wait_for_the_end_of_a_backlog(beat, clock):
    dear = Dear(
        beat,
        *(every(3600, f"r{n}") for n in range(300)),
        every(7200, "edited"),
        scheduler_batch_size=5,
    )
    dear.seconds = 0.06
    publish = dear.beat.publisher.publish
    dear.beat.publisher.publish = lambda *args, **_: (clock.advance(0.1), publish(*args))[1]
    clock.advance(3660)
    whole = dear.whole
    while dear.whole < whole + 2:
        assert dear.beat.loop.turn() <= 0
    dear.set("edited", next_run_at=clock.now() - 600 * SECOND)
    began = clock.monotonic()

    while not [run for run in dear.beat.publisher.sent if run.routine_name == "edited"]:
        assert dear.beat.loop.turn() <= 0

    assert clock.monotonic() - began < REST * dear.seconds + 0.5


# -- nothing is forgotten ---------------------------------------------------------------------


class Heeding(MemoryStore):
    """One that leaves out all that it may, and whose looks from the beginning take *seconds*."""

    seconds = 0.0

    def look(self, *, after=None):
        tables, now = self._memory.read(), self._clock.now()
        if after is None:
            self._clock.advance(self.seconds)
        else:
            tables = tables.copy()
            _take_out(tables, after.position)
            for key, row in list(tables.runs.items()):
                if row.claimed_at < after.claimed_at:
                    del tables.runs[key]
        return claims.look(tables, self._me.namespace, now)

    def claim(self, decide, *, limit, after=None, published=(), until=None):
        with self._memory.change(self._clock) as (tables, now):
            claims.confirm(tables, self._me, now, published)
            passed = _take_out(tables, after)
            batch = claims.claim(tables, self._me, now, self._reader, decide, limit)
            tables.routines.update(passed)
            if batch.more:
                taken = [(held.routine.next_run_at, str(held.routine.id)) for held in batch.claimed]
                batch = replace(batch, last=Position(*max(taken)) if taken else None)
            return batch


def _take_out(tables, position):
    passed = {
        key: row
        for key, row in tables.routines.items()
        if position is not None
        and row.next_run_at is not None
        and (row.next_run_at, str(key)) <= (position.next_run_at, position.key)
    }
    for key in passed:
        del tables.routines[key]
    return passed


#: What takes how long from the beginning; after how many seconds who is set how far back.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.005, 0.011, 0.05, 0.3]),
        st.floats(0.001, 5),
        st.integers(0, 4),
        st.floats(-3, 100),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_is_edited_is_claimed_before_long(steps):
    clock, memory = SettableClock(datetime(2026, 12, 1, 12, tzinfo=UTC)), Memory()
    store = Heeding(memory, Presence(uuid4(), "", "test", 0), clock=clock)
    declared = [every(each, f"r{n}") for n, each in enumerate((0.4, 1, 3600, 3600, 3600))]
    publisher = Recorder()
    two = Settings.load(
        {"scheduler_db_uri": "sqlite://", "scheduler_batch_size": 2}, {}, scheduler=True
    )
    loop = Loop(store, publisher, two, clock, lambda: bool(register(store, *declared).held), {}.get)
    loop.begin()

    def run_for(seconds):
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            wait = loop.turn()
            if wait > 0:
                clock.advance(max(1e-6, min(left, wait)))

    most = 0.0
    for seconds, past, number, ago in steps:
        store.seconds = seconds
        run_for(past)
        at = clock.now() - timedelta(seconds=ago)
        memory.edit(f"r{number}", clock=clock, next_run_at=at)
        most = max(most, seconds)
        publisher.sent.clear()
        loop.turn()  # woken by it

        run_for(max(0.0, -ago) + max(1.0, REST * most) + 5 * most)

        assert f"r{number}" in {run.routine_name for run in publisher.sent}
