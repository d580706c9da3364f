"""What a scheduler has once it is connected: its stores, its loop, and their deadlines."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from celery import Celery

from . import migrations, registrar
from .clock import Clock
from .config import Settings, zone_name
from .dispatch import Publisher
from .errors import SettingsError
from .loop import Loop
from .reconcile import Plan
from .store import Presence, Store
from .store.connections import MIGRATION_TIMEOUT, engine_for
from .store.watchdog import at_least
from .wakeups import Wakeups, wakeups_for

logger = logging.getLogger(__name__)

#: Seconds that SQLite waits for a lock before the turn is tried anew: SIGTERM has to wait as well.
LOCK_SECONDS = 0.5
#: Seconds within which the database should answer, and those that a slow one is given in the end.
#: Registering may have to wait for other schedulers, and takes the longest.
ANSWER_SECONDS, LONGEST_SECONDS = 1.5, 30.0
#: Seconds that the farewell of a clean stop may take.
FAREWELL_SECONDS = 0.75


class Running:
    """What a scheduler has once it is connected."""

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        clock: Clock,
        apply_entry: Callable[..., None],
        producer_class: Callable[..., Any],
    ) -> None:
        url = settings.scheduler_db_uri
        if url is None:
            raise SettingsError(["scheduler_db_uri is missing"])
        self._app, self._settings, self._timezone = app, settings, zone_name(app)
        self._plan: Plan | None = None
        engine = partial(engine_for, url, schema=settings.scheduler_db_schema)
        self.engine = engine(
            "scheduler",
            lock_seconds=LOCK_SECONDS,
            # A claim of very many runs takes its time on any server.
            statement_timeout=ANSWER_SECONDS + settings.scheduler_batch_size / 1000,
            longest_timeout=LONGEST_SECONDS,
        )
        me = Presence(uuid4(), settings.scheduler_namespace, socket.gethostname(), os.getpid())
        self.store = Store(
            self.engine,
            me,
            timezone=self._timezone,
            clock=clock,
            allowed_tasks=settings.scheduler_allowed_tasks,
        )
        #: On a connection of its own: a stop may leave the other one in any state.
        self.farewell_store = Store(
            engine("farewell", lock_seconds=LOCK_SECONDS, statement_timeout=FAREWELL_SECONDS),
            me,
            clock=clock,
        )
        self.migrating_engine = engine("migrations", statement_timeout=MIGRATION_TIMEOUT)
        self.wakeups: Wakeups = wakeups_for(
            self.engine,
            engine("listener", statement_timeout=ANSWER_SECONDS),
            notify=settings.scheduler_notify,
        )
        self.publisher = Publisher(
            app,
            apply_entry,
            clock,
            patience=timedelta(seconds=settings.scheduler_rescue_after) / 2,
            producer_class=producer_class,
        )
        self.loop = Loop(
            self.store, self.publisher, settings, clock, self._register, self._on_worker_lost
        )

    def _on_worker_lost(self, task: str) -> str | None:
        """``lost`` or ``again`` for a task whose worker drops duplicates; None for any other."""
        known = self._app.tasks.get(task)
        if not getattr(known, "begins_its_runs", False):
            return None
        return getattr(known, "on_worker_lost", "lost")

    def _register(self) -> bool:
        """Whether a live scheduler keeps a routine that this one no longer declares."""
        with at_least(self.engine, LONGEST_SECONDS):
            self._plan = registrar.register(
                self._app, self.store, self._settings, self._timezone, self._plan
            )
        return bool(self._plan.held)

    def begin(self) -> None:
        if not self._settings.create_table:
            migrations.verify(self.engine)
        elif not migrations.is_current(self.engine):
            done = migrations.migrate(self.migrating_engine)
            self.migrating_engine.dispose()
            if done:
                logger.info("routines: %s", done)
        # First listen, then look: what is committed in between is heard of.
        self.wakeups.listen()
        self.loop.begin()
        logger.info("routines: ready; changes are heard of by %s", self.wakeups.how)
