"""The app whose beats and workers are measured: `celery -A benchmarks.app`."""

from __future__ import annotations

import os

from celery import Celery, signals

from benchmarks import QUEUE
from celery_sqlalchemy_kit import SyncTask

#: What is between the kit and the broker: nothing, a listener or a router. Told to beat as well.
BETWEEN = "BENCHMARK_BETWEEN"

app = Celery("benchmark", broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost"))
app.conf.result_backend = os.environ.get("CELERY_RESULT_BACKEND") or None
app.conf.task_default_queue = QUEUE
app.conf.result_expires = None  # or Celery would have a routine of its own
app.conf.broker_connection_retry_on_startup = True
if os.environ.get("BENCHMARK_CONFIRM"):
    app.conf.broker_transport_options = {"confirm_publish": True}


def hear(headers=None, **_):
    headers["heard"] = True


def route(name, args, kwargs, options, task=None, **_):
    return {"queue": QUEUE}


def put_between(what):
    os.environ[BETWEEN] = what
    if what == "listener":
        signals.before_task_publish.connect(hear)
    elif what == "router":
        app.conf.task_routes = (route,)


put_between(os.environ.get(BETWEEN, "nothing"))


@app.task(name="benchmark.nothing", acks_late=True, ignore_result=True)
def nothing(*args):
    """Celery's own, acknowledged late, as the kit's are."""


class Ledgered(SyncTask):
    """The same, of which each run is begun and ended in the table."""

    name = "benchmark.ledgered"
    ignore_result = True

    def run(self, *args):
        pass
