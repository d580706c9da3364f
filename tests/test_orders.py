from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from celery_sqlalchemy_kit import ConflictError, NotFoundError, RoutineError
from celery_sqlalchemy_kit.client import Span
from celery_sqlalchemy_kit.routines import State

UTC = timezone.utc
DAY = timedelta(days=1)


@pytest.fixture
def scheduler(beat, routines):
    scheduler = beat()
    routines.create("report", "reports.build", 3600, kwargs={"full": True})
    scheduler.run()
    return scheduler


def test_an_order_runs_now_with_what_was_said_and_leaves_the_rhythm_alone(
    scheduler, routines, clock
):
    before = routines.get("report")
    key = routines.run_now("report", kwargs={"full": False}, options={"queue": "fast"}, note="why")

    (run,) = scheduler.run()
    assert (run.id, run.cause.value) == (key, "manual")
    assert (run.kwargs, run.options) == ({"full": False}, {"queue": "fast"})
    after = routines.get("report")
    assert (after.next_run_at, after.total_run_count) == (before.next_run_at, 0)
    assert after.last_run_at >= before.created_at - DAY
    scheduler.loop.turn()
    assert routines.run(key).state == "sent"
    assert routines.changes("report")[0].note == "why"
    assert scheduler.run() == []


def test_an_order_is_carried_out_though_its_routine_is_off_or_removed(scheduler, routines):
    routines.disable("report")
    first = routines.run_now("report")
    second = routines.run_now("report")
    routines.delete("report")

    assert {first, second} == {run.id for run in scheduler.run()}


def test_an_order_heeds_overlap(scheduler, routines, clock):
    routines.update("report", overlap="queue")
    first, second = routines.run_now("report"), routines.run_now("report")
    with pytest.raises(ConflictError, match="overlap = queue, and one waits already"):
        routines.run_now("report")
    (run,) = scheduler.run()
    assert (run.id, routines.run(second).state) == (first, "waiting")

    scheduler.finish(run)
    clock.advance(1)
    assert [second] == [run.id for run in scheduler.run()]

    routines.update("report", overlap="skip")
    with pytest.raises(ConflictError, match="overlap = skip, and the run before it is unfinished"):
        routines.run_now("report")


def test_what_cannot_be_sent_is_no_order(scheduler, routines):
    with pytest.raises(NotFoundError):
        routines.run_now("nobody")
    with pytest.raises(RoutineError, match="kwargs = "):
        routines.run_now("report", kwargs=[1])
    with pytest.raises(RoutineError, match="task_id cannot be set"):
        routines.run_now("report", options={"task_id": "x"})
    assert scheduler.run() == []


def test_an_order_in_a_transaction_that_is_rolled_back_never_was(scheduler, routines):
    scheduler.engine.dispose()
    with scheduler.engine.connect() as connection:
        transaction = connection.begin()
        routines.run_now("report", connection=connection)
        transaction.rollback()

    assert scheduler.run() == []


def test_a_backfill_runs_occurrences_that_have_been_in_their_phase(scheduler, routines, clock):
    first = routines.get("report").next_run_at
    span = Span(first - 5 * timedelta(hours=1), first - timedelta(seconds=1))
    wanted = tuple(first - n * timedelta(hours=1) for n in (5, 4, 3, 2, 1))
    assert routines.backfill("report", span, dry_run=True).occurrences == wanted
    assert scheduler.run() == []

    filled = routines.backfill("report", span, note="lost week")
    clock.advance(1)
    runs = scheduler.run()

    assert wanted == tuple(run.scheduled_for for run in runs)
    assert filled.run_ids == tuple(run.id for run in runs)
    assert {"backfill"} == {run.cause.value for run in runs}
    assert routines.get("report").total_run_count == 0
    assert routines.changes("report")[0].changes["occurrences"] == (None, 5)


def test_what_has_run_is_left_out_of_a_backfill_unless_it_is_to_run_again(
    scheduler, routines, clock
):
    first = routines.get("report").next_run_at
    span = {"since": first - 2 * timedelta(hours=1), "until": first - timedelta(seconds=1)}
    routines.backfill("report", Span(**span))
    clock.advance(1)
    done, failed = scheduler.run()
    scheduler.finish(done)
    scheduler.finish(failed, State.FAILED)

    again = routines.backfill("report", Span(**span), dry_run=True)
    assert (again.occurrences, again.left_out) == ((failed.scheduled_for,), 1)
    assert len(routines.backfill("report", Span(**span, again=True), dry_run=True).occurrences) == 2


def test_a_backfill_is_spread_over_time(scheduler, routines, clock):
    first = routines.get("report").next_run_at
    span = Span(first - 4 * timedelta(hours=1), first - timedelta(seconds=1), per_second=0.5)
    routines.backfill("report", span)

    # By the clock: at once, and two, four and six seconds later.
    begun = [len(scheduler.run()) for _ in range(7) if clock.advance(1)]
    assert begun == [1, 1, 0, 1, 0, 1, 0]


def test_a_backfill_of_what_does_not_overlap_runs_one_after_the_other(scheduler, routines, clock):
    routines.update("report", overlap="skip")
    first = routines.get("report").next_run_at
    routines.backfill("report", Span(first - 3 * timedelta(hours=1), first - timedelta(seconds=1)))

    seen = []
    for _ in range(3):
        clock.advance(1)
        (run,) = scheduler.run()
        seen.append(run.scheduled_for)
        scheduler.finish(run)
    assert seen == [first - n * timedelta(hours=1) for n in (3, 2, 1)]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_backfill_has_bounds(routines, scheduler, clock):
    span = {"since": clock.now() - 10 * DAY, "until": clock.now()}
    with pytest.raises(RoutineError, match="more than 100 occurrences"):
        routines.backfill("report", Span(**span, limit=100))
    with pytest.raises(RoutineError, match="per_second = 0"):
        Span(**span, per_second=0)
    with pytest.raises(RoutineError, match=r"since = .*with a time zone"):
        Span(datetime(2026, 1, 1), clock.now())
    routines.create("later", "t", {"after": 5})
    with pytest.raises(RoutineError, match="a backfill needs a schedule that recurs"):
        routines.backfill("later", Span(**span))
    assert routines.backfill("report", Span(clock.now(), clock.now())).occurrences == ()
