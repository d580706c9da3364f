"""How fast 10,000 routines that are due at once reach the broker, against a bare loop.

    SCHEDULER_DB_URI=postgresql://… CELERY_BROKER_URL=redis://… python -m benchmarks.dispatch

Bare: `task.apply_async` in a loop, the same tasks to the same broker from the same machine, with
the same listener or router if one is asked for. The two take turns, and what counts is the ratio of
each pair. The database and the queue named ``benchmark`` are emptied.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa
from celery import Celery, signals

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.store.bulk import insert_all
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import metadata, routines, runs

app = Celery("benchmark", broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost"))
app.conf.result_backend = os.environ.get("CELERY_RESULT_BACKEND") or None
app.conf.task_default_queue = "benchmark"
ROOT = Path(__file__).parent.parent


#: What is in between, for the loop and for beat; told to beat by the environment.
BETWEEN = "BENCHMARK_BETWEEN"


def hear(headers=None, **_):
    headers["heard"] = True


def route(name, args, kwargs, options, task=None, **_):
    return {"queue": "benchmark"}


def put_between(what):
    os.environ[BETWEEN] = what
    if what == "listener":
        signals.before_task_publish.connect(hear)
    elif what == "router":
        app.conf.task_routes = (route,)


put_between(os.environ.get(BETWEEN, "nothing"))


@app.task(name="benchmark.nothing")
def nothing(*args):
    """Never run: only its messages count."""


def waiting():
    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare("benchmark", passive=False).message_count


def empty():
    with app.connection_for_read() as connection:
        connection.default_channel.queue_declare("benchmark")
        connection.default_channel.queue_purge("benchmark")


def bare(number):
    empty()
    nothing.apply_async((1, 2))
    empty()
    began = time.perf_counter()
    for _ in range(number):
        nothing.apply_async((1, 2))
    return number / (time.perf_counter() - began)


def kit(engine, number):
    """The rate between the first and the last message after the rows have come due."""
    empty()
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.dispatch", "beat", "--pidfile="]
    command += ["--scheduler=celery_sqlalchemy_kit.scheduler.RoutineScheduler"]
    beat = subprocess.Popen([*command, "--loglevel=WARNING"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: planned(engine) >= number)
        now = datetime.now(timezone.utc)
        with engine.begin() as connection:
            connection.execute(routines.update().values(next_run_at=now, occurrence_at=now))
        began = time.perf_counter()
        wait_until(lambda: waiting() >= number)
        return number / (time.perf_counter() - began)
    finally:
        beat.terminate()
        beat.wait()


def planned(engine):
    count = sa.select(sa.func.count()).where(routines.c.next_run_at.is_not(None))
    with engine.connect() as connection:
        return connection.execute(count).scalar_one()


def store(engine, number):
    with engine.begin() as connection:
        metadata.drop_all(connection)
    migrations.migrate(engine)
    row = {"task": nothing.name, "schedule": '{"timedelta": 86400}', "args": "[1, 2]"}
    rows = [{"id": uuid4(), "name": f"r{n}", "origin": "db", **row} for n in range(number)]
    with engine.begin() as connection:
        insert_all(connection, routines, tuple(rows[0]), rows)


def sent(engine):
    done = sa.select(sa.func.count()).where(runs.c.state == "sent")
    with engine.connect() as connection:
        return connection.execute(done).scalar_one()


def wait_until(condition, timeout=300):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routines", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--between", choices=["nothing", "listener", "router"], default="nothing")
    options = parser.parse_args()
    put_between(options.between)
    engine = make_engine(Settings.load(app.conf, scheduler=True).scheduler_db_uri)
    ratios = []
    for pair in range(options.pairs):
        store(engine, options.routines)
        of_bare, of_kit = bare(options.routines), kit(engine, options.routines)
        ratios.append(of_kit / of_bare)
        print(f"{pair + 1}: bare {of_bare:6.0f}/s   kit {of_kit:6.0f}/s   ratio {ratios[-1]:.2f}")
    print(
        f"median ratio {statistics.median(ratios):.2f}, {options.routines} routines, "
        f"{options.between} in between, {engine.dialect.name}, "
        f"{sent(engine)} confirmed in the last run"
    )
    empty()


if __name__ == "__main__":
    main()
