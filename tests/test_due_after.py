"""What becomes of a routine that runs a delay after its run before has ended."""

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
from celery_sqlalchemy_kit.schedules import After

NINE = datetime(2026, 5, 5, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
LIMITS = Limits()
RUN = UUID(int=7)
OVER = Decision((), (), None, None, over=True)


def after(**fields) -> Routine:
    """Five seconds after, written at nine."""
    fields = {"edited_at": NINE} | fields
    return Routine(UUID(int=1), "drain", "tasks.drain", After(5), **fields)


def pending(at: datetime, **fields) -> Routine:
    routine = after(occurrence_at=at, **fields)
    return replace(routine, next_run_at=due_at(routine, at))


def to_come(at: datetime) -> Decision:
    return Decision((), (), at, at)


def runs(at: datetime, cause: Cause = Cause.SCHEDULE) -> Decision:
    """It runs, and then its end is waited for."""
    return Decision((Occurrence(at, cause),), (), at, None, waits=True)


def last_run(at: datetime) -> Decision:
    return replace(OVER, occurrences=(Occurrence(at, Cause.SCHEDULE),))


@pytest.mark.parametrize(
    ("routine", "now", "decision"),
    [
        # The first is at once, or at the start.
        (after(), NINE + SECOND, to_come(NINE)),
        (after(starts_at=NINE + HOUR), NINE, to_come(NINE + HOUR)),
        (after(starts_at=NINE - HOUR), NINE, to_come(NINE)),
        (pending(NINE), NINE, runs(NINE)),
        # The end of the run decides, not when it was seen.
        (after(ended_at=NINE + HOUR), NINE + HOUR, to_come(NINE + HOUR + 5 * SECOND)),
        (after(ended_at=NINE + HOUR), NINE + 2 * HOUR, to_come(NINE + HOUR + 5 * SECOND)),
        # What was pending before an edit is the same after it; switched on again it is at once.
        (after(edited_at=NINE + SECOND, ended_at=NINE), NINE + HOUR, to_come(NINE + 5 * SECOND)),
        (after(edited_at=NINE + HOUR, ended_at=NINE), NINE + HOUR, to_come(NINE + HOUR)),
        # Claimed, and then somebody stopped the waiting.
        (after(occurrence_at=NINE, last_run_at=NINE), NINE + HOUR, to_come(NINE + HOUR)),
        # Written with next_run_at: the first is then, and no second one at once.
        (after(next_run_at=NINE + HOUR), NINE + HOUR, runs(NINE + HOUR)),
        (after(next_run_at=NINE + HOUR, jitter_seconds=4.0), NINE + HOUR, runs(NINE + HOUR)),
        # Late.
        (pending(NINE), NINE + 60 * SECOND, runs(NINE)),
        (pending(NINE), NINE + HOUR, runs(NINE, Cause.CATCH_UP)),
        (pending(NINE, catch_up=CatchUp.ALL), NINE + HOUR, runs(NINE, Cause.CATCH_UP)),
        (
            pending(NINE, catch_up=CatchUp.SKIP),
            NINE + HOUR,
            replace(
                to_come(NINE + HOUR + 5 * SECOND),
                missed=(Missed(NINE, NINE, 1, "late: catch_up = skip"),),
                ended_at=NINE + HOUR,
            ),
        ),
        # By hand: what is pending, or waited for, stays.
        (
            after(occurrence_at=NINE + HOUR, ended_at=NINE + HOUR - 5 * SECOND),
            NINE,
            to_come(NINE + HOUR),
        ),
        (
            after(next_run_at=NINE, ended_at=NINE + HOUR),
            NINE,
            replace(
                to_come(NINE + HOUR + 5 * SECOND), occurrences=(Occurrence(NINE, Cause.MANUAL),)
            ),
        ),
        (
            after(next_run_at=NINE + SECOND, occurrence_at=NINE, waiting_for=RUN),
            NINE + SECOND,
            Decision(
                (Occurrence(NINE + SECOND, Cause.MANUAL),), (), NINE, None, waits=True
            ),
        ),
        # Bounds.
        (after(max_runs=2, total_run_count=2), NINE, OVER),
        (pending(NINE, max_runs=2, total_run_count=2), NINE, OVER),
        (pending(NINE, max_runs=2, total_run_count=1), NINE, last_run(NINE)),
        (pending(NINE, max_runs=2), NINE, runs(NINE)),
        (after(ends_at=NINE + SECOND, ended_at=NINE), NINE, OVER),
        (after(ends_at=NINE + 5 * SECOND, ended_at=NINE), NINE, to_come(NINE + 5 * SECOND)),
        (after(ended_at=datetime.max.replace(tzinfo=UTC)), NINE, OVER),
    ],
)  # fmt: skip
def test_decided(routine, now, decision):
    assert decision == decide(routine, now, LIMITS)


@settings(deadline=None, database=None, max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.sampled_from(["claim", "end", "off", "on", "edit", "order"]),
        ),
        max_size=40,
    ),
    st.sampled_from(CatchUp),
)
def test_one_run_at_a_time_none_before_its_delay_and_it_never_stalls(steps, catch_up):
    row, active, now = after(catch_up=catch_up), True, NINE
    out, ended, ran = False, None, []
    on_again = [(0, "on"), (0, "end"), (10, "claim"), (10, "claim")]
    for seconds, what in [*steps, *on_again, (10, "claim")]:
        now += timedelta(seconds=seconds)
        if what == "end" and out:
            out, ended = False, now
            row = replace(row, waiting_for=None, ended_at=now)
        elif what == "order":
            row = replace(row, next_run_at=now)
        elif what == "edit":
            row = replace(row, next_run_at=None, edited_at=now)
        elif what == "off" and active:
            active, row = False, replace(row, next_run_at=None, edited_at=now, paused_at=now)
        elif what == "on" and not active:
            active, row = True, replace(row, next_run_at=None, edited_at=now)
        elif what == "claim" and active:
            to_plan = row.next_run_at is None and row.waiting_for is None
            if not to_plan and (row.next_run_at is None or row.next_run_at > now):
                continue
            decision = decide(row, now, LIMITS)
            scheduled = [o for o in decision.occurrences if o.cause is not Cause.MANUAL]
            if scheduled:
                assert not out
                assert ended is None or scheduled[0].scheduled_for >= ended + 5 * SECOND
                out = True
                ran.append(now)
            waits = (RUN if scheduled else row.waiting_for) if decision.waits else None
            assert out == (waits is not None)
            row = replace(
                row,
                occurrence_at=decision.occurrence_at,
                next_run_at=decision.next_run_at,
                waiting_for=waits,
                ended_at=decision.ended_at or row.ended_at,
                paused_at=None,
            )

    assert ran
    assert out or row.next_run_at is not None
