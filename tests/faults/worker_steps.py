"""Workers that die at each of their steps in turn; one line of JSON tells of each run.

    python worker_steps.py DATABASE BROKER

Each has a queue and a run of its own, of a task that is lost, begins again or is retried. In the
end a worker and a scheduler see to what they have left.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from celery import Celery, signals
from servers import wait_for
from sqlalchemy.engine import Engine, make_url
from stepping import DIED, NEVER, Fork, Steps, app_of, tell

from celery_sqlalchemy_kit import SyncTask, migrations
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import HEADER, UNFINISHED
from celery_sqlalchemy_kit.scheduler import RoutineScheduler
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import runs

#: Workers that are at it at once.
TOGETHER = 6


def declare(app: Celery, engine: Engine, steps: Steps) -> None:
    """The tasks; each go at one leaves a row that is not under test."""

    def note(task, what):
        with engine.begin() as connection:
            told = {"run": task.request.id, "what": what}
            connection.execute(sa.text("INSERT INTO effects VALUES (:run, :what)"), told)

    class Note(SyncTask):
        name = "note"

        def run(self):
            note(self, "begin")
            steps.step()
            note(self, "done")

    class Again(Note):
        name = "again"
        on_worker_lost = "again"

    class Flaky(Note):
        name = "flaky"
        max_retries = 1
        default_retry_delay = 0

        def run(self):
            if self.request.retries == 0:
                raise ConnectionError("at first")
            super().run()

    for task in (Note, Again, Flaky):
        app.register_task(task())


def send(app: Celery, engine: Engine, task: str, number: int) -> UUID:
    """A run that a scheduler has just sent to a queue of its own."""
    run, queue = uuid4(), f"{task}-{number}"
    now = datetime.now(UTC)
    row = {"id": run, "routine_id": uuid4(), "routine_name": queue, "task": task, "args": "[]"}
    row |= {"kwargs": "{}", "options": json.dumps({"queue": queue}), "cause": "manual"}
    row |= {"scheduled_for": now, "claimed_at": now, "sent_at": now, "state": "sent"}
    with engine.begin() as connection:
        connection.execute(runs.insert().values(**row, publish_attempts=1))
    app.send_task(task, task_id=str(run), queue=queue, headers={HEADER: now.isoformat()})
    return run


def serve(database: str, broker: str, queues: list[str], last: int, *, ends: bool) -> None:
    """A worker; one that *ends* does so once it has run a task to its end."""
    steps = Steps(last)
    app, effects = worker_app(database, broker), make_engine(make_url(database))
    declare(app, effects, Steps(NEVER) if last == NEVER else steps)
    steps.listen(besides=effects)
    if ends:
        # A retry is a task of its own.
        signals.task_success.connect(lambda **_: _end_soon(), weak=False)
    options = {"pool": "solo", "queues": queues, "hostname": f"{queues[0]}@{os.getpid()}"}
    alone = {"without_mingle": True, "without_gossip": True}
    app.Worker(**options, **alone, quiet=True, loglevel="CRITICAL").start()


def _end_soon() -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()


def worker_app(database: str, broker: str) -> Celery:
    lost, unbegun = {"scheduler_lost_after": 2}, {"scheduler_redeliver_after": 1}
    return app_of(database, broker, worker_hijack_root_logger=False, **lost, **unbegun)


def step_workers(database: str, broker: str) -> None:
    engine = make_engine(make_url(database))
    migrations.migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE effects (run varchar(36), what varchar(9))")
    sent: dict[UUID, tuple[str, int, int]] = {}
    app = worker_app(database, broker)
    for task in ("note", "again", "flaky"):
        codes = [DIED]
        while DIED in codes:
            first = len([each for each in sent.values() if each[0] == task]) + 1
            numbers = range(first, first + TOGETHER)
            ids = [send(app, engine, task, number) for number in numbers]
            engine.dispose()
            forks = [
                Fork(lambda n=n, q=f"{task}-{n}": serve(database, broker, [q], n, ends=True))
                for n in numbers
            ]
            codes = [fork.wait() for fork in forks]
            sent |= {
                run: (task, number, code)
                for run, number, code in zip(ids, numbers, codes, strict=True)
            }
    queues = ["celery", *(f"{task}-{number}" for task, number, _ in sent.values())]
    engine.dispose()
    rescuers = [
        Fork(lambda: serve(database, broker, queues, NEVER, ends=False)),
        Fork(lambda: beat(database, broker)),
    ]
    try:
        _wait_for_the_end(engine)
    finally:
        for each in rescuers:
            os.kill(each.pid, signal.SIGKILL)
            each.wait()
    _tell_of_runs(engine, sent)
    engine.dispose()


def beat(database: str, broker: str) -> None:
    app = worker_app(database, broker)
    declare(app, make_engine(make_url(database)), Steps(NEVER))
    scheduler = RoutineScheduler(app, lazy=True)
    while True:
        scheduler.tick()


def _wait_for_the_end(engine: Engine) -> None:
    unfinished = sa.select(sa.func.count()).where(runs.c.state.in_([s.value for s in UNFINISHED]))

    def is_over() -> bool:
        with engine.connect() as connection:
            return connection.execute(unfinished).scalar_one() == 0

    with contextlib.suppress(TimeoutError):  # what is told then says it
        wait_for(is_over, 60, 0.2)
    time.sleep(2)  # what is begun once more would be so by then


def _tell_of_runs(engine: Engine, sent: dict[UUID, tuple[str, int, int]]) -> None:
    with engine.connect() as connection:
        rows = {row.id: row for row in connection.execute(sa.select(runs)).all()}
        effects = [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM effects").all()]
    for run, (task, number, code) in sent.items():
        row = rows[run]
        counts = {what: effects.count((str(run), what)) for what in ("begin", "done")}
        told = {"state": row.state, "reason": row.reason, "attempts": row.attempts}
        tell(task=task, step=number, code=code, **told, **counts)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    step_workers(*sys.argv[1:])
