"""What a claim does with one routine."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.due import Decision, Limits, Missed, Occurrence, decide
from celery_sqlalchemy_kit.routines import Cause, Overlap, Routine, State, run_id
from celery_sqlalchemy_kit.steps import Step, Unfinished, step_of

NINE = datetime(2026, 12, 1, 9, tzinfo=UTC)
TEN = timedelta(seconds=10)
ROUTINE = Routine(
    UUID(int=1),
    "r",
    "task",
    schedules.parse(TEN),
    args=(1,),
    kwargs={"a": 2},
    options={"queue": "q"},
    next_run_at=NINE,
    occurrence_at=NINE,
)
FREE = Unfinished()
BUSY = Unfinished(begun=UUID(int=7))


def step(routine=ROUTINE, now=NINE, met=FREE, by=None) -> Step:
    return step_of(routine, by or (lambda *of: decide(*of, Limits())), now, met)


def decides(*occurrences, missed=(), **more):
    decision = Decision(occurrences, tuple(missed), NINE + TEN, NINE + TEN)
    return lambda *_: replace(decision, **more)


def test_what_is_due_runs_with_what_its_routine_sends():
    taken = step()

    (run,) = taken.runs
    assert (run_id(ROUTINE.id, NINE), NINE, Cause.SCHEDULE) == (
        run.id,
        run.scheduled_for,
        run.cause,
    )
    assert ("task", (1,), {"a": 2}, {"queue": "q"}) == (run.task, run.args, run.kwargs, run.options)
    assert (NINE + TEN, NINE + TEN) == (taken.occurrence_at, taken.next_run_at)
    assert (NINE, 1, False) == (taken.last_run_at, taken.total_run_count, taken.over)


def test_an_order_by_hand_has_an_id_of_its_own_and_does_not_count():
    by_hand = decides(Occurrence(NINE, Cause.MANUAL))

    first, second = step(by=by_hand), step(by=by_hand)

    assert first.runs[0].id != second.runs[0].id
    assert (NINE, 0) == (first.last_run_at, first.total_run_count)


def test_what_does_not_run_is_one_record_and_no_run():
    taken = step(by=decides(missed=[Missed(NINE - TEN, NINE, 2, "late")]))

    (record,) = taken.records
    assert (State.MISSED, "late", 2, NINE) == (
        record.state,
        record.reason,
        record.count,
        record.until,
    )
    assert ((), None, None, 0) == (
        taken.runs,
        taken.waits,
        taken.last_run_at,
        taken.total_run_count,
    )


@pytest.mark.parametrize(
    ("overlap", "met", "state"),
    [
        (Overlap.ALLOW, BUSY, "runs"),
        (Overlap.SKIP, FREE, "runs"),
        (Overlap.SKIP, BUSY, "skipped"),
        (Overlap.QUEUE, BUSY, "waits"),
        (Overlap.QUEUE, replace(BUSY, waiting=UUID(int=8)), "skipped"),
        (Overlap.QUEUE, Unfinished(waiting=UUID(int=8)), "skipped"),
    ],
)
def test_an_occurrence_that_meets_an_unfinished_run_is_settled(overlap, met, state):
    taken = step(replace(ROUTINE, overlap=overlap), met=met)

    found = {"runs": taken.runs, "waits": taken.waits, "skipped": taken.records}
    assert [state] == [name for name, what in found.items() if what]
    assert (state != "skipped") == (taken.total_run_count == 1)


def test_what_is_skipped_takes_no_place_of_those_that_max_runs_leaves():
    last = replace(ROUTINE, overlap=Overlap.SKIP, max_runs=1)

    skipped, ran = step(last, met=BUSY), step(last)

    assert (False, NINE + TEN) == (skipped.over, skipped.next_run_at)
    assert (True, None, None) == (ran.over, ran.next_run_at, ran.occurrence_at)


def test_a_routine_that_waits_for_the_end_of_its_run_is_told_which():
    after = replace(ROUTINE, schedule=schedules.parse({"after": 5}))

    assert step(after).runs[0].id == step(after).waiting_for
    met = replace(after, overlap=Overlap.SKIP)
    assert BUSY.begun == step(met, met=BUSY).waiting_for
    ordered = replace(after, next_run_at=NINE, occurrence_at=NINE - TEN, waiting_for=uuid4())
    assert ordered.waiting_for == step(ordered).waiting_for


def test_a_one_off_that_has_happened_is_spent():
    once = replace(ROUTINE, schedule=schedules.parse({"once": NINE.isoformat()}))

    assert (True, False) == (step(once).over, step(once).spent)
    assert step(replace(once, one_off=True)).spent
