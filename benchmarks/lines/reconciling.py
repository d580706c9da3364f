"""Registering 10,000 declared routines."""

from __future__ import annotations

import os
import socket
import time
from uuid import uuid4

from celery import Celery

from benchmarks.lines import alone
from benchmarks.rows import engine_of, number, store
from celery_sqlalchemy_kit import registrar
from celery_sqlalchemy_kit.clock import DATABASE
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.running import SqlStorage
from celery_sqlalchemy_kit.storage.values import Presence
from celery_sqlalchemy_kit.tables import routines

TITLE = "reconciling: a start with 10,000 declared routines, first and unchanged"


def measure(database, broker, *, scale):
    declared = max(100, int(10_000 * scale))
    engine = engine_of(database)
    store(engine, 0)
    figures = {"declared": declared}
    for title, count in (("first", declared), ("again", declared), ("all but 1,000", None)):
        app = _app(database, broker, max(10, declared - 1000) if count is None else count)
        wall, cpu = _registered(app)
        figures |= {f"{title}: wall, s": wall, f"{title}: processor, s": cpu}
    figures["rows then"] = number(engine, routines)
    return figures


def _app(database, broker, declared):
    """Half of them crontabs, half intervals, with arguments and options."""
    app = Celery("benchmark-declared", broker=broker, set_as_current=False)
    app.conf.update(scheduler_db_uri=database, result_expires=None)
    app.conf.beat_schedule = {
        f"declared {n}": {
            "task": f"benchmark.task{n % 100}",
            "schedule": 60.0 + n if n % 2 else f"{n % 60} {n % 24} * * *",
            "args": (n,),
            "kwargs": {"number": n},
            "options": {"queue": "benchmark"},
        }
        for n in range(declared)
    }
    return app


def _registered(app):
    """Seconds of a start, from the declarations to their COMMIT, and processor seconds here."""
    settings = Settings.load(app.conf, scheduler=True)
    me = Presence(uuid4(), settings.scheduler_namespace, socket.gethostname(), os.getpid())
    storage = SqlStorage(settings.scheduler_db_uri, settings, me, "UTC", DATABASE)
    storage.prepare()
    began, used = time.perf_counter(), time.process_time()
    with storage.patient():
        registrar.register(app, storage.store, settings, "UTC")
    found = time.perf_counter() - began, time.process_time() - used
    storage.farewell_store.leave()
    storage.reconnect()
    return found


if __name__ == "__main__":
    alone.main(TITLE, measure)
