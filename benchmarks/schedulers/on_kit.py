"""The kit: routines stand in its table, and are switched on by plain SQL."""

from __future__ import annotations

import json

import sqlalchemy as sa

from benchmarks.schedulers import database
from benchmarks.schedulers.program import TASK, main, make_app
from celery_sqlalchemy_kit import migrations

app = make_app(scheduler_db_uri=database())
#: They are planned already, as they are while a scheduler lives.
STORE = """
    INSERT INTO routines
        (name, task, schedule, args, options, active, origin, next_run_at, occurrence_at)
    SELECT :name || '-' || number, :task, CAST(:schedule AS json),
        CAST('[' || number || ']' AS json), CAST(:options AS json), :active, 'db',
        to_timestamp(:due), to_timestamp(:due)
    FROM generate_series(0, :number - 1) AS number
"""
ON = "UPDATE routines SET active = true, next_run_at = now() WHERE name = :name"


def store(batches):
    engine = sa.create_engine(database())
    migrations.migrate(engine)
    with engine.begin() as connection:
        for batch in batches:
            values = {
                "name": batch.name,
                "number": batch.number,
                "task": TASK,
                "schedule": json.dumps({"timedelta": batch.every}),
                "options": json.dumps({"queue": batch.queue}),
                "active": batch.active,
                "due": batch.due,
            }
            connection.execute(sa.text(STORE), values)
    engine.dispose()


def switch_on(name):
    connection = sa.create_engine(database()).connect()
    connection.execute(sa.text(ON), {"name": name})
    return connection.commit


if __name__ == "__main__":
    main(store=store, switch_on=switch_on)
