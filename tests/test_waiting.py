"""Routines that run a delay after the end of their last run, and once: on real databases."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import After, Once
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.columns import raw
from celery_sqlalchemy_kit.routines import Cause, Declared, State
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import Begun, Ledger
from celery_sqlalchemy_kit.tables import routines, runs
from celery_sqlalchemy_kit.testing import ManualBeat

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def beat(beat):
    """Declares ``drain`` with the schedule that is given."""

    def make(schedule=None, **settings):
        declared = [] if schedule is None else [Declared("drain", "tasks.drain", schedule)]
        return beat(*declared, **settings)

    return make


def sql(beat, statement, **values):
    """What a person types. Triggers keep the database's clock: ours must not stay behind it."""
    with beat.engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    beat.clock.set(max(beat.clock.now(), datetime.now(UTC)))


def row(beat):
    with beat.engine.connect().execution_options(reading=True) as connection:
        return connection.execute(sa.select(routines)).mappings().one()


def kept_schedule(beat):
    with beat.engine.connect().execution_options(reading=True) as connection:
        return json.loads(connection.execute(sa.select(raw(routines.c.schedule))).scalar_one())


def states(beat):
    with beat.engine.connect().execution_options(reading=True) as connection:
        chosen = sa.select(runs.c.state).order_by(runs.c.scheduled_for)
        return connection.execute(chosen).scalars().all()


def test_the_first_run_is_at_once_and_the_next_a_delay_after_its_end(beat, clock):
    drain = beat(After(5))
    (first,) = drain.run()

    assert first.id == row(drain)["waiting_for"]
    assert [] == drain.advance(100)

    assert drain.finish(first)
    ended = clock.now()
    assert [] == drain.advance(4.9)
    (second,) = drain.advance(0.2)
    assert ended + 5 * SECOND == second.scheduled_for
    assert first.id != second.id
    assert (2, Cause.SCHEDULE) == (row(drain)["total_run_count"], second.cause)


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED])
def test_however_the_run_ends_the_next_is_planned(beat, end):
    drain = beat(After(5))
    (run,) = drain.run()
    drain.finish(run, end)

    assert 1 == len(drain.advance(6))


@pytest.mark.parametrize("end", ["lost", "missed", "skipped"])
def test_whoever_ends_the_run_the_next_is_planned(beat, end):
    drain = beat(After(5))
    drain.run()
    sql(drain, "UPDATE routine_runs SET state = :end", end=end)

    assert 1 == len(drain.advance(6))


def test_a_retry_or_a_message_that_was_put_back_is_no_end(beat):
    drain = beat(After(5))
    (run,) = drain.run()
    for end in (State.RETRYING, State.SENT):
        drain.finish(run, end)
        assert [] == drain.advance(60)


def test_a_run_that_is_gone_is_waited_for_no_longer_than_to_the_next_heartbeat(beat):
    drain = beat(After(5))
    drain.run()
    sql(drain, "DELETE FROM routine_runs")

    assert 1 == len(drain.advance(16))


def test_the_waiting_can_be_stopped_by_hand(beat, clock):
    drain = beat(After(5))
    drain.run()
    for _ in range(2):
        clock.advance(60)
        sql(drain, "UPDATE routines SET waiting_for = NULL")

        assert [clock.now()] == [run.scheduled_for for run in drain.run()]


def test_an_end_that_no_trigger_saw_is_found_by_the_next_heartbeat(beat, clock):
    drain = beat(After(5))
    (run,) = drain.run()
    drain.finish(run)
    ended = clock.now()
    # As if it had come where there are no triggers.
    with drain.engine.begin() as connection:
        values = {"waiting_for": run.id, "ended_at": None}
        connection.execute(routines.update().values(values))

    assert [ended + 5 * SECOND] == [each.scheduled_for for each in drain.advance(16)]


