"""``celery beat``'s scheduler: ``-S routines``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from celery.beat import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from . import migrations, registrar
from .clock import DATABASE, Clock
from .config import Settings, shown_url, zone_name
from .dispatch import Publisher, RunEntry
from .errors import KitError, SettingsError
from .loop import Loop
from .outage import Outage
from .reconcile import Plan
from .store import Presence, Store
from .store.connections import MIGRATION_TIMEOUT, deadline, engine_for, wait_in_python
from .store.faults import Fault, kind_of
from .wakeups import Wakeups, wakeups_for

logger = logging.getLogger(__name__)

#: Seconds to wait after an error that is neither an outage nor a lost race.
FAULT_SECONDS = 5.0
#: Seconds to wait after a deadlock or a lock that was not to be had.
RACE_SECONDS = 0.05
#: Seconds after which races that are lost again and again are told.
RACES_SECONDS = 5.0
#: Seconds that SQLite waits for a lock before the turn is tried anew: SIGTERM has to wait as well.
LOCK_SECONDS = 0.5
#: Seconds that the farewell of a clean stop may take.
FAREWELL_SECONDS = 1.0


class RoutineScheduler(Scheduler):  # type: ignore[misc]
    """Runs the active rows of ``routines``.

    Any number of these may run side by side on one database: what is due is claimed by one of
    them. It connects to nothing before its first tick, as ``celery beat`` makes a second one
    for its banner only.

    Raises:
        SettingsError: settings are missing or wrong; all of them are named.
    """

    def __init__(self, app: Celery, *args: Any, clock: Clock = DATABASE, **kwargs: Any) -> None:
        self.settings = Settings.load(app.conf, scheduler=True)
        _refuse(app, self.settings)
        max_interval = kwargs.pop("max_interval", None) or self.settings.scheduler_max_interval
        self._clock = clock
        self._made: _Running | None = None
        self._running: _Running | None = None
        self._database = Outage("the database", clock)
        self._races_since: float | None = None
        super().__init__(app, *args, max_interval=max_interval, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing yet: the first tick connects."""

    @property
    def info(self) -> str:
        """The line of the banner."""
        return f"    . db -> {shown_url(self.settings.scheduler_db_uri)}"

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """One turn and the wait after it; returns 0, as all waiting is done in here.

        A stop that comes meanwhile ends it within the turn.
        """
        try:
            self._wait(self._turn())
        except (SystemExit, KeyboardInterrupt) as stop:
            _let_go(stop)
            self._leave()
            raise
        return 0

    def _turn(self) -> float:
        try:
            running = self._running or self._start()
            seconds = running.loop.turn()
        except KitError:
            raise
        except SQLAlchemyError as error:
            return self._trouble(error)
        except Exception:  # the loop's one catch: whatever it is, the other routines go on
            logger.exception("routines: a turn failed, going on in %g s", FAULT_SECONDS)
            return FAULT_SECONDS
        self._database.ends()
        self._races_since = None
        return min(seconds, float(self.max_interval))

    def _trouble(self, error: SQLAlchemyError) -> float:
        kind = kind_of(error)
        if kind is Fault.TRANSIENT and not self._races_for_long():
            logger.debug("routines: %s; trying again", error)
            return RACE_SECONDS
        if kind is not Fault.OTHER:
            return self._database.goes_on(error)
        logger.error("routines: a turn failed, going on in %g s", FAULT_SECONDS, exc_info=error)
        if self._made is not None:
            # After a fail-over, say, the connection may be to a server that only reads.
            self._made.store.engine.dispose()
        return FAULT_SECONDS

    def _races_for_long(self) -> bool:
        """A lost race is none of anybody's business; one that never ends is an outage."""
        now = self._clock.monotonic()
        self._races_since = self._races_since or now
        return now - self._races_since > RACES_SECONDS

    def _start(self) -> _Running:
        """Connect, bring the tables up to date, listen, reconcile."""
        _obey_sigterm()
        wait_in_python()
        # Made once: a start that fails leaves a connection that listens, and is begun again.
        self._made = self._made or _Running(self.app, self.settings, self._clock, self)
        self._made.begin()
        self._running = self._made
        return self._made

    def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self._running is None:
            threading.Event().wait(seconds)
        else:
            self._running.wakeups.wait(seconds)

    def _leave(self) -> None:
        """A clean stop tells the other schedulers, if the database can be told at once.

        In a thread, as no driver heeds one deadline in every state, SQLite's none at all.
        """
        if self._running is None:
            return
        store, published = self._running.farewell_store, list(self._running.loop.published)
        farewell = threading.Thread(target=_say_farewell, args=(store, published), daemon=True)
        farewell.start()
        farewell.join(FAREWELL_SECONDS)
        if farewell.is_alive():
            logger.info("routines: stopped without a farewell: the database does not answer")

    def apply_async(self, entry: Any, producer: Any = None, **kwargs: Any) -> Any:
        """Send one run's message; called by ``apply_entry``."""
        if self._running is not None and isinstance(entry, RunEntry):
            return self._running.publisher.send(entry, producer)
        return super().apply_async(entry, producer=producer, **kwargs)

    def sync(self) -> None:
        """Nothing: what has to be kept is in the database already."""

    def close(self) -> None:
        """Nothing, as often as celery likes: it calls this from its signal handler, perhaps in
        the middle of a statement of ours."""


