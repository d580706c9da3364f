"""The tables of a benchmark: emptied, filled by SQL, and read."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import sqlalchemy as sa

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.store.bulk import insert_all
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import metadata, routines, runs
from celery_sqlalchemy_kit.urls import database_url

PLAIN, LEDGERED = "benchmark.nothing", "benchmark.ledgered"
DAY = '{"timedelta": 86400}'


def engine_of(database):
    return make_engine(database_url(database), statement_timeout=600)


def open_engine():
    """The engine, and the URLs, of what the environment names."""
    database, broker = os.environ["SCHEDULER_DB_URI"], os.environ["CELERY_BROKER_URL"]
    return engine_of(database), database, broker


def store(engine, number, task=PLAIN):
    """Empty tables, and *number* routines that run once a day."""
    with engine.begin() as connection:
        metadata.drop_all(connection)
    migrations.migrate(engine)
    row = {"task": task, "schedule": DAY, "args": "[1, 2]"}
    rows = [{"id": uuid4(), "name": f"r{n}", "origin": "db", **row} for n in range(number)]
    with engine.begin() as connection:
        insert_all(connection, routines, ("id", "name", "origin", *row), rows)


def spread(engine, name, number, seconds, first, task=PLAIN, *, over=1.0):
    """Routines that run every *seconds*, from *first* on, evenly spread *over* that share of the
    time (PostgreSQL)."""
    statement = sa.text(
        """
        INSERT INTO routines (name, task, schedule, args, origin, next_run_at, occurrence_at)
        SELECT :name || n, :task, json_build_object('timedelta', CAST(:seconds AS integer)),
               '[1, 2]', 'db', due, due
        FROM generate_series(0, CAST(:number AS integer) - 1) AS n,
             LATERAL (SELECT CAST(:first AS timestamptz)
                      + n * make_interval(secs => :seconds) * :over / :number AS due) AS spread"""
    )
    told = {"name": name, "number": number, "seconds": seconds, "first": first, "task": task}
    told["over"] = over
    with engine.begin() as connection:
        connection.execute(statement, told)


def make_due(engine):
    now = present()
    with engine.begin() as connection:
        connection.execute(routines.update().values(next_run_at=now, occurrence_at=now))


def present(later=0.0):
    return datetime.now(timezone.utc) + timedelta(seconds=later)


def planned(engine):
    return number(engine, routines, routines.c.next_run_at.is_not(None))


def sent(engine):
    return number(engine, runs, runs.c.state == "sent")


def number(engine, table, *conditions):
    count = sa.select(sa.func.count()).select_from(table).where(*conditions)
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(count).scalar_one()


def schedulers(engine):
    return value(engine, "SELECT count(*) FROM routine_schedulers")


def value(engine, statement):
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(sa.text(statement)).scalar()


def execute(engine, statement, **parameters):
    with engine.begin() as connection:
        return connection.execute(sa.text(statement), parameters).rowcount