def test_a_run_that_could_not_be_published_is_tried_again_and_once_missed_lets_go(beat):
    drain = beat(After(5))
    drain.publisher.fails.add("tasks.drain")
    drain.advance(60)
    assert ["missed"] == states(drain)[:1]
    drain.publisher.fails.clear()

    assert 1 == len(drain.advance(60))


def test_a_stranded_run_of_a_routine_that_waits_for_it_is_published(beat, clock):
    """However late: its own occurrence is not the one after it."""
    first = beat(After(5))
    first.publisher.away = True
    first.store.claim(lambda routine, now: first.loop._decide(_Streak(), routine, now), limit=10)
    first.store.claim(lambda routine, now: first.loop._decide(_Streak(), routine, now), limit=10)
    first.kill()
    clock.advance(120)

    second = beat(After(5))
    (run,) = second.run()

    assert run.id == row(second)["waiting_for"]


class _Streak:
    since = None


def test_switched_off_while_it_waits_it_does_not_run_and_on_again_it_runs_at_once(beat, clock):
    drain = beat(After(5))
    (run,) = drain.run()
    sql(drain, "UPDATE routines SET active = :off", off=False)
    drain.finish(run)
    assert [] == drain.advance(60)
    sql(drain, "UPDATE routines SET active = :on", on=True)
    with drain.engine.begin() as connection:
        connection.execute(routines.update().values(edited_at=clock.now()))
    switched_on = clock.now()

    (again,) = drain.run()

    assert switched_on == again.scheduled_for


def test_switched_off_and_on_while_it_waits_it_goes_on_waiting(beat):
    drain = beat(After(5))
    (run,) = drain.run()
    sql(drain, "UPDATE routines SET active = :off", off=False)
    drain.advance(1)
    sql(drain, "UPDATE routines SET active = :on", on=True)

    assert [] == drain.advance(60)
    drain.finish(run)
    assert 1 == len(drain.advance(6))


def test_another_delay_holds_from_the_end_of_the_run_that_is_out(beat, clock):
    drain = beat(After(5))
    (run,) = drain.run()
    sql(drain, "UPDATE routines SET schedule = :schedule", schedule='{"after": 60}')
    assert [] == drain.advance(300)
    drain.finish(run)
    ended = clock.now()

    (second,) = drain.advance(61)

    assert ended + 60 * SECOND == second.scheduled_for


def test_a_schedule_of_another_kind_waits_for_nothing(beat):
    drain = beat(After(3600))
    drain.run()
    sql(drain, "UPDATE routines SET schedule = :schedule", schedule='{"timedelta": 10}')

    assert 2 == len(drain.advance(25))
    assert row(drain)["waiting_for"] is None


def test_an_order_by_hand_is_carried_out_while_it_waits_and_goes_on_waiting(beat, clock):
    drain = beat(After(5))
    (run,) = drain.run()
    with drain.engine.begin() as connection:
        connection.execute(routines.update().values(next_run_at=clock.now()))

    (ordered,) = drain.advance(60)
    assert Cause.MANUAL == ordered.cause
    drain.finish(ordered)
    assert [] == drain.advance(60)
    drain.finish(run)
    assert 1 == len(drain.advance(6))


def test_max_runs_ends_it(beat):
    drain = beat(After(5))
    sql(drain, "UPDATE routines SET max_runs = 2")
    for _ in range(2):
        (run,) = drain.advance(6)
        drain.finish(run)

    assert [] == drain.advance(60)
    assert (False, None) == (bool(row(drain)["active"]), row(drain)["waiting_for"])


@pytest.fixture
def ledger_only(postgresql):
    """A user who has rights on the runs alone."""
    admin, user = make_engine(postgresql), f"u{uuid4().hex[:20]}"
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {user} LOGIN")
        connection.exec_driver_sql(
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT, UPDATE ON TABLES TO {user}"
        )
    yield user
    with admin.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {user}")
        connection.exec_driver_sql(f"DROP ROLE {user}")


