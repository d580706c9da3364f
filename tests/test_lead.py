"""What is due soon is claimed before it is, and sent when it is."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ALL_COMPLETED as ALL
from concurrent.futures import wait
from contextlib import suppress
from datetime import timedelta
from itertools import count
from threading import Event
from uuid import uuid4

import pytest
import sqlalchemy as sa
from servers import wait_for

from celery_sqlalchemy_kit import After, housekeeping, pipeline, recall, schedules, stops
from celery_sqlalchemy_kit.clock import DATABASE
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.pipeline import FIRST, Ahead
from celery_sqlalchemy_kit.recall import OBEYED_SECONDS
from celery_sqlalchemy_kit.routines import Cause, Declared
from celery_sqlalchemy_kit.running import CLAIMS_AHEAD, LEAD_SECONDS, SqlStorage
from celery_sqlalchemy_kit.storage.values import Presence
from celery_sqlalchemy_kit.store.candidates import SOON
from celery_sqlalchemy_kit.store.outbox import MANY
from celery_sqlalchemy_kit.tables import routines as table
from celery_sqlalchemy_kit.tables import runs

EARLY, BOTH = Ahead(seconds=LEAD_SECONDS), Ahead(CLAIMS_AHEAD, LEAD_SECONDS)
SECOND, LEAD = timedelta(seconds=1), timedelta(seconds=LEAD_SECONDS)
postgresql_alone = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def every(seconds, name="poll", **fields):
    return Declared(name, f"tasks.{name}", schedules.parse(seconds), **fields)


def until_due(beat, most=OBEYED_SECONDS):
    """Let time pass until something is claimed before it is due; returns when it is."""
    beat.run()
    due = beat.store.look().next_run_at
    assert [] == beat.advance(due - SECOND - beat.clock.now())
    seconds = beat.loop.turn()
    assert 0 < 1 - seconds <= most + 1e-6
    beat.clock.advance(seconds)
    return due


def edit(beat, **values):
    with beat.engine.begin() as connection:
        connection.execute(table.update().values(values))


def claims(beat):
    with beat.engine.connect() as connection:
        found = connection.execute(sa.select(runs.c.scheduled_for, runs.c.claimed_at))
        return [tuple(each) for each in found]


def claims_take(beat, seconds):
    claim = beat.store.claim

    def slow(*args, **kwargs):
        batch = claim(*args, **kwargs)
        beat.clock.advance(seconds)
        return batch

    beat.store.claim = slow


def number(beat, state):
    with beat.engine.connect() as connection:
        counted = sa.select(sa.func.count()).where(runs.c.state == state)
        return connection.execute(counted).scalar_one()


@postgresql_alone
def test_what_is_due_soon_is_claimed_now_and_sent_when_it_is_due(beat):
    poll = beat(every(60), ahead=EARLY)
    for _ in range(3):
        due = until_due(poll)
        (run,) = poll.run()
        assert due == run.scheduled_for
        at = poll.clock.monotonic() + (due - poll.clock.now()).total_seconds()
        assert abs(poll.publisher.not_before[run.id] - at) < 1e-6
    assert [(at, at) for at, _ in claims(poll)] == claims(poll)
    poll.clock.set(due)
    assert [] == poll.run()


@postgresql_alone
def test_what_is_late_is_sent_at_once(beat):
    poll = beat(every(60), ahead=EARLY)
    until_due(poll)
    poll.clock.advance(LEAD + SECOND)
    (run,) = poll.run()
    assert 0.0 == poll.publisher.not_before[run.id]


@postgresql_alone
def test_whether_the_run_before_has_ended_is_asked_when_it_is_due(beat):
    poll = beat(every(60), ahead=EARLY)
    until_due(poll)
    (before,) = poll.run()
    edit(poll, overlap="skip")
    due = until_due(poll)

    assert 0.0 == poll.loop.turn()  # it is looked for, and left
    assert abs(poll.loop.turn() - (due - poll.clock.now()).total_seconds()) < 1e-6
    assert [] == poll.run()
    poll.clock.set(due)
    poll.finish(before)
    (run,) = poll.run()
    assert (due, 0.0) == (run.scheduled_for, poll.publisher.not_before[run.id])


@postgresql_alone
@pytest.mark.parametrize("allowed", range(6))
def test_of_many_those_that_may_overlap_alone_are_claimed_early(beat, allowed):
    """And none of the others is passed by, wherever it stands."""
    names = [f"r{n}" for n in range(5)]
    many = beat(*(every(60, name) for name in names), ahead=BOTH, scheduler_batch_size=2)
    with many.engine.begin() as connection:
        others = table.update().where(table.c.name.in_(names[allowed:]))
        connection.execute(others.values(overlap="queue"))
    due = until_due(many)
    early = many.run()
    assert {run.routine_name for run in early} <= set(names[:allowed])
    many.clock.set(due)
    then = many.run()
    assert names == sorted(run.routine_name for run in early + then)
    assert 0.0 == max((many.publisher.not_before[run.id] for run in then), default=0.0)


@postgresql_alone
def test_an_edit_before_the_claim_is_obeyed(beat):
    poll = beat(every(60), ahead=EARLY)
    until_due(poll)
    edit(poll, active=False)
    assert [] == poll.advance(60)


@postgresql_alone
def test_an_edit_after_the_claim_is_obeyed_for_the_next_run(beat):
    poll = beat(every(60), ahead=EARLY)
    due = until_due(poll)
    assert [due] == [run.scheduled_for for run in poll.run()]
    edit(poll, schedule='{"timedelta": 7}')
    poll.run()
    poll.clock.set(due)
    assert [] == poll.run()
    assert 1 <= len(poll.advance(8)) <= 2


@postgresql_alone
def test_an_order_before_it_is_due_moves_nothing_back(beat, routines):
    poll = beat(every(60), ahead=EARLY)
    due = until_due(poll)
    poll.run()
    routines.run_now("poll")
    with poll.engine.connect() as connection:
        assert due == connection.execute(sa.text("SELECT last_run_at FROM routines")).scalar_one()


@postgresql_alone
def test_limits_delays_and_short_intervals_come_to_the_same(beat):
    routines_of = {
        "ten milliseconds": every(0.01, "ten milliseconds"),
        "thrice": every(1, "thrice"),
        "after": Declared("after", "tasks.after", schedules.parse(After(1))),
    }
    poll = beat(*routines_of.values(), ahead=BOTH)
    with poll.engine.begin() as connection:
        mine = table.c.name == "thrice"
        connection.execute(table.update().where(mine).values(max_runs=3))
    poll.run()
    began = poll.clock.now()
    poll.advance(5)
    sent = Counter(run.routine_name for run in poll.publisher.sent)
    assert 3 == sent["thrice"]
    assert 1 == sent["after"]  # whose run nobody ends
    assert abs(sent["ten milliseconds"] - 500) <= 5
    instants = [each.scheduled_for for each in poll.publisher.sent]
    assert len(poll.publisher.sent) == len({run.id for run in poll.publisher.sent})
    assert max(instants) <= poll.clock.now() + LEAD
    assert min(instants) >= began - SECOND


@postgresql_alone
def test_what_a_killed_scheduler_has_claimed_early_is_sent_by_another(beat):
    one, two = (beat(every(60), ahead=EARLY) for _ in range(2))
    due = until_due(one)
    one.publisher.publish = lambda *_, **__: []  # killed before it is due
    one.loop.turn()
    assert [due] == [at for at, _ in claims(one)]
    sent = two.advance(two.settings.scheduler_rescue_after + 1)
    assert [due] == [run.scheduled_for for run in sent]


@postgresql_alone
def test_chores_are_done_between_instants_that_are_closer_than_the_lead(beat, monkeypatch):
    monkeypatch.setattr(housekeeping, "PRUNED", 1)
    poll = beat(every(0.01), ahead=EARLY, scheduler_keep_runs_for=3600)
    claims_take(poll, 0.006)
    publish = poll.publisher.publish

    def when_due(*args, not_before=0.0):
        poll.clock.advance(max(0.0, not_before - poll.clock.monotonic()))
        return publish(*args, not_before=not_before)

    poll.advance(1)
    for run in poll.publisher.sent:
        poll.finish(run)
    ended = number(poll, "succeeded")
    assert ended > 40
    poll.clock.advance(3700)
    poll.publisher.publish = when_due
    until = poll.clock.now() + 12 * SECOND
    while poll.clock.now() < until:
        poll.clock.advance(max(0.0, poll.loop.turn()))
    assert 0 == number(poll, "succeeded")


@postgresql_alone
def test_the_lead_is_about_twice_what_claims_take(beat):
    poll = beat(every(1), ahead=EARLY)
    claims_take(poll, 0.006)
    poll.advance(30)
    due = poll.store.look().next_run_at
    while (seconds := poll.loop.turn()) <= 0:
        pass
    assert 0.011 < (due - poll.clock.now()).total_seconds() - seconds < 0.015


@postgresql_alone
@pytest.mark.parametrize("others", [MANY - 1, MANY])
def test_what_is_due_by_the_hundred_is_claimed_as_early_as_may_be(beat, others):
    """At first; and then as they need, whatever few need in between."""
    poll = beat(every(1), *(every(60, f"r{n}") for n in range(others)), ahead=EARLY)
    poll.advance(59.5)
    due = poll.store.look().next_run_at
    while (seconds := poll.loop.turn()) <= 0:
        pass
    early = (due - poll.clock.now()).total_seconds() - seconds
    assert (others == MANY) == (abs(early - LEAD_SECONDS) < 1e-6) == (early > LEAD_SECONDS / 2)


@pytest.fixture
def many_due(beat, monkeypatch):
    """A scheduler for which so many are due at one instant, *names* among them, that they are
    claimed as early as may be, which is now. No time passes until that instant."""
    for module in (pipeline, recall):
        monkeypatch.setattr(module, "wait", lambda some, _=0, how=ALL, **__: wait(some, 60, how))
    monkeypatch.setattr(recall, "pause", lambda _: None)

    def start(*names):
        names += tuple(f"r{n}" for n in range(1 + MANY - len(names)))
        poll = beat(*(every(60, name) for name in names), ahead=BOTH)
        assert poll.settings.scheduler_batch_size > FIRST
        poll.due = until_due(poll, LEAD_SECONDS)
        assert abs((poll.due - poll.clock.now()).total_seconds() - LEAD_SECONDS) < 1e-5
        return poll

    return start


def at_claims(beat, happens):
    """*happens* after each claim, before anything is sent, with its number."""
    claim, numbers = beat.store.claim, count(1)

    def claimed(*args, **kwargs):
        batch = claim(*args, **kwargs)
        happens(next(numbers))
        return batch

    beat.store.claim = claimed


def published(beat):
    """How many were published at once, each time."""
    publish, sizes = beat.publisher.publish, []

    def noted(claimed, *args, **kwargs):
        sizes.append(len(claimed))
        return publish(claimed, *args, **kwargs)

    beat.publisher.publish = noted
    return sizes


def switch(beat, name, **values):
    with beat.engine.begin() as connection:
        mine = table.update().where(table.c.name == name)
        connection.execute(mine.values(values))


def names_of(beat):
    return [run.routine_name for run in beat.publisher.sent]


@postgresql_alone
def test_all_of_many_are_sent_in_one_go(many_due):
    many = many_due()
    sizes = published(many)
    assert 1 + MANY == len(many.run())
    assert [1 + MANY] == sizes
    assert 1 == len(set(many.publisher.not_before.values()))
    many.clock.set(many.due)
    assert [] == many.run()
    many.advance(1)
    assert 1 + MANY == number(many, "sent")


@postgresql_alone
def test_so_are_those_of_them_that_may_overlap(many_due):
    names = [f"skips{n}" for n in range(20)]
    many = many_due(*names)
    with many.engine.begin() as connection:
        skips = table.update().where(table.c.name.in_(names))
        # Which is no edit, as a hundred claims later would be.
        connection.execute(sa.text("SELECT set_config('routines.quiet', 'on', true)"))
        connection.execute(skips.values(overlap="skip"))
    sizes = published(many)
    many.run()
    assert [1 + MANY - 20] == sizes
    many.clock.set(many.due)
    assert set(names) == {run.routine_name for run in many.run()}


@postgresql_alone
def test_what_is_off_or_gone_since_it_was_claimed_is_not_sent(many_due):
    many = many_due("off", "gone", "on")

    def edit_all(claims):
        if claims == 2:
            switch(many, "off", active=False)
            with many.engine.begin() as connection:
                connection.execute(table.delete().where(table.c.name == "gone"))

    at_claims(many, edit_all)
    assert MANY - 1 == len(many.run())
    assert {"off", "gone"}.isdisjoint(names_of(many))
    rest = many.advance(many.settings.scheduler_rescue_after + 1)
    assert ([], 2) == (rest, number(many, "skipped"))
    with many.engine.connect() as connection:
        counted = sa.select(table.c.total_run_count).where(table.c.name.in_(["off", "on"]))
        assert [0, 1] == sorted(connection.execute(counted).scalars())


@postgresql_alone
def test_an_order_is_sent_whether_its_routine_is_off_or_not(many_due):
    many = many_due("ordered")
    switch(many, "ordered", next_run_at=many.due - timedelta(microseconds=1))
    at_claims(many, lambda _: switch(many, "ordered", active=False))
    many.run()
    causes = [run.cause for run in many.publisher.sent if run.routine_name == "ordered"]
    assert [Cause.MANUAL] == causes


@postgresql_alone
def test_what_is_over_with_its_claim_is_sent(many_due, routines):
    many = many_due("last")
    many.run()
    many.clock.set(many.due)
    switch(many, "last", max_runs=2)
    many.advance(1)
    due = many.store.look().next_run_at
    routines.once("tasks.once", at=due)
    routines.create("once", "tasks.once", due)
    assert due == until_due(many, LEAD_SECONDS)
    assert 3 + MANY == len(many.run())
    with many.engine.connect() as connection:
        off = sa.select(table.c.name).where(~table.c.active)
        assert {"last", "once"} == set(connection.execute(off).scalars())
    many.advance(many.settings.scheduler_rescue_after + 1)
    assert 0 == number(many, "skipped")


@postgresql_alone
@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_what_could_not_be_asked_is_sent(many_due, monkeypatch, caplog, how):
    caplog.set_level("DEBUG")
    many, let_go = many_due(), Event()
    if how == "hangs":
        monkeypatch.setattr(recall, "wait", lambda some, timeout: wait(some, 0))
    many.store.stopped = lambda *_, **__: let_go.wait(60) / 0 if how == "hangs" else 1 / 0
    assert 1 + MANY == len(many.run())
    let_go.set()
    (told,) = [each.getMessage() for each in caplog.records if "switched off" in each.getMessage()]
    assert ("no answer in time" if how == "hangs" else "ZeroDivisionError") in told


@postgresql_alone
@pytest.mark.parametrize("limit", [2 * FIRST, 4 * FIRST])
def test_a_claim_that_fails_does_not_keep_the_others(many_due, limit):
    many = many_due()
    claim = many.store.claim

    def some_fail(*args, **kwargs):
        if kwargs["limit"] == limit and not failed:
            failed.append(limit)
            raise ZeroDivisionError
        return claim(*args, **kwargs)

    failed, many.store.claim = [], some_fail
    with suppress(ZeroDivisionError):
        many.loop.turn()
    assert FIRST <= len(many.publisher.sent)
    many.clock.set(many.due)
    for _ in range(3):
        with suppress(ZeroDivisionError):
            many.run()
    sent = [run.id for run in many.publisher.sent]
    assert 1 + MANY == len(sent) == len(set(sent))
    assert 0 == number(many, "claimed")


@postgresql_alone
@pytest.mark.parametrize("hang", [{FIRST}, {2 * FIRST}, {2 * FIRST, 4 * FIRST}])
def test_claims_that_are_not_done_by_then_keep_nobody_waiting(many_due, monkeypatch, hang):
    many, let_go = many_due(), Event()
    claim, sizes, waiting = many.store.claim, published(many), []

    def slow(*args, **kwargs):
        if kwargs["limit"] in hang:
            waiting.append(kwargs["limit"])
            assert let_go.wait(60)
        return claim(*args, **kwargs)

    def until_it_comes(some, timeout, how):
        """Which it does once nothing else is to be had."""
        if timeout is None:
            return wait(some, 60, how)
        wait_for(lambda: any(each.done() for each in some) or len(waiting) == len(some))
        return wait(some, 0, how)

    monkeypatch.setattr(pipeline, "wait", until_it_comes)
    many.store.claim = slow
    assert 0.0 == many.loop.turn()
    assert [1 + MANY if len(hang) == 1 else FIRST] == sizes
    let_go.set()
    many.clock.set(many.due)
    many.run()
    assert 1 + MANY == sum(sizes) == len({run.id for run in many.publisher.sent})


@postgresql_alone
@pytest.mark.parametrize("when", ["claim", "stopped"])
def test_a_stop_waits_until_what_is_claimed_early_is_sent(many_due, monkeypatch, when):
    monkeypatch.setattr(stops, "STOP_SECONDS", 60)
    many, obeyed = many_due(), []
    call, calls = getattr(many.store, when), count()

    def stopping(*args, **kwargs):
        answer = call(*args, **kwargs)
        if next(calls) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return answer

    def obey(*_):
        obeyed.append(len(many.publisher.sent))
        raise SystemExit

    setattr(many.store, when, stopping)
    before = signal.signal(signal.SIGTERM, obey)
    try:
        with pytest.raises(SystemExit):
            many.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [1 + MANY] == obeyed


@postgresql_alone
def test_edits_in_between_say_nothing_of_how_long_claims_take(many_due, routines):
    many = many_due()
    many.run()
    routines.create("edited", "tasks.edited", 1000)
    many.clock.set(many.due)
    for seconds in range(40):
        switch(many, "edited", schedule=f'{{"timedelta": {2000 + seconds}}}')
        many.advance(1)
    assert many.due + 60 * SECOND == until_due(many, LEAD_SECONDS)
    early = many.due + 60 * SECOND - many.clock.now()
    assert early.total_seconds() > LEAD_SECONDS * 0.8


@postgresql_alone
def test_what_somebody_else_claims_early_is_tried_once_more_when_it_is_due(beat):
    """And not all the time in between."""
    one, two = (beat(every(60), ahead=EARLY) for _ in range(2))
    until_due(one)
    due = until_due(two)
    tried = []
    at_claims(two, tried.append)
    with one.engine.begin() as connection:
        connection.execute(sa.select(table.c.id).with_for_update())
        assert [] == two.advance(due - two.clock.now() - timedelta(milliseconds=1))
        assert [1] == tried
        two.clock.set(due)
    assert 1 == len(two.run())


@postgresql_alone
def test_an_instant_that_is_further_away_by_the_databases_clock_is_waited_for(beat):
    """As its clock may have been set back."""
    poll = beat(every(60), ahead=EARLY)
    due = until_due(poll)
    poll.clock.set(due - SOON - LEAD)
    assert [] == poll.run()
    assert [due] == [run.scheduled_for for run in poll.advance(1)]


@postgresql_alone
def test_all_of_many_are_claimed_early_batch_by_batch(beat):
    many = beat(*(every(60, f"r{n}") for n in range(7)), ahead=EARLY, scheduler_batch_size=3)
    due = until_due(many)
    assert 7 == len(many.run())
    assert {(due, due)} == set(claims(many))


def test_other_databases_wait_until_it_is_due(beat, database):
    poll = beat(every(60), ahead=EARLY)
    due = until_due(poll)
    early = poll.run()
    poll.clock.set(due)
    (run,) = early + poll.run()
    assert bool(early) == (database.get_backend_name() == "postgresql")
    assert [due] == [run.scheduled_for]


def test_a_clock_that_is_moved_by_hand_is_not_waited_for(postgresql, clock):
    settings = Settings.load({"scheduler_db_uri": postgresql}, {}, scheduler=True)
    leads = []
    for each in (clock, DATABASE):
        me = Presence(uuid4(), "", "host", 1)
        leads.append(SqlStorage(postgresql, settings, me, "UTC", each).ahead.seconds)
    assert [0.0, LEAD_SECONDS] == leads
