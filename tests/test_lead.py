"""What is due soon is claimed before it is, and sent when it is."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import After, housekeeping, schedules
from celery_sqlalchemy_kit.clock import DATABASE
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.pipeline import Ahead
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.running import CLAIMS_AHEAD, LEAD_SECONDS, SqlStorage
from celery_sqlalchemy_kit.storage.values import Presence
from celery_sqlalchemy_kit.store.candidates import SOON
from celery_sqlalchemy_kit.store.outbox import MANY
from celery_sqlalchemy_kit.tables import routines, runs

EARLY, BOTH = Ahead(seconds=LEAD_SECONDS), Ahead(CLAIMS_AHEAD, LEAD_SECONDS)
SECOND, LEAD = timedelta(seconds=1), timedelta(seconds=LEAD_SECONDS)
postgresql_alone = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def every(seconds, name="poll", **fields):
    return Declared(name, f"tasks.{name}", schedules.parse(seconds), **fields)


def until_due(beat):
    """Let time pass until something is claimed before it is due; returns when it is."""
    beat.run()
    due = beat.store.look().next_run_at
    assert [] == beat.advance(due - SECOND - beat.clock.now())
    seconds = beat.loop.turn()
    assert 0 < 1 - seconds <= LEAD_SECONDS + 1e-6
    beat.clock.advance(seconds)
    return due


def edit(beat, **values):
    with beat.engine.begin() as connection:
        connection.execute(routines.update().values(values))


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
        others = routines.update().where(routines.c.name.in_(names[allowed:]))
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
        mine = routines.c.name == "thrice"
        connection.execute(routines.update().where(mine).values(max_runs=3))
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
    poll = beat(*(every(1, f"r{n}") for n in range(1 + others)), ahead=EARLY)
    poll.advance(30)
    due = poll.store.look().next_run_at
    while (seconds := poll.loop.turn()) <= 0:
        pass
    early = (due - poll.clock.now()).total_seconds() - seconds
    assert (others == MANY) == (abs(early - LEAD_SECONDS) < 1e-6) == (early > LEAD_SECONDS / 2)


@postgresql_alone
def test_what_somebody_else_claims_early_is_tried_once_more_when_it_is_due(beat):
    """And not all the time in between."""
    one, two = (beat(every(60), ahead=EARLY) for _ in range(2))
    until_due(one)
    due = until_due(two)
    with one.engine.begin() as connection:
        connection.execute(sa.select(routines.c.id).with_for_update())
        assert 0.0 == two.loop.turn()
        assert abs(two.loop.turn() - (due - two.clock.now()).total_seconds()) < 1e-6
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
