"""How long after its COMMIT an edit by plain SQL is obeyed by a running beat.

    SCHEDULER_DB_URI=… CELERY_BROKER_URL=redis://… python -m benchmarks.edits

A routine that is due once a day gets a schedule of 10 ms; measured is the time from the COMMIT,
by this process's clock, to the claim of the first run, by the database's. Both are on one machine.
The tables of the kit in that database are emptied.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone

import sqlalchemy as sa

from benchmarks.dispatch import ROOT, app, empty, store, wait_until
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import routines, runs

FAST, SLOW = '{"timedelta": 0.01}', '{"timedelta": 86400}'


def edit(engine, schedule):
    with engine.begin() as connection:
        connection.execute(routines.update().values(schedule=schedule))
    return datetime.now(timezone.utc)


def claims(engine, since):
    later = sa.select(sa.func.min(runs.c.claimed_at)).where(runs.c.claimed_at >= since)
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(later).scalar()


def obeyed_after(engine):
    edited = edit(engine, FAST)
    wait_until(lambda: claims(engine, edited) is not None)
    seconds = (claims(engine, edited) - edited).total_seconds()
    edit(engine, SLOW)
    time.sleep(0.7)  # out of step with anything that looks once a second
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=20)
    options = parser.parse_args()
    engine = make_engine(Settings.load(app.conf, scheduler=True).scheduler_db_uri)
    empty()
    store(engine, 1)
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.dispatch", "beat", "--pidfile="]
    command += ["--scheduler=celery_sqlalchemy_kit.scheduler.RoutineScheduler"]
    beat = subprocess.Popen([*command, "--loglevel=WARNING"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: schedulers(engine) == 1)
        seconds = [obeyed_after(engine) for _ in range(options.edits)]
    finally:
        beat.terminate()
        beat.wait()
    print(
        f"{engine.dialect.name}: {len(seconds)} edits obeyed after "
        f"{statistics.median(seconds) * 1000:.0f} ms (median), {max(seconds) * 1000:.0f} ms (worst)"
    )
    empty()


def schedulers(engine):
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(sa.text("SELECT count(*) FROM routine_schedulers")).scalar()


if __name__ == "__main__":
    main()
