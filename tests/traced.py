"""Messages of runs, traced as a worker does, and the rows of their runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from celery import states
from celery.app.trace import build_tracer

from celery_sqlalchemy_kit import tables
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import HEADER
from celery_sqlalchemy_kit.store.connections import engine_for


class Runs:
    """The table of runs at *url*, which is created; `go_away` and `come_back`, if it is a file."""

    def __init__(self, url):
        self.url = url
        self.engine = sa.create_engine(url, future=True)
        tables.metadata.create_all(self.engine)

    def store(self, state="sent", **values):
        """Insert a run; returns its id."""
        run_id = uuid4()
        values = {"id": run_id, "routine_id": uuid4(), "routine_name": "r", "task": "r"} | values
        values = {"scheduled_for": datetime.now(UTC), "cause": "schedule", "state": state} | values
        with self.engine.begin() as connection:
            connection.execute(sa.insert(tables.runs).values(values))
        return run_id

    def read(self, run_id):
        """The row of a run."""
        with self.engine.connect() as connection:
            wanted = sa.select(tables.runs).where(tables.runs.c.id == UUID(str(run_id)))
            return connection.execute(wanted).one()

    def change(self, **values):
        """Change all runs, as somebody else would."""
        with self.engine.begin() as connection:
            connection.execute(sa.update(tables.runs).values(values))

    def go_away(self):
        engine_for(self.url, "ledger", schema=None).dispose()
        self.engine.dispose()
        self._disk.rename(self._disk.with_suffix(".away"))

    def come_back(self):
        self._disk.with_suffix(".away").rename(self._disk)

    @property
    def _disk(self):
        from pathlib import Path

        return Path(self.url.database).parent

    def close(self):
        if not self._disk.exists():
            self.come_back()
        engine_for(self.url, "ledger", schema=None).dispose()
        self.engine.dispose()


def header(age=timedelta(0), **more):
    """The headers of a run that was claimed *age* ago."""
    return {HEADER: (datetime.now(UTC) - age).isoformat(), **more}


def trace(task, run_id, does=None, headers=None, retries=0, **request):
    """Run *task* with Celery's own tracer, as a worker does for the message of a run."""
    delivery_info = {"exchange": "", "routing_key": task.app.conf.task_default_queue}
    request = {
        "id": str(run_id),
        "task": task.name,
        "retries": retries,
        "hostname": "celery@here",
        **(header() if headers is None else headers),
        **request,
        "delivery_info": {**delivery_info, **request.get("delivery_info", {})},
    }
    tracer = build_tracer(task.name, task, app=task.app)
    return tracer(str(run_id), (does,), {}, request)


def state_of(traced):
    return states.SUCCESS if traced.info is None else traced.info.state


def raises(error):
    """A body that does nothing else."""

    def body():
        raise error

    return body


def waiting(app):
    """Take the messages out of the app's queue; their headers."""
    found = []
    with app.connection() as connection:
        queue = connection.SimpleQueue(app.conf.task_default_queue)
        while queue.qsize():
            message = queue.get(timeout=5)
            message.ack()
            found.append(message.headers)
        queue.close()
    return found
