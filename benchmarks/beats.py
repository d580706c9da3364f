"""Schedulers and workers as people start them, and the queue between them as others see it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from kombu import Connection, Exchange
from kombu import Queue as Declared

from benchmarks import QUEUE
from benchmarks.processes import running

ROOT = Path(__file__).parent.parent
SCHEDULER = "--scheduler=celery_sqlalchemy_kit.scheduler.RoutineScheduler"


def wait_until(condition, timeout=300, interval=0.01):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout} s")
        time.sleep(interval)


def environment(database, broker, **more):
    told = {"SCHEDULER_DB_URI": database, "CELERY_BROKER_URL": broker, **more}
    return os.environ | {name.upper(): str(value) for name, value in told.items()}


def beat(database, broker, **settings):
    """A scheduler; see `processes.running` for what it yields."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.app", "beat", "--pidfile="]
    command += [SCHEDULER, "--loglevel=WARNING"]
    return running(command, environment(database, broker, **settings), ROOT)


@contextlib.contextmanager
def beats(number, database, broker):
    with contextlib.ExitStack() as started:
        yield [started.enter_context(beat(database, broker)) for _ in range(number)]


def worker(database, broker, *options):
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.app", "worker", *options]
    command += ["--loglevel=WARNING", "--without-gossip", "--without-mingle"]
    return running(command, environment(database, broker), ROOT)


class Queue:
    """The queue of the benchmarks, by one connection of its own."""

    def __init__(self, broker):
        self._connection = Connection(broker)
        declared = Declared(QUEUE, Exchange(QUEUE), routing_key=QUEUE)  # as Celery does
        self._queue = declared(self._connection.default_channel)
        self._queue.declare()

    def waiting(self):
        return self._queue.queue_declare().message_count

    def empty(self):
        self._queue.purge()

    def close(self):
        self._connection.release()

    def __enter__(self):
        self.empty()
        return self

    def __exit__(self, *_):
        self.empty()
        self.close()