class _Running:
    """What a scheduler has once it is connected."""

    def __init__(
        self, app: Celery, settings: Settings, clock: Clock, scheduler: RoutineScheduler
    ) -> None:
        url = settings.scheduler_db_uri
        if url is None:
            raise SettingsError(["scheduler_db_uri is missing"])
        self._app, self._settings, self._timezone = app, settings, zone_name(app)
        self._plan: Plan | None = None
        engine = engine_for(url, "scheduler", lock_seconds=LOCK_SECONDS)
        me = Presence(uuid4(), settings.scheduler_namespace, socket.gethostname(), os.getpid())
        self.store = Store(
            engine,
            me,
            timezone=self._timezone,
            clock=clock,
            allowed_tasks=settings.scheduler_allowed_tasks,
        )
        #: On a connection of its own: a stop may leave the other one in any state.
        self.farewell_store = Store(
            engine_for(url, "farewell", lock_seconds=LOCK_SECONDS), me, clock=clock
        )
        self.migrating_engine = engine_for(url, "migrations", statement_timeout=MIGRATION_TIMEOUT)
        self.wakeups: Wakeups = wakeups_for(
            engine, engine_for(url, "listener"), notify=settings.scheduler_notify
        )
        self.publisher = Publisher(
            app,
            scheduler.apply_entry,
            clock,
            patience=timedelta(seconds=settings.scheduler_rescue_after) / 2,
            producer_class=scheduler.Producer,
        )
        self.loop = Loop(self.store, self.publisher, settings, clock, self._register)

    def _register(self) -> bool:
        """Whether a live scheduler keeps a routine that this one no longer declares."""
        self._plan = registrar.register(
            self._app, self.store, self._settings, self._timezone, self._plan
        )
        return bool(self._plan.held)

    def begin(self) -> None:
        if self._settings.create_table:
            with deadline(MIGRATION_TIMEOUT):
                done = migrations.migrate(self.migrating_engine)
            self.migrating_engine.dispose()
            if done:
                logger.info("routines: %s", done)
        else:
            migrations.verify(self.store.engine)
        # First listen, then look: what is committed in between is heard of.
        self.wakeups.listen()
        self.loop.begin()
        logger.info("routines: ready; changes are heard of by %s", self.wakeups.how)


def _let_go(error: BaseException) -> None:
    """Drop what the frames of a statement that was cut short still hold: on SQLite, the lock."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__context__


def _say_farewell(store: Store, published: Sequence[UUID]) -> None:
    try:
        with deadline(FAREWELL_SECONDS):
            store.leave(published)
    except SQLAlchemyError as error:
        logger.info("routines: stopped without a farewell: %s", error)


def _refuse(app: Celery, settings: Settings) -> None:
    """Settings of Celery's with which a scheduler cannot do its work."""
    faults = []
    if app.conf.task_always_eager:
        faults.append("app.conf.task_always_eager = True: tasks would run inside the scheduler")
    url = settings.scheduler_db_uri
    broker = str(app.conf.broker_write_url or app.conf.broker_url or "")
    if url is not None and url.get_backend_name() == "sqlite" and "sqlite:///" in broker:
        file = broker.partition("sqlite:///")[2].partition("?")[0]
        if url.database and Path(file).resolve() == Path(url.database).resolve():
            faults.append(
                f"broker_url and scheduler_db_uri share the SQLite file {url.database}: the "
                "broker's writes would block the scheduler's; give each a file of its own"
            )
    if faults:
        raise SettingsError(faults)


def _obey_sigterm() -> None:
    """Under ``worker -B`` the process has no handler and would die without a farewell."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
