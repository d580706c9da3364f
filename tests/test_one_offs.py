from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import ConflictError, NotFoundError, RoutineError
from celery_sqlalchemy_kit.client import OneOff, Wanted
from celery_sqlalchemy_kit.routines import State, run_id
from celery_sqlalchemy_kit.store import one_offs
from celery_sqlalchemy_kit.tables import runs
from celery_sqlalchemy_kit.testing import ManualBeat

UTC = timezone.utc
PENDING = Wanted(one_offs=None)


@pytest.fixture
def scheduler(beat):
    return beat()


def test_a_task_runs_once_at_its_instant_to_the_millisecond(scheduler, routines, clock):
    at = clock.now() + timedelta(days=13.5, seconds=29.5, milliseconds=1)
    key = routines.once("remind", ["ada"], {"by": "mail"}, at=at, options={"queue": "mails"})

    clock.set(at - timedelta(milliseconds=1))
    assert scheduler.run() == []
    clock.set(at)
    (run,) = scheduler.run()

    assert (run.task, run.args, run.kwargs) == ("remind", ("ada",), {"by": "mail"})
    assert (run.options, run.scheduled_for) == ({"queue": "mails"}, at)
    assert run.id == run_id(key, at)
    clock.advance(timedelta(days=400))
    assert scheduler.run() == []


def test_what_has_run_leaves_the_table_for_the_history(scheduler, routines, clock):
    key = routines.once("remind", in_=1.5, name="remind ada")
    assert routines.get(key) == routines.get("remind ada")
    clock.advance(2)
    (run,) = scheduler.run()
    scheduler.finish(run)

    with pytest.raises(NotFoundError):
        routines.get(key)
    assert routines.list(PENDING) == []
    (told,) = routines.history(key)
    assert (told.id, told.state, told.cause) == (run.id, "succeeded", "once")
    assert (told.routine_name, told.routine_id) == ("remind ada", key)


def test_what_is_in_the_history_already_leaves_the_table_and_does_not_run(
    scheduler, routines, clock
):
    at = clock.now() + timedelta(seconds=1)
    key = routines.once("remind", at=at)
    there = {"id": run_id(key, at), "routine_id": key, "routine_name": "r", "task": "remind"}
    there |= {"scheduled_for": at, "cause": "once", "state": "succeeded", "namespace": ""}
    with scheduler.engine.begin() as connection:
        connection.execute(runs.insert(), there)

    clock.set(at)
    assert scheduler.run() == []
    assert routines.list(PENDING) == []
    assert ["succeeded"] == [run.state for run in routines.history(key)]


def test_without_an_instant_it_runs_now_however_late_that_is(scheduler, routines, clock):
    routines.once("send")

    clock.advance(timedelta(days=3))
    assert ["send"] == [run.task for run in scheduler.run()]


@pytest.mark.parametrize("when", ["rolled back", "committed"])
def test_it_is_there_if_and_only_if_the_callers_transaction_is_committed(
    scheduler, routines, clock, when
):
    orders = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    orders.create(scheduler.engine)
    scheduler.engine.dispose()
    with scheduler.engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(orders.insert().values(id=1))
        key = routines.once("confirm", connection=connection)
        assert routines.get(key, connection=connection).task == "confirm"
        (transaction.rollback if when == "rolled back" else transaction.commit)()

    clock.advance(1)
    assert len(scheduler.run()) == (when == "committed")


def test_many_are_made_at_once_and_each_runs_once(scheduler, routines, clock, monkeypatch):
    monkeypatch.setattr(one_offs, "PAGE", 300)
    keys = routines.once_all(OneOff("t", (n,), in_=n / 1000) for n in range(1000))

    clock.advance(2)
    runs = scheduler.run()

    assert len(set(keys)) == 1000
    assert [(n,) for n in range(1000)] == [run.args for run in runs]
    assert keys == [run.routine_id for run in runs]
    assert routines.list(PENDING) == []


def test_what_was_put_off_runs_then_and_not_before(scheduler, routines, clock):
    key = routines.once("t", in_=5)
    then = routines.reschedule(key, in_=timedelta(seconds=60), note="later")

    clock.advance(59)
    assert scheduler.run() == []
    clock.set(then)
    assert [then] == [run.scheduled_for for run in scheduler.run()]
    with pytest.raises(ConflictError, match="its run is sent"):
        routines.reschedule(key, in_=5)
    (change,) = routines.changes()
    assert (change.action, change.note, change.routine_id) == ("reschedule", "later", key)


def test_what_was_brought_forward_runs_at_once(scheduler, routines, clock):
    key = routines.once("t", in_=timedelta(days=1))
    scheduler.run()
    routines.reschedule(key, at=clock.now())

    clock.advance(0.001)
    assert [key] == [run.routine_id for run in scheduler.run()]