def test_the_end_of_a_run_needs_no_rights_on_the_routines(postgresql, clock, ledger_only):
    drain = ManualBeat(postgresql, clock, [Declared("drain", "tasks.drain", After(5))])
    drain.start()
    with drain.engine.begin() as connection:
        connection.exec_driver_sql(f"REVOKE ALL ON routines FROM {ledger_only}")
    (run,) = drain.run()
    worker = make_engine(postgresql.set(username=ledger_only))
    ledger, attempt_id = Ledger(worker, clock), uuid4()
    assert Begun.BEGUN is ledger.begin(run.id, attempt_id, retries=0, worker="w")
    assert ledger.end(run.id, attempt_id, State.SUCCEEDED)

    assert 1 == len(drain.advance(16))


def insert(beat, schedule, **more):
    values = {"name": "one", "task": "tasks.one", "schedule": json.dumps(schedule)} | more
    with beat.engine.begin() as connection:
        connection.execute(routines.insert().values(values))
    beat.clock.set(max(beat.clock.now(), datetime.now(UTC)))


def test_once_runs_at_its_time_and_turns_inactive(beat, clock):
    one = beat(Once(clock.now() + 30 * SECOND))
    assert [] == one.advance(29)

    (run,) = one.advance(2)

    assert run.scheduled_for == row(one)["occurrence_at"]
    assert not row(one)["active"]
    assert [] == one.advance(100)


@pytest.mark.parametrize("age", [timedelta(0), HOUR, timedelta(days=3650)])
def test_once_in_the_past_runs_at_once_whatever_its_age(beat, clock, age):
    one = beat()
    insert(one, {"once": (clock.now() - age).isoformat()})

    assert 1 == len(one.run())
    assert [] == one.advance(100)


def test_once_that_is_not_to_be_caught_up_is_missed_when_it_is_too_late(beat, clock):
    one = beat()
    insert(one, {"once": (clock.now() - HOUR).isoformat()}, catch_up="skip")

    assert [] == one.run()
    assert ["missed"] == states(one)
    assert not row(one)["active"]


def test_a_spent_one_does_nothing_when_switched_on_and_runs_at_another_time(beat, clock):
    one = beat()
    at = clock.now() - HOUR
    insert(one, {"once": at.isoformat()})
    one.run()
    sql(one, "UPDATE routines SET active = :on", on=True)
    assert [] == one.advance(60)
    assert not row(one)["active"]

    # In the past as well, and before the last run.
    another = {"once": (at + SECOND).isoformat()}
    sql(
        one,
        "UPDATE routines SET active = :on, schedule = :schedule",
        on=True,
        schedule=json.dumps(another),
    )

    (run,) = one.advance(1)
    assert at + SECOND == run.scheduled_for


def test_once_left_unpublished_by_a_killed_scheduler_is_published(beat, clock):
    first = beat(Once(clock.now()))
    first.store.claim(lambda routine, now: first.loop._decide(_Streak(), routine, now), limit=10)
    first.kill()
    clock.advance(11)

    assert 1 == len(beat(Once(clock.now() - 11 * SECOND)).run())


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ({"every": 30, "period": "seconds"}, {"timedelta": 30}),
        ({"period": "minutes", "every": 0.5}, {"timedelta": 30}),
    ],
)
def test_the_form_of_other_schedulers_is_kept_in_ours_and_runs(beat, clock, written, kept):
    one = beat()
    insert(one, written)
    one.run()

    assert kept == kept_schedule(one)
    assert row(one)["next_run_at"] is not None
    assert 3 == len(one.advance(91))


def test_a_schedule_in_the_form_of_others_that_is_edited_again_is_obeyed(beat):
    one = beat()
    insert(one, {"timedelta": 3600})
    one.run()
    sql(
        one,
        "UPDATE routines SET schedule = :schedule",
        schedule='{"every": 1, "period": "minutes"}',
    )

    assert 2 == len(one.advance(125))
    assert {"timedelta": 60} == kept_schedule(one)


