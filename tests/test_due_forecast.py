"""When a routine is going to be due, as far as that is known beforehand."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.due import forecast
from celery_sqlalchemy_kit.routines import Routine

NINE = datetime(2026, 5, 5, 9, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def routine(schedule=60, **fields) -> Routine:
    """Due at nine, and every minute from then on."""
    planned = {"next_run_at": NINE, "occurrence_at": NINE}
    return Routine(UUID(int=1), "poll", "tasks.poll", schedules.parse(schedule), **planned | fields)


def minutes(*numbers):
    return [NINE + number * MINUTE for number in numbers]


@pytest.mark.parametrize(
    ("routine", "present", "found"),
    [
        (routine(), NINE - SECOND, minutes(0, 1, 2, 3)),
        (routine(), NINE, minutes(0, 1, 2, 3)),
        (routine(), NINE + SECOND, minutes(0, 1, 2, 3)),
        # Overdue: of what lies between nobody knows which will run.
        (routine(), NINE + 90 * SECOND, minutes(0, 2, 3, 4)),
        (routine(), NINE + 3 * MINUTE, minutes(0, 4, 5, 6)),
        (
            routine(1),
            NINE + 8760 * HOUR,
            [NINE, *(NINE + 8760 * HOUR + n * SECOND for n in (1, 2, 3))],
        ),
        (routine("0 9 * * *"), NINE + 49 * HOUR, [NINE, *(NINE + n * HOUR for n in (72, 96, 120))]),
        (routine(max_runs=2), NINE, minutes(0, 1)),
        (routine(max_runs=2, total_run_count=1), NINE + HOUR, minutes(0)),
        (routine(max_runs=2, total_run_count=2), NINE, []),
        (routine(ends_at=NINE + 90 * SECOND), NINE, minutes(0, 1)),
        (routine(ends_at=NINE + 90 * SECOND), NINE + HOUR, minutes(0)),
        (routine(schedules.Once(NINE)), NINE - HOUR, minutes(0)),
        (routine(schedules.After(5)), NINE - HOUR, minutes(0)),
        # Ordered by hand: beside what is due by itself.
        (
            routine(next_run_at=NINE - 30 * SECOND),
            NINE - HOUR,
            [NINE - 30 * SECOND, *minutes(0, 1, 2)],
        ),
        (routine(next_run_at=None, occurrence_at=None), NINE, []),
    ],
)
def test_what_is_due_next(routine, present, found):
    assert found == forecast(routine, None, 4, present=present)


def test_what_is_still_to_be_planned_is_due_from_then_on():
    new = routine(next_run_at=None, occurrence_at=None)

    assert minutes(5, 6) == forecast(new, NINE + 5 * MINUTE, 2, present=NINE)


@given(st.integers(1, 100_000), st.integers(-100_000, 100_000), st.integers(0, 1000))
def test_what_is_due_is_in_order_up_to_the_bound(every, late, ahead):
    present = NINE + late * SECOND
    until = present + ahead * SECOND
    first, *found = forecast(routine(every), None, 50, present=present, until=until) or [None]

    assert first in (NINE if until >= NINE else None, None)
    assert sorted(found) == found
    assert all(max(NINE, present) < each <= until for each in found)
