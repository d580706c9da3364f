"""What is due soon is claimed before it is, and sent when it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.pipeline import Ahead
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.running import LEAD_SECONDS
from celery_sqlalchemy_kit.store.candidates import SOON
from celery_sqlalchemy_kit.tables import routines, runs

EARLY = Ahead(seconds=LEAD_SECONDS)
SECOND, LEAD = timedelta(seconds=1), timedelta(seconds=LEAD_SECONDS)
postgresql_alone = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def every(seconds, name="poll"):
    return Declared(name, f"tasks.{name}", schedules.parse(seconds))


def until_due(beat):
    """Let time pass until something is claimed before it is due; returns when it is."""
    beat.run()
    due = beat.store.look().next_run_at
    assert [] == beat.advance(due - SECOND - beat.clock.now())
    seconds = beat.loop.turn()
    assert abs(seconds + LEAD_SECONDS - 1) < 1e-6
    beat.clock.advance(seconds)
    return due


def edit(beat, **values):
    with beat.engine.begin() as connection:
        connection.execute(routines.update().values(values))


def claims(beat):
    with beat.engine.connect() as connection:
        found = connection.execute(sa.select(runs.c.scheduled_for, runs.c.claimed_at))
        return [tuple(each) for each in found]


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
    assert abs(poll.loop.turn() - LEAD_SECONDS) < 1e-6
    assert [] == poll.run()
    poll.clock.set(due)
    poll.finish(before)
    (run,) = poll.run()
    assert (due, 0.0) == (run.scheduled_for, poll.publisher.not_before[run.id])


@postgresql_alone
def test_what_is_edited_meanwhile_is_obeyed(beat):
    poll = beat(every(60), ahead=EARLY)
    until_due(poll)
    edit(poll, active=False)
    assert [] == poll.advance(60)


@postgresql_alone
def test_what_somebody_else_claims_early_is_tried_once_more_when_it_is_due(beat):
    """And not all the time in between."""
    one, two = (beat(every(60), ahead=EARLY) for _ in range(2))
    until_due(one)
    due = until_due(two)
    with one.engine.begin() as connection:
        connection.execute(sa.select(routines.c.id).with_for_update())
        assert 0.0 == two.loop.turn()
        assert abs(two.loop.turn() - LEAD_SECONDS) < 1e-6
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
