"""What becomes of a routine that runs once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.due import Decision, Limits, Missed, Occurrence, decide, due_at
from celery_sqlalchemy_kit.routines import CatchUp, Cause, Routine
from celery_sqlalchemy_kit.schedules import Once

NINE = datetime(2026, 5, 5, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
LIMITS = Limits()
SPENT = Decision((), (), NINE, None, over=True)
HAS_BEEN = replace(SPENT, ended_at=NINE)
RUNS = replace(HAS_BEEN, occurrences=(Occurrence(NINE, Cause.SCHEDULE),))
CAUGHT_UP = replace(HAS_BEEN, occurrences=(Occurrence(NINE, Cause.CATCH_UP),))
MISSED = replace(HAS_BEEN, missed=(Missed(NINE, NINE, 1, "late: catch_up = skip"),))
TO_COME = Decision((), (), NINE, NINE)


def once(**fields) -> Routine:
    """A routine at nine, written an hour before."""
    fields = {"edited_at": NINE - HOUR} | fields
    return Routine(UUID(int=1), "remind", "tasks.remind", Once(NINE), **fields)


def planned(**fields) -> Routine:
    routine = once(occurrence_at=NINE, **fields)
    return replace(routine, next_run_at=due_at(routine, NINE))


def spent(**fields) -> Routine:
    """One that has been claimed, as its decision leaves it."""
    left = {"occurrence_at": NINE, "ended_at": NINE, "last_run_at": NINE, "total_run_count": 1}
    return once(**{**left, **fields})


def by_hand(decision: Decision, at: datetime) -> Decision:
    ordered = Occurrence(at, Cause.MANUAL)
    return replace(decision, occurrences=(*decision.occurrences, ordered))


@pytest.mark.parametrize(
    ("routine", "now", "decision"),
    [
        (once(), NINE - SECOND, TO_COME),
        (planned(), NINE, RUNS),
        (planned(), NINE + 60 * SECOND, RUNS),
        (planned(), NINE + 61 * SECOND, CAUGHT_UP),
        # Not claimed yet: at once, whatever its age, though it was written after its time.
        (once(edited_at=NINE + SECOND), NINE + SECOND, RUNS),
        (once(edited_at=NINE + YEAR), NINE + YEAR, CAUGHT_UP),
        (once(edited_at=NINE + YEAR, catch_up=CatchUp.ALL), NINE + YEAR, CAUGHT_UP),
        (once(catch_up=CatchUp.SKIP), NINE + 60 * SECOND, RUNS),
        (once(catch_up=CatchUp.SKIP), NINE + 61 * SECOND, MISSED),
        # Off at its time.
        (once(occurrence_at=NINE, paused_at=NINE - SECOND), NINE + HOUR, CAUGHT_UP),
        # Spent; switched on again.
        (spent(), NINE + HOUR, SPENT),
        (spent(edited_at=NINE + HOUR), NINE + HOUR, SPENT),
        (spent(paused_at=NINE), NINE + HOUR, SPENT),
        (spent(last_run_at=NINE + HOUR), NINE + YEAR, SPENT),
        # Another instant is another occurrence, in the past too.
        (spent(ended_at=NINE - HOUR), NINE - SECOND, TO_COME),
        (spent(ended_at=NINE + HOUR, last_run_at=NINE + HOUR), NINE + 2 * HOUR, CAUGHT_UP),
        # Missed, and switched on again, to be caught up now.
        (once(occurrence_at=NINE, ended_at=NINE, catch_up=CatchUp.SKIP), NINE + HOUR, SPENT),
        (once(occurrence_at=NINE, ended_at=NINE), NINE + HOUR, SPENT),
        # It was an interval before.
        (once(occurrence_at=NINE - SECOND, last_run_at=NINE + HOUR), NINE + HOUR, CAUGHT_UP),
        # By hand, besides its own time or together with it.
        (replace(planned(), next_run_at=NINE - HOUR), NINE - HOUR, by_hand(TO_COME, NINE - HOUR)),
        (once(next_run_at=NINE + SECOND), NINE + SECOND, by_hand(RUNS, NINE + SECOND)),
        (spent(next_run_at=NINE + HOUR), NINE + HOUR, by_hand(SPENT, NINE + HOUR)),
        # Its own instant in next_run_at as well is no order.
        (once(next_run_at=NINE), NINE, RUNS),
        (planned(next_run_at=NINE), NINE, RUNS),
        # Bounds.
        (once(max_runs=0), NINE, SPENT),
        (once(starts_at=NINE + SECOND), NINE, SPENT),
        (once(ends_at=NINE - SECOND), NINE, SPENT),
        (once(starts_at=NINE, ends_at=NINE, max_runs=1), NINE, RUNS),
    ],
)
def test_decided(routine, now, decision):
    assert decision == decide(routine, now, LIMITS)


def test_lateness_of_the_schedulers_own_is_no_catching_up():
    busy = Limits(busy_since=NINE + SECOND)

    assert RUNS == decide(planned(), NINE + HOUR, busy)
    assert RUNS == decide(planned(catch_up=CatchUp.SKIP), NINE + HOUR, busy)


def test_jitter_puts_it_off():
    routine = once(jitter_seconds=600)
    due = due_at(routine, NINE)

    assert Decision((), (), NINE, due) == decide(routine, NINE, LIMITS)
    assert RUNS == decide(replace(routine, occurrence_at=NINE, next_run_at=due), due, LIMITS)


def test_a_run_by_hand_while_jitter_puts_it_off_does_not_take_its_place():
    routine = replace(planned(jitter_seconds=600), next_run_at=NINE + SECOND)
    due = due_at(routine, NINE)
    assert NINE + SECOND < due
    pending = Decision((), (), NINE, due)
    assert by_hand(pending, NINE + SECOND) == decide(routine, NINE + SECOND, LIMITS)

    since = replace(routine, next_run_at=due, last_run_at=NINE + SECOND)
    assert RUNS == decide(since, due, LIMITS)


instants = st.none() | st.datetimes(
    datetime(2026, 5, 5, 8), datetime(2026, 5, 5, 10), timezones=st.just(UTC)
)


@settings(deadline=None, database=None, max_examples=300)
@given(
    start=st.fixed_dictionaries(
        {
            "catch_up": st.sampled_from([CatchUp.LATEST, CatchUp.ALL]),
            "edited_at": instants,
            "jitter_seconds": st.sampled_from([0.0, 3600.0]),
        }
    ),
    steps=st.lists(
        st.tuples(
            st.integers(0, 3000),
            st.sampled_from(["claim", "off", "on", "edit", "order", "elsewhere"]),
        ),
        max_size=30,
    ),
)
def test_it_runs_exactly_once_whatever_people_do(start, steps):
    row, active, now = once(**start), True, NINE - HOUR
    ran: list[datetime] = []
    for seconds, what in [*steps, (7200, "on"), (0, "claim"), (0, "claim")]:
        now += seconds * SECOND
        if what == "order":
            row = replace(row, next_run_at=now)
        elif what == "edit":
            row = replace(row, next_run_at=None, edited_at=now)
        elif what == "off" and active:
            active, row = False, replace(row, next_run_at=None, edited_at=now, paused_at=now)
        elif what == "on" and not active:
            active, row = True, replace(row, next_run_at=None, edited_at=now)
        elif what == "claim" and active and (row.next_run_at is None or row.next_run_at <= now):
            decision = decide(row, now, LIMITS)
            ran += [o.scheduled_for for o in decision.occurrences if o.cause is not Cause.MANUAL]
            row = replace(
                row,
                occurrence_at=decision.occurrence_at,
                next_run_at=decision.next_run_at,
                last_run_at=now if decision.occurrences else row.last_run_at,
                ended_at=decision.ended_at or row.ended_at,
                paused_at=None,
            )
            active = not decision.over

    assert [NINE] == ran
