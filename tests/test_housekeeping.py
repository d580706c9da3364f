"""Chores: seldom, one at a time, and never at the cost of dispatch."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import housekeeping, schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.lateness import Lateness
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.tables import runs
from celery_sqlalchemy_kit.testing import ManualBeat


def every(seconds, name="poll", **fields):
    return Declared(name, f"tasks.{name}", schedules.parse(seconds), **fields)


def add(beat, number, **values):
    now = beat.clock.now()
    about = {"routine_id": uuid4(), "routine_name": "poll", "task": "tasks.poll"}
    about |= {"scheduled_for": now, "claimed_at": now, "finished_at": now - timedelta(days=30)}
    about |= {"cause": "schedule", "state": "succeeded"}
    with beat.engine.begin() as connection:
        connection.execute(
            runs.insert(), [{"id": uuid4(), **about, **values} for _ in range(number)]
        )


def states(beat):
    with beat.engine.connect().execution_options(reading=True) as connection:
        return list(connection.execute(sa.select(runs.c.state)).scalars())


def test_a_minute_without_anything_to_do_takes_few_statements(beat):
    poll = beat(every(3600))
    poll.advance(11)
    statements = []
    sa.event.listen(poll.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    poll.advance(60)

    asked = [each for each in statements if not each.startswith("BEGIN")]
    # Of each heartbeat: the beat, with (on PostgreSQL) or besides what waits for a run's end, a
    # look, and a look for chores; and the first and the last look.
    each_beat = 3 if poll.engine.dialect.name == "postgresql" else 4
    assert 6 * each_beat + 2 == len(asked)


def test_what_postgresql_is_asked_while_nothing_is_to_be_done_is_in_no_transaction(
    postgresql, clock
):
    poll = ManualBeat(postgresql, clock, [every(3600)])
    poll.start()
    poll.advance(11)
    asked = []

    @sa.event.listens_for(poll.engine, "after_cursor_execute")
    def note(connection, cursor, statement, parameters, context, many):
        asked.append(cursor.connection.info.transaction_status)

    poll.advance(60)

    assert 20 == len(asked)
    assert {0} == set(asked)
    sa.event.remove(poll.engine, "after_cursor_execute", note)
    poll.advance(3600)  # what is written is
    assert 1 == len(poll.publisher.sent)
    with poll.engine.connect() as connection:
        assert not connection.connection.driver_connection.autocommit
    poll.kill()


def test_a_statement_by_itself_that_fails_leaves_nothing_behind(postgresql, clock):
    poll = ManualBeat(postgresql, clock, [every(3600)])
    poll.start()
    with poll.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE routines RENAME TO elsewhere")
    with pytest.raises(sa.exc.ProgrammingError):
        poll.store.look()

    with poll.engine.begin() as connection:
        assert not connection.connection.driver_connection.autocommit
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO routines")
    assert poll.store.look().to_claim
    poll.kill()


def test_looks_that_take_their_time_are_no_more(beat, monkeypatch):
    poll = beat(every(3600))
    poll.advance(11)
    look, looks = poll.store.look, []

    def slowly(*, after):
        looks.append(poll.clock.monotonic())
        poll.clock.advance(0.1)
        return look(after=after)

    monkeypatch.setattr(poll.store, "look", slowly)
    until = poll.clock.monotonic() + 60
    while poll.clock.monotonic() < until:
        poll.clock.advance(max(poll.loop.turn(), 1e-6))

    assert 6 + 1 == len(looks)


def test_chores_are_done_though_there_is_always_something_due(beat, clock, monkeypatch):
    monkeypatch.setattr(housekeeping, "PRUNED", 10)
    poll = beat(*(every(0.2, name=f"r{n}") for n in range(5)), scheduler_keep_runs_for=3600)
    publish, turns = poll.publisher.publish, []

    def slowly(claimed, since, sent, **_):
        clock.advance(0.3)
        return publish(claimed, since, sent)

    poll.publisher.publish = slowly
    poll.run()
    clock.advance(1)
    add(poll, 100)
    add(poll, 1, state="running", heartbeat_at=clock.now() - timedelta(hours=1), worker="w")
    with poll.engine.begin() as connection:
        long_ago = clock.now() - timedelta(hours=1)
        connection.execute(
            runs.update().where(runs.c.state == "running").values(claimed_at=long_ago)
        )
    waited = []
    until = clock.monotonic() + 60
    while clock.monotonic() < until:
        waited.append(poll.loop.turn())
        clock.advance(waited[-1])
        turns.append((clock.monotonic(), states(poll).count("succeeded")))

    assert {0.0} == set(waited)
    assert "lost" in states(poll)
    assert 0 == turns[-1][1]
    begun = next(at for at, count in turns if count < 100)
    over = next(at for at, count in turns if count == 0)
    assert over - begun <= 10 * 1.7  # one batch a second, or as soon as a turn is over


def test_a_chore_that_fails_is_told_once_and_holds_up_nothing(sqlite, clock, caplog):
    poll = ManualBeat(sqlite, clock, [every(5)])
    poll.start()
    poll.run()
    with poll.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER kept BEFORE DELETE ON routine_runs "
            "BEGIN SELECT RAISE(ABORT, 'runs are kept here'); END"
        )
    add(poll, 1)
    add(poll, 1, state="running", claimed_at=clock.now() - timedelta(days=1), worker="w")

    sent = poll.advance(100)

    assert 20 == len(sent)
    assert {"succeeded", "lost", "sent"} == set(states(poll))
    told = [record for record in caplog.records if "put off" in record.message]
    assert ["routines: prune failed, and is put off for 300 s"] == [r.message for r in told]
    assert "runs are kept here" in str(told[0].exc_info[1])
    with poll.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER kept")
    poll.advance(310)
    assert "succeeded" not in states(poll)
    poll.kill()


def test_a_fault_of_the_kits_own_stops_neither_dispatch_nor_the_other_chores(beat, monkeypatch):
    poll = beat(every(5))
    poll.run()
    add(poll, 1, state="running", claimed_at=poll.clock.now() - timedelta(days=1), worker="w")
    add(poll, 1)
    monkeypatch.setattr(poll.store, "sweep", lambda *_, **__: 1 / 0)
    failures = 0
    for _ in range(24):
        try:
            poll.advance(5)
        except ZeroDivisionError:
            failures += 1

    assert 1 <= failures <= 12
    assert len(poll.publisher.sent) >= 12
    assert "succeeded" not in states(poll)


# --- lateness ---------------------------------------------------------------------------------


def test_a_turn_that_begins_late_is_told(caplog):
    told = Lateness()
    told.begin(0.0)
    told.wait(1.0, 10.0)
    told.begin(12.0)
    told.wait(12.0, 10.0)
    told.begin(15.0)  # woken
    told.wait(15.0, 10.0)
    told.begin(26.5)
    told.begin(99.0)  # after a turn that failed

    assert ["routines: a turn begins 1.5 s late"] == [r.message for r in caplog.records]


def test_late_dispatch_is_told_when_it_begins_and_when_it_is_over(caplog):
    caplog.set_level(logging.INFO)
    told = Lateness()
    for seconds in (0, 5, 6, 700, 6, 4, 0, 9):
        told.note(timedelta(seconds=seconds))

    assert [
        "routines: dispatch is 6 s late",
        "routines: dispatch is on time again",
        "routines: dispatch is 9 s late",
    ] == [r.message for r in caplog.records]


def test_a_scheduler_tells_that_it_was_late_and_that_it_is_no_longer(sqlite, clock, caplog):
    poll = ManualBeat(sqlite, clock, [every(60)])
    poll.start()
    poll.run()
    clock.advance(90)

    poll.run()
    poll.advance(60)

    told = [r.message for r in caplog.records if "late" in r.message or "on time" in r.message]
    assert [
        "routines: a turn begins 80.0 s late",
        "routines: dispatch is 30 s late",
        "routines: dispatch is on time again",
    ] == told
    poll.kill()


def test_an_order_by_hand_for_yesterday_is_not_late(sqlite, clock, caplog):
    poll = ManualBeat(sqlite, clock, [every(3600)])
    poll.start()
    poll.run()
    with poll.engine.begin() as connection:
        yesterday = clock.now() - timedelta(days=1)
        text = yesterday.strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.execute(sa.text("UPDATE routines SET next_run_at = :at"), {"at": text})
    clock.set(max(clock.now(), datetime.now(UTC)))

    assert 1 == len(poll.run())
    assert [] == [r.message for r in caplog.records if "late" in r.message]
    poll.kill()
