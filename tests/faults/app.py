"""The Celery app of the schedulers and workers that are killed; imported in their processes.

Every go at a run leaves lines in the file of effects, which is not under test: ``begin`` as the
task's body begins, ``done`` once its work is complete. They are written at once, whole, and stay
whatever is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time

from celery import Celery

from celery_sqlalchemy_kit import AsyncTask, SyncTask

app = Celery("faults", broker=os.environ["FAULTS_BROKER"])
app.conf.update(json.loads(os.environ["FAULTS_SETTINGS"]))
_effects = os.open(os.environ["FAULTS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _note(task, what):
    request = task.request
    attempt = getattr(request, "routine_attempt", None)
    told = {
        "what": what,
        "run": request.id,
        "name": request.kwargs.get("name"),
        "retries": request.retries,
        # A worker that could not reach the database runs what it is sent.
        "blind": getattr(attempt, "begun", None) is None,
        "at": time.monotonic(),
        "pid": os.getpid(),
    }
    os.write(_effects, (json.dumps(told) + "\n").encode())


class Quick(SyncTask):
    name = "quick"

    def run(self, name=None, seconds=0.0):
        _note(self, "begin")
        time.sleep(seconds)
        _note(self, "done")


class Again(Quick):
    name = "again"
    on_worker_lost = "again"


class Flaky(SyncTask):
    """Fails at first."""

    name = "flaky"
    max_retries = 2
    throws = (ConnectionError,)
    default_retry_delay = 1

    def run(self, name=None):
        _note(self, "begin")
        if self.request.retries == 0:
            raise ConnectionError(f"{name} fails at first")
        _note(self, "done")


class Failing(SyncTask):
    name = "failing"
    max_retries = 0
    throws = (ValueError,)

    def run(self, name=None):
        _note(self, "begin")
        raise ValueError(name)


class Async(AsyncTask):
    name = "async"

    async def execute(self, name=None):
        _note(self, "begin")
        await asyncio.sleep(random.random() / 20)
        _note(self, "done")
