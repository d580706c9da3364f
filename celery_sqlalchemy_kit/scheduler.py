"""``celery beat``'s scheduler: ``-S routines``."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from .clock import DATABASE, Clock, pause
from .config import Settings, shown_url
from .errors import KitError, SettingsError, StoreError
from .loop import Loop
from .messages import RunEntry
from .outage import STEP_SECONDS, Outage
from .running import FAREWELL_SECONDS, Running
from .storage import SchedulerStore
from .store.connections import reaches, wait_in_python
from .store.faults import Fault, kind_of

logger = logging.getLogger(__name__)

#: Seconds to wait after an error that is neither an outage nor a lost race.
FAULT_SECONDS = 5.0
#: Seconds to wait after a deadlock or a lock that was not to be had.
RACE_SECONDS = 0.05
#: Seconds after which races that are lost again and again are told.
RACES_SECONDS = 5.0
#: Longest turn without a word to Celery, while there is nothing to be done.
TURN_SECONDS = 5.0


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
        if faults := refused(app, self.settings):
            raise SettingsError(faults)
        max_interval = kwargs.pop("max_interval", None) or self.settings.scheduler_max_interval
        self._clock = clock
        self._made: Running | None = None
        self._running: Running | None = None
        self._database = Outage("the database", clock, self._reaches_database)
        self._races_since: float | None = None
        super().__init__(app, *args, max_interval=max_interval, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing yet: the first tick connects."""

    @property
    def info(self) -> str:
        """The line of the banner."""
        if self.settings.scheduler_store is not None:
            return f"    . store -> {self.settings.scheduler_store}"
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
        if self._database.lasts and not self._database.answered():
            return TURN_SECONDS
        try:
            running = self._running or self._start()
            seconds = running.loop.turn()
        except (SQLAlchemyError, StoreError) as error:
            return self._trouble(error)
        except KitError:
            raise
        except Exception:  # the loop's one catch: whatever it is, the other routines go on
            logger.exception("routines: a turn failed, going on in %g s", FAULT_SECONDS)
            return FAULT_SECONDS
        self._database.ends()
        self._races_since = None
        return min(seconds, float(self.max_interval))

    def _trouble(self, error: SQLAlchemyError | StoreError) -> float:
        kind = kind_of(error)
        if kind is Fault.TRANSIENT and not self._races_for_long():
            logger.debug("routines: %s; trying again", error)
            return RACE_SECONDS
        if kind is not Fault.OTHER:
            # Without the statement, which is not at fault.
            self._database.goes_on(getattr(error, "orig", None) or error)
            if self._running is not None:
                self._running.storage.wakeups.forget()
            return TURN_SECONDS
        logger.error("routines: a turn failed, going on in %g s", FAULT_SECONDS, exc_info=error)
        if self._made is not None:
            # After a fail-over, say, the connection may be to a server that only reads.
            self._made.storage.reconnect()
        return FAULT_SECONDS

    def _races_for_long(self) -> bool:
        """A lost race is none of anybody's business; one that never ends is an outage."""
        now = self._clock.monotonic()
        self._races_since = self._races_since or now
        return now - self._races_since > RACES_SECONDS

    def _start(self) -> Running:
        """Connect, bring the tables up to date, listen, reconcile."""
        if self._made is None:
            # What has been imported stays: the collector would go through it, now and again.
            gc.freeze()
        _obey_sigterm()
        wait_in_python()
        # Made once: a start that fails leaves a connection that listens, and is begun again.
        self._made = self._made or Running(
            self.app, self.settings, self._clock, self.apply_entry, self.Producer
        )
        self._made.begin()
        self._running = self._made
        return self._made

    def _reaches_database(self) -> bool:
        if self.settings.scheduler_store is not None:
            return True  # only a turn can tell
        url = self.settings.scheduler_db_uri
        return url is not None and reaches(url)

    def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self._database.lasts:
            self._database.wait(seconds)
        elif self._running is None:
            pause(seconds)
        else:
            self._running.storage.wakeups.wait(seconds)

    def _leave(self) -> None:
        """A clean stop tells the other schedulers, if the database can be told at once.

        In a thread, as no driver heeds one deadline in every state, SQLite's none at all.
        """
        if self._running is None:
            return
        store, loop = self._running.storage.farewell_store, self._running.loop
        farewell = threading.Thread(target=_say_farewell, args=(store, loop), daemon=True)
        farewell.start()
        until = self._clock.monotonic() + FAREWELL_SECONDS
        while farewell.is_alive() and self._clock.monotonic() < until:
            pause(STEP_SECONDS)
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


def _let_go(error: BaseException) -> None:
    """Drop what the frames of a statement that was cut short still hold: on SQLite, the lock."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__context__


def _say_farewell(store: SchedulerStore, loop: Loop) -> None:
    loop.finish(FAREWELL_SECONDS / 2)
    published = loop.published
    while True:
        try:
            store.leave(published)
        except (SQLAlchemyError, StoreError) as error:
            if kind_of(error) is Fault.TRANSIENT:
                pause(RACE_SECONDS)
                continue
            logger.info("routines: stopped without a farewell: %s", error)
        return


def refused(app: Celery, settings: Settings) -> list[str]:
    """Settings of Celery's with which a scheduler cannot do its work, and why; none if it can."""
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
    return faults


def _obey_sigterm() -> None:
    """Under ``worker -B`` the process has no handler and would die without a farewell."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
