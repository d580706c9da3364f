"""Processes that die at a step: before a statement, a COMMIT, a message, about a task's body.

For every number there is a fork that dies, by ``os._exit``, at the step of that number, until one
lives to the end. What it leaves is left to those that come after it. Nothing in the package is
made for that: the steps are events of SQLAlchemy, kombu and Celery.
"""

from __future__ import annotations

import json
import logging
import os
import sys

import sqlalchemy as sa
from celery import Celery, signals
from kombu.message import Message
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

logger = logging.getLogger(__name__)

DIED = 9
#: More steps than there are.
NEVER = 10_000


class Steps:
    """Counts the steps of this process, and dies at one of them."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self, *_: object, **__: object) -> None:
        self._left -= 1
        if not self._left:
            os._exit(DIED)

    def listen(self, besides: Engine | None = None) -> None:
        """Count what happens in this process, but not on the engine *besides*."""

        def executes(conn, cursor, statement, parameters, context, executemany):
            if conn.engine is not besides:
                self.step()

        sa.event.listen(Engine, "before_cursor_execute", executes)
        self._count_driver(besides)
        # Not after a message: who listens there keeps kombu from gathering them.
        signals.before_task_publish.connect(self.step, weak=False)
        for moment in (signals.task_received, signals.task_prerun, signals.task_postrun):
            moment.connect(self.step, weak=False)
        acknowledge = Message.ack

        def ack(message, *args, **kwargs):
            self.step()
            acknowledge(message, *args, **kwargs)

        Message.ack = ack

    def _count_driver(self, besides: Engine | None) -> None:
        """Each COMMIT, and each statement that is given to the driver without SQLAlchemy's doing,
        which has no context for it."""
        execute, commit = DefaultDialect.do_execute, DefaultDialect.do_commit

        def do_execute(dialect, cursor, statement, parameters, context=None):
            if context is None:
                self.step()
            execute(dialect, cursor, statement, parameters, context)

        def do_commit(dialect, connection):
            if besides is None or dialect is not besides.dialect:
                self.step()
            commit(dialect, connection)

        DefaultDialect.do_execute, DefaultDialect.do_commit = do_execute, do_commit


class Fork:
    """A forked process; *work* is all it does."""

    def __init__(self, work) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work()
            except BaseException:
                logger.exception("a fork failed")
                os._exit(1)
            os._exit(0)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def tell(**values: object) -> None:
    sys.stdout.write(json.dumps(values, default=str) + "\n")
    sys.stdout.flush()


def app_of(database: str, broker: str, **settings: object) -> Celery:
    app = Celery("stepping", broker=broker, set_as_current=True)
    app.conf.update(
        scheduler_db_uri=database,
        scheduler_rescue_after=2,
        scheduler_max_interval=0.01,
        scheduler_misfire_grace=3600,
        task_ignore_result=True,
        broker_transport_options={"visibility_timeout": 1},
        **settings,
    )
    return app
