"""What all of these programs are asked to do, and the app that they share.

    python -m benchmarks.schedulers.on_NAME store    the batches of the environment
    python -m benchmarks.schedulers.on_NAME edit     each routine named on a line of its input

An edit is answered by a line: the seconds since the epoch just after it has been committed.
"""

from __future__ import annotations

import os
import sys
import time

from celery import Celery

from benchmarks.schedulers import BATCHES, broker, read

TASK = "benchmark.nothing"


def make_app(**settings):
    """An app with one task, which is never run: only its messages count."""
    app = Celery("benchmark", broker=broker())
    app.conf.update(settings)

    @app.task(name=TASK)
    def nothing(*args):
        pass

    return app


def batches():
    return read(os.environ[BATCHES])


def main(*, store, switch_on):
    """*store* takes batches; *switch_on* prepares for a name and returns what commits it."""
    if sys.argv[1] == "store":
        store(batches())
        return
    for line in sys.stdin:
        commit = switch_on(line.strip())
        commit()
        print(time.time(), flush=True)
