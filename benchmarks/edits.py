"""How long after its COMMIT an edit by plain SQL is obeyed by a running beat.

    SCHEDULER_DB_URI=… CELERY_BROKER_URL=redis://… python -m benchmarks.edits

A routine that is due once a day gets a schedule of 10 ms; measured is the time from the COMMIT,
by this process's clock, to the claim of the first run, by the database's. Both are on one machine.
The tables of the kit in that database are emptied.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import datetime, timezone

import sqlalchemy as sa

from benchmarks.beats import Queue, beat, wait_until
from benchmarks.rows import DAY, open_engine, schedulers, store
from celery_sqlalchemy_kit.tables import routines, runs

FAST = '{"timedelta": 0.01}'


def edit(engine, schedule, *which):
    with engine.begin() as connection:
        connection.execute(routines.update().where(*which).values(schedule=schedule))
    return datetime.now(timezone.utc)


def claims(engine, since, *which):
    later = sa.select(sa.func.min(runs.c.claimed_at)).where(runs.c.claimed_at >= since, *which)
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(later).scalar()


def obeyed_after(engine, pause=0.7, key=None):
    """Seconds; of the routine *key*, if there are others. The *pause* is out of step with anything
    that looks once a second."""
    edited_one = () if key is None else (routines.c.id == key,)
    its_runs = () if key is None else (runs.c.routine_id == key,)
    edited = edit(engine, FAST, *edited_one)
    wait_until(lambda: claims(engine, edited, *its_runs) is not None)
    seconds = (claims(engine, edited, *its_runs) - edited).total_seconds()
    edit(engine, DAY, *edited_one)
    time.sleep(pause)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=20)
    options = parser.parse_args()
    engine, database, broker = open_engine()
    store(engine, 1)
    with Queue(broker), beat(database, broker):
        wait_until(lambda: schedulers(engine) == 1)
        seconds = [obeyed_after(engine) for _ in range(options.edits)]
    print(
        f"{engine.dialect.name}: {len(seconds)} edits obeyed after "
        f"{statistics.median(seconds) * 1000:.0f} ms (median), {max(seconds) * 1000:.0f} ms (worst)"
    )


if __name__ == "__main__":
    main()
