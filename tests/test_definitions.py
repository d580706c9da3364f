"""The routines that there are, as definitions."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.exchange import Changes, Definition, changes
from celery_sqlalchemy_kit.migrations import migrate
from celery_sqlalchemy_kit.routines import CatchUp, Origin, Overlap
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.definitions import kept
from celery_sqlalchemy_kit.tables import routines

POLL = Definition("poll", "proj.poll", schedules.parse(15))
FULL = Definition(
    "nightly",
    "reports.build",
    schedules.parse({"minute": 0, "hour": 2, "timezone": "Europe/Berlin"}),
    args=(1, "größe 😀", None),
    kwargs={"full": True, "n": 1.5},
    options={"queue": "slow"},
    active=False,
    catch_up=CatchUp.ALL,
    overlap=Overlap.QUEUE,
    jitter_seconds=2.5,
    starts_at=datetime(2026, 1, 1, 9, 30, 0, 5, tzinfo=timezone.utc),
    ends_at=datetime(2027, 1, 1, tzinfo=timezone.utc),
    max_runs=10,
    description="Builds.\nAsk Ann.",
    origin=Origin.CODE,
)


@pytest.fixture
def engine(database):
    engine = make_engine(database)
    migrate(engine)
    yield engine
    engine.dispose()


def insert(engine, *rows):
    with engine.begin() as connection:
        for row in rows:
            connection.execute(routines.insert().values(**row))


def found(engine, namespace="", timezone="UTC"):
    with engine.connect().execution_options(reading=True) as connection:
        return kept(connection, namespace, timezone)


def row(definition, **fields):
    """A row of ``routines`` that says what *definition* says."""
    columns = {key: definition.value(key) for key in definition.to_json()}
    for key in ("schedule", "args", "kwargs", "options"):
        columns[key] = json.dumps(columns.get(key))
    for key in ("starts_at", "ends_at"):
        columns[key] = getattr(definition, key)
    return {**columns, **fields}


def test_a_row_is_what_was_written_of_it(engine):
    insert(engine, row(POLL), row(FULL))

    assert ((FULL, POLL), {}) == (found(engine).definitions, found(engine).unreadable)


def test_a_row_by_bare_sql_is_as_by_default(engine):
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO routines (name, task, schedule) "
                "VALUES ('poll', 'proj.poll', '{\"timedelta\": 15}')"
            )
        )

    assert (POLL,) == found(engine).definitions


def test_rows_of_other_namespaces_are_not_seen(engine):
    insert(engine, row(POLL, namespace="other"))

    assert () == found(engine).definitions
    assert (POLL,) == found(engine, "other").definitions


def test_a_schedule_that_names_no_zone_follows_the_one_that_is_given(engine):
    insert(engine, row(POLL, schedule='{"minute": 0}'))

    assert "Europe/Berlin" == found(engine, timezone="Europe/Berlin").definitions[0].schedule.zone


def test_a_row_that_cannot_be_read_harms_itself_only(engine):
    bad = {
        "a": ({"schedule": '{"hour": 25}'}, 'schedule {"hour": 25}: hour 25; allowed are 0-23'),
        "b": ({"schedule": "null"}, "schedule null: is no schedule"),
        "c": ({"args": '{"a": 1}'}, 'args = {"a": 1}: allowed is a list'),
        "d": ({"options": '{"task_id": "x"}'}, "allowed is any option of apply_async"),
        "e": ({"catch_up": "newest"}, 'catch_up = "newest": allowed is one of latest, skip, all'),
        "f": ({"max_runs": -1}, "max_runs = -1: allowed is a whole number from 0"),
        "g": ({"jitter": -1}, "jitter = -1.0: allowed is seconds"),
        "h": ({"task": ""}, 'task = "": allowed is a text'),
    }
    insert(engine, *(row(POLL, name=name, **fields) for name, (fields, _) in bad.items()))
    insert(engine, row(POLL))

    there = found(engine)

    assert (POLL,) == there.definitions
    assert dict.fromkeys(bad, True) == {
        name: bad[name][1] in fault for name, fault in there.unreadable.items()
    }


@pytest.mark.parametrize(
    "broken",
    ["schedule = 'x'", "args = '[1,'", "active = 'maybe'", "jitter = 'much'", "starts_at = 'soon'"],
)
def test_what_only_sqlite_stores_harms_its_row_only(sqlite, broken):
    engine = make_engine(sqlite)
    migrate(engine)
    insert(engine, row(POLL, name="bad"), row(POLL))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE routines SET {broken} WHERE name = 'bad'")

    assert ((POLL,), ["bad"]) == (found(engine).definitions, list(found(engine).unreadable))


def test_what_an_import_would_do(engine):
    insert(engine, row(POLL), row(POLL, name="bad", schedule="{}"))
    there = found(engine)
    given = [POLL, FULL, Definition("bad", "proj.bad", POLL.schedule)]

    expected = Changes(create=(FULL,), unchanged=(POLL,), repair=(given[2],))
    assert expected == changes(given, there.definitions, there.unreadable)