def test_a_run_by_hand_while_jitter_puts_it_off_does_not_take_its_place(beat, clock):
    one = beat()
    at = clock.now() + 10 * SECOND
    insert(one, {"once": at.isoformat()}, jitter=3600)
    one.run()
    due = row(one)["next_run_at"]
    clock.set(at + (due - at) / 2)
    with one.engine.begin() as connection:
        connection.execute(routines.update().values(next_run_at=clock.now()))

    (ordered,) = one.run()
    (run,) = one.advance(due - clock.now() + SECOND)

    assert (Cause.MANUAL, at) == (ordered.cause, run.scheduled_for)


def test_a_missed_one_is_missed_once_however_often_it_is_switched_on(beat, clock):
    one = beat()
    insert(one, {"once": (clock.now() - HOUR).isoformat()}, catch_up="skip")
    for _ in range(2):
        one.run()
        sql(one, "UPDATE routines SET active = :on", on=True)
    one.run()

    assert ["missed"] == states(one)


@pytest.mark.parametrize("schedule", ["once", "after"])
def test_written_with_next_run_at_it_still_runs_once(beat, clock, schedule):
    one, at = beat(), clock.now()
    insert(one, {schedule: at.isoformat() if schedule == "once" else 5}, next_run_at=at)

    assert [at] == [run.scheduled_for for run in one.advance(30)]


# PostgreSQL's column takes ids only.
@pytest.mark.parametrize("database", ["sqlite", "mariadb"], indirect=True)
def test_what_people_write_into_waiting_for_disturbs_no_other_row(beat):
    one = beat()
    insert(one, {"timedelta": 20})
    insert(one, {"after": 5}, name="odd")
    with one.engine.begin() as connection:
        odd = routines.c.name == "odd"
        connection.execute(routines.update().where(odd).values(waiting_for="no id"))

    ran = {run.routine_name for run in one.advance(61)}

    assert {"one", "odd"} == ran


def test_an_id_that_is_spelled_otherwise_is_found_again(beat):
    one = beat()
    written = str(uuid4()).upper()
    if one.engine.dialect.name == "mysql":
        written = written.replace("-", "")
    insert(one, {"after": 5}, id=written)
    one.run()
    sql(one, "DELETE FROM routine_runs")

    assert 1 == len(one.advance(16))


def test_removed_and_restored_it_still_waits_for_the_run_that_is_out(beat, clock):
    first = beat(After(5))
    (run,) = first.run()
    first.stop()
    clock.advance(1)
    other = beat(After(5))
    other.declared = [Declared("other", "tasks.other", Once(clock.now() + HOUR))]
    other.loop.begin()
    other.stop()
    clock.advance(1)
    again = beat(After(5))

    assert [] == again.advance(60)
    again.finish(run)
    assert 1 == len(again.advance(6))


# SQLite has but one transaction at a time.
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_row_that_is_locked_holds_up_neither_the_end_of_its_run_nor_the_scheduler(beat, clock):
    """Somebody's transaction is left open."""
    drain = beat(After(5))
    (run,) = drain.run()
    people = sa.create_engine(drain.engine.url, future=True)
    with people.connect() as somebody:
        somebody.execute(sa.text("UPDATE routines SET description = 'being edited'"))

        assert drain.finish(run)
        ended = clock.now()
        assert [] == drain.advance(30)
        somebody.rollback()

    (second,) = drain.advance(16)
    assert ended + 5 * SECOND == second.scheduled_for


def test_a_run_is_ended_by_a_session_that_does_not_look_into_the_schema(postgresql, clock):
    drain = ManualBeat(postgresql, clock, [Declared("drain", "tasks.drain", After(5))])
    drain.start()
    drain.run()
    with drain.engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL search_path = pg_catalog"))
        connection.execute(sa.text("UPDATE public.routine_runs SET state = 'lost'"))

    assert row(drain)["waiting_for"] is None
