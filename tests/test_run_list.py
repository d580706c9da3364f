"""Runs as people look at them."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import migrations, tables
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import State
from celery_sqlalchemy_kit.store import run_list
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.desk import Desk

NOW = datetime(2026, 12, 1, tzinfo=UTC)
EXPLAIN = {"postgresql": "EXPLAIN ", "mysql": "EXPLAIN ", "sqlite": "EXPLAIN QUERY PLAN "}


@pytest.fixture
def connection(database):
    engine = make_engine(database)
    migrations.migrate(engine)
    with engine.connect() as connection, connection.begin():
        yield connection
    engine.dispose()


def add(connection, routine_id, states, namespace="", **values):
    """A routine with a run in each of *states*, by minutes, the first the newest."""
    routine = {"id": routine_id, "name": routine_id.hex, "namespace": namespace, "task": "t"}
    there = sa.select(tables.routines.c.id).where(tables.routines.c.id == routine_id)
    if connection.execute(there).first() is None:
        connection.execute(tables.routines.insert(), [{**routine, "schedule": "60"}])
    run = {"routine_id": routine_id, "routine_name": routine_id.hex, "namespace": namespace}
    run |= {"task": "t", "cause": "schedule"}
    rows = [
        run
        | {"id": uuid4(), "state": state.value, "scheduled_for": NOW - timedelta(minutes=minutes)}
        | values
        for minutes, state in enumerate(states)
    ]
    connection.execute(tables.runs.insert(), rows)
    return [row["id"] for row in rows]


def test_of_each_routine_the_newest_run_is_the_last_in_whatever_state(connection):
    states = list(State)
    newest = {}
    for number in range(len(states)):
        key = uuid4()
        newest[key] = add(connection, key, states[number:] + states[:number])[0]
    foreign = uuid4()
    add(connection, foreign, [State.SENT], namespace="another")
    found = run_list.last_runs(connection, Desk(), [*newest, foreign, uuid4()])

    assert newest == {key: run.id for key, run in found.items()}
    assert states == [found[key].state for key in newest]
    assert {} == run_list.last_runs(connection, Desk("a third"), newest)


def test_last_runs_are_found_by_the_index_of_a_routine(connection):
    """And not by that of unfinished runs, all of which would be read for each routine. PostgreSQL
    takes it, if it may, where they were few when it looked last; meanwhile they may be very many."""
    key = uuid4()
    add(connection, key, [State.SUCCEEDED] * 3000)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE routine_runs")
    add(connection, key, list(State))
    asked = []
    sa.event.listen(
        connection,
        "before_cursor_execute",
        lambda _c, _cursor, sql, args, *_: asked.append((sql, args)),
    )
    run_list.last_runs(connection, Desk(), [key, uuid4()])
    sql, args = asked[1]
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    plan = connection.exec_driver_sql(EXPLAIN[connection.dialect.name] + sql, args).all()
    told = [str(row) for row in plan if "routine_runs" in str(row)]

    assert len(State) == sum("routine_runs_routine" in row for row in told), told
    assert not any("routine_runs_unfinished" in row for row in told)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5", 2),
        ("5a0", 1),
        ("5A000000-0000-0000", 1),
        (str(UUID("5a" + 30 * "0")), 1),
        ("6", 0),
        ("", 0),
        ("5g", 0),
        ("5%", 0),
        (33 * "5", 0),
    ],
)
def test_a_run_is_known_by_the_beginning_of_its_id(connection, text, found):
    key, other = uuid4(), uuid4()
    add(connection, key, [State.SENT], id=UUID("5a" + 30 * "0"))
    add(connection, key, [State.SENT], id=UUID("5b" + 30 * "0"))
    add(connection, other, [State.SENT], id=UUID("6b" + 30 * "0"))

    assert found == len(run_list.runs_beginning(connection, key, text))


def test_on_sqlite_what_ended_last_is_found_by_an_index(sqlite):
    """SQLite takes a partial index only where the statement says what the index says."""
    engine = make_engine(sqlite)
    migrations.migrate(engine)
    asked = []
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda _c, _cursor, sql, args, *_: asked.append((sql, args)),
    )
    with engine.connect() as connection:
        add(connection, uuid4(), list(State))
        asked.clear()
        found = run_list.all_runs(connection, Desk(), limit=3)
        plans = [
            str(row)
            for sql, args in list(asked)
            for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, args)
        ]
    engine.dispose()

    assert 3 == len(found)
    assert len(State) == len(plans)
    assert all("SEARCH routine_runs USING INDEX routine_runs_" in plan for plan in plans), plans