def test_what_was_cancelled_never_runs_and_the_history_says_so(scheduler, routines, clock):
    key = routines.once("t", in_=5, name="spare")

    assert routines.cancel(key, note="not needed")

    clock.advance(6)
    assert scheduler.run() == []
    (run,) = routines.history(key)
    assert (run.state, run.reason, run.attempts) == ("skipped", "cancelled", 0)
    assert routines.cancel(key) is False
    (change,) = routines.changes("spare")
    assert (change.action, change.note) == ("cancel", "not needed")
    routines.once("t", name="spare")


def test_what_was_sent_may_be_cancelled_until_it_begins(scheduler, routines, clock):
    early, late = routines.once("t"), routines.once("t")
    clock.advance(1)
    runs = {run.routine_id: run for run in scheduler.run()}
    scheduler.loop.turn()

    assert routines.cancel(early)
    assert not scheduler.finish(runs[early])
    assert scheduler.finish(runs[late])
    assert not routines.cancel(late)
    states = [routines.history(key)[0].state for key in (early, late)]
    assert states == ["skipped", "succeeded"]


def test_nobodys_and_a_routines_id_are_no_one_offs(scheduler, routines, clock):
    routine = routines.create("report", "t", 5)
    scheduler.run()
    clock.set(routines.get("report").next_run_at)
    scheduler.run()

    for key in (routine.id, uuid4()):
        with pytest.raises(NotFoundError, match="there is no one-off"):
            routines.cancel(key)
        with pytest.raises(NotFoundError, match="there is no one-off"):
            routines.reschedule(key, in_=5)
    assert routines.get("report").active


def test_a_name_that_is_taken_is_refused(scheduler, routines):
    routines.once("t", in_=60, name="a")

    with pytest.raises(ConflictError):
        routines.once("t", in_=60, name="a")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"at": datetime(2026, 1, 1)}, "datetime with a time zone"),
        ({"at": "tomorrow"}, "datetime with a time zone"),
        ({"in_": "5"}, "a number of seconds"),
        ({"in_": float("inf")}, "a number of seconds"),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC), "in_": 5}, "exclude each other"),
        ({"args": "abc"}, "allowed is a list"),
        ({"kwargs": {"a": object()}}, "is no JSON"),
        ({"options": {"producer": 1}}, "producer cannot be set"),
        ({"name": "x" * 256}, "allowed is a text of 1 to 255 characters"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_cannot_be_sent_is_refused(routines, scheduler, said, told):
    with pytest.raises(RoutineError, match=told):
        routines.once("t", **said)
    with pytest.raises(RoutineError, match="task = "):
        routines.once("")
    with pytest.raises(RoutineError, match="at or in_ is needed"):
        routines.reschedule(uuid4())
    assert routines.list(PENDING) == []


def test_a_run_whose_scheduler_dies_is_sent_by_another_though_its_row_is_gone(
    beat, routines, clock
):
    dying, other = beat(), beat()
    routines.once("t")
    clock.advance(1)
    dying.publisher.publish = lambda *_, **__: []  # killed between COMMIT and message
    dying.run()
    dying.kill()

    clock.advance(15)
    assert ["t"] == [run.task for run in other.run()]


def test_sql_makes_one_offs_as_well(scheduler, routines, clock):
    with scheduler.engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO routines (name, task, schedule, origin) "
                "VALUES ('a', 't', '{\"once\": \"2020-01-01T00:00:00Z\"}', 'once')"
            )
        )

    assert ["t"] == [run.task for run in scheduler.run()]
    assert routines.list(PENDING) == []


def test_one_that_is_missed_by_its_policy_leaves_the_table_too(scheduler, routines, clock):
    key = routines.once("t", in_=5)
    routines.update(key, catch_up="skip")
    clock.advance(3600)

    assert scheduler.run() == []
    assert routines.list(PENDING) == []
    (run,) = routines.history(key)
    assert (run.state, run.reason) == ("missed", "late: catch_up = skip")


def test_cancelling_and_claiming_at_once_leaves_one_winner(database, clock, routines, beat):
    """Many times over, with a scheduler and somebody who cancels, each on a thread."""
    beat()
    keys = routines.once_all(OneOff("t") for _ in range(30))
    clock.advance(1)
    schedulers = [ManualBeat(database, clock) for _ in range(2)]
    cancelled = {}

    def cancel():
        for key in keys:
            cancelled[key] = routines.cancel(key)

    def claim(scheduler):
        while scheduler.run():
            pass

    threads = [threading.Thread(target=cancel)]
    threads += [threading.Thread(target=claim, args=[each]) for each in schedulers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sent = [run.routine_id for each in schedulers for run in each.publisher.sent]
    for each in schedulers:
        each.loop.turn()
        each.engine.dispose()

    assert len(sent) == len(set(sent))
    for key in keys:
        (run,) = routines.history(key)
        assert (cancelled[key], run.state) == (True, State.SKIPPED.value)
