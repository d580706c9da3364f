"""What a scheduler has once it is connected: its stores, its loop, and their deadlines."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from celery import Celery
from sqlalchemy.engine import URL

from . import migrations, registrar
from .clock import Clock
from .config import Settings, zone_name
from .dispatch import Publisher
from .errors import SettingsError
from .factories import factory_at
from .loop import Loop
from .pipeline import NOTHING_AHEAD, Ahead
from .reconcile import Plan
from .storage import SchedulerStore
from .storage.values import Presence
from .store.connections import MIGRATION_TIMEOUT, engine_for
from .store.store import Store
from .store.watchdog import at_least
from .wakeups import Polling, Wakeups, wakeups_for

logger = logging.getLogger(__name__)

#: Claims under way while a batch is published, on PostgreSQL, each with a connection of its own:
#: while one waits for its answers, the other decides.
CLAIMS_AHEAD = 2
#: Seconds by which what is due is claimed before it is, on PostgreSQL, at most: in which a thousand
#: can be claimed. So much later orders may be obeyed; see `lead`.
LEAD_SECONDS = 0.15
#: Seconds that SQLite waits for a lock before the turn is tried anew: SIGTERM has to wait as well.
LOCK_SECONDS = 0.5
#: Seconds within which the database should answer, and those that a slow one is given in the end.
#: Registering may have to wait for other schedulers, and takes the longest.
ANSWER_SECONDS, LONGEST_SECONDS = 1.5, 30.0
#: Seconds that the farewell of a clean stop may take.
FAREWELL_SECONDS = 0.75


class StoreFactory(Protocol):
    """What ``scheduler_store`` names."""

    def __call__(
        self, settings: Settings, me: Presence, *, timezone: str, clock: Clock
    ) -> SchedulerStore:
        """A store on connections of its own; *me*: this scheduler, *timezone*: of schedules that
        name none. Called twice with one *me*: the second store says the farewell.

        To take the present from: ``clock.now()``, or the storage's own clock where that is None.
        """


class SqlStorage:
    """The stores of a scheduler in SQL, and what they need besides."""

    def __init__(
        self, url: URL, settings: Settings, me: Presence, timezone: str, clock: Clock
    ) -> None:
        self._create_table = settings.create_table
        #: Elsewhere claims would wait for one another, or their server is what takes the time.
        is_postgresql = url.get_backend_name() == "postgresql"
        # Nobody can wait for a clock that stands still until it is moved.
        lead = LEAD_SECONDS if clock.now() is None else 0.0
        self.ahead = Ahead(CLAIMS_AHEAD, lead) if is_postgresql else NOTHING_AHEAD
        engine = partial(engine_for, url, schema=settings.scheduler_db_schema)
        self._engine = engine(
            "scheduler",
            pool_size=1 + self.ahead.claims,
            lock_seconds=LOCK_SECONDS,
            # A claim of very many runs takes its time on any server.
            statement_timeout=ANSWER_SECONDS + settings.scheduler_batch_size / 1000,
            longest_timeout=LONGEST_SECONDS,
        )
        self.store: SchedulerStore = Store(
            self._engine,
            me,
            timezone=timezone,
            clock=clock,
            allowed_tasks=settings.scheduler_allowed_tasks,
        )
        #: On a connection of its own: a stop may leave the other one in any state.
        self.farewell_store: SchedulerStore = Store(
            engine("farewell", lock_seconds=LOCK_SECONDS, statement_timeout=FAREWELL_SECONDS),
            me,
            clock=clock,
        )
        self._migrating_engine = engine("migrations", statement_timeout=MIGRATION_TIMEOUT)
        self.wakeups: Wakeups = wakeups_for(
            self._engine,
            engine("listener", statement_timeout=ANSWER_SECONDS),
            notify=settings.scheduler_notify,
        )

    def prepare(self) -> None:
        """Bring the tables up to date, or see that they are."""
        if not self._create_table:
            migrations.verify(self._engine)
        elif not migrations.is_current(self._engine):
            done = migrations.migrate(self._migrating_engine)
            self._migrating_engine.dispose()
            if done:
                logger.info("routines: %s", done)

    def patient(self) -> AbstractContextManager[None]:
        """The longest deadline there is, for a while."""
        return at_least(self._engine, LONGEST_SECONDS)

    def reconnect(self) -> None:
        self._engine.dispose()


class OtherStorage:
    """The stores that ``scheduler_store`` makes. They prepare what they are stored in themselves,
    and nobody calls: they are looked at once a second."""

    def __init__(
        self, path: str, settings: Settings, me: Presence, timezone: str, clock: Clock
    ) -> None:
        factory: StoreFactory = factory_at("scheduler_store", path)
        self.store, self.farewell_store = (
            factory(settings, me, timezone=timezone, clock=clock) for _ in range(2)
        )
        self.wakeups: Wakeups = Polling()
        self.ahead = NOTHING_AHEAD

    def prepare(self) -> None:
        """Nothing that is known here."""

    def patient(self) -> AbstractContextManager[None]:
        return nullcontext()

    def reconnect(self) -> None:
        """The store's business."""


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
        self._app, self._settings, self._timezone = app, settings, zone_name(app)
        self._plan: Plan | None = None
        me = Presence(uuid4(), settings.scheduler_namespace, socket.gethostname(), os.getpid())
        self.storage = _storage(settings, me, self._timezone, clock)
        self.publisher = Publisher(
            app,
            apply_entry,
            clock,
            patience=timedelta(seconds=settings.scheduler_rescue_after) / 2,
            producer_class=producer_class,
        )
        self.loop = Loop(
            self.storage.store,
            self.publisher,
            settings,
            clock,
            self._register,
            self._on_worker_lost,
            ahead=self.storage.ahead,
        )

    def _on_worker_lost(self, task: str) -> str | None:
        """``lost`` or ``again`` for a task whose worker drops duplicates; None for any other."""
        known = self._app.tasks.get(task)
        if not getattr(known, "begins_its_runs", False):
            return None
        return getattr(known, "on_worker_lost", "lost")

    def _register(self) -> bool:
        """Whether a live scheduler keeps a routine that this one no longer declares."""
        with self.storage.patient():
            self._plan = registrar.register(
                self._app, self.storage.store, self._settings, self._timezone, self._plan
            )
        return bool(self._plan.held)

    def begin(self) -> None:
        self.storage.prepare()
        # First listen, then look: what is committed in between is heard of.
        self.storage.wakeups.listen()
        self.loop.begin()
        logger.info("routines: ready; changes are heard of by %s", self.storage.wakeups.how)


def _storage(
    settings: Settings, me: Presence, timezone: str, clock: Clock
) -> SqlStorage | OtherStorage:
    if settings.scheduler_store is not None:
        return OtherStorage(settings.scheduler_store, settings, me, timezone, clock)
    if settings.scheduler_db_uri is None:
        raise SettingsError(["scheduler_db_uri is missing"])
    return SqlStorage(settings.scheduler_db_uri, settings, me, timezone, clock)
