"""The ledger of one app, as far as it can be reached from this process.

While the database is away tasks neither fail nor wait for it, and what there is to record is kept
in memory, and written once it answers.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from celery import Celery, signals
from celery.utils.log import get_logger
from sqlalchemy.exc import SQLAlchemyError

from . import aio
from .clock import DATABASE, Clock
from .config import Settings
from .errors import SettingsError, StoreError
from .factories import factory_at
from .storage import RunLedger

#: Seconds after a failure until the ledger is asked again; doubling.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 2.0
#: Seconds of an outage in which no run is begun without the ledger: a restart is over by then, and
#: what nothing is known of is run once more if its worker dies before it could be recorded.
PATIENCE_SECONDS = 15.0
#: What is kept in memory at most; beyond that the oldest is dropped.
MOST_KEPT = 10_000
#: Seconds that a process which ends spends on writing what it has kept.
FLUSH_SECONDS = 1.0
#: Seconds that a fork waits for the statements of other threads.
FORK_SECONDS = 1.0

logger = get_logger(__name__)
T = TypeVar("T")


class Book:
    """What there is of a ledger: one log line for each outage, and one at its end."""

    def __init__(self, app: Celery, clock: Clock = DATABASE) -> None:
        self._clock = clock
        #: One thread after the other: there is one connection, and all would wait for a server
        #: that one of them knows to be away.
        self.lock = threading.Lock()
        self._ledger: RunLedger | None = None
        self._pause = 0.0
        self._shut_until = 0.0
        self._away_since: float | None = None
        self._kept: deque[Callable[[], bool]] = deque()
        self._changed = threading.Condition()
        self._writer: threading.Thread | None = None
        self._overflowed = False
        self.settings, self._make = _settings_of(app, clock)

    @property
    def exists(self) -> bool:
        """Whether there is a ledger at all, be it away."""
        return self._make is not None

    @property
    def seconds_shut(self) -> float:
        """How long it will not be asked, as it did not answer just now."""
        return max(0.0, self._shut_until - self._clock.monotonic())

    def ask(self, question: Callable[[RunLedger], T]) -> T | None:
        """The ledger's answer, or None if there is none to be had; no *question* answers None."""
        if self._make is None:
            return None
        with self.lock:
            if self.seconds_shut:
                return None
            asked_at = self._clock.monotonic()
            try:
                if self._ledger is None:
                    self._ledger = self._make()
                answer = question(self._ledger)
            except (SQLAlchemyError, StoreError, ImportError, OSError) as error:
                self._fail(error, asked_at)
                return None
            self._succeed()
            return answer

    def bridge(self) -> bool:
        """Wait a moment, and ask again then; false: it is away for too long, or there is none."""
        if self._make is None:
            return False
        if (since := self._away_since) is None:
            return True
        left = since + PATIENCE_SECONDS - self._clock.monotonic()
        if left > 0:
            aio.pause(min(left, self.seconds_shut))
        return left > 0

    def _fail(self, error: BaseException, asked_at: float) -> None:
        if self._away_since is None:
            self._away_since = asked_at
            told = " ".join(str(getattr(error, "orig", None) or error).split())
            logger.warning("routines run, but the database cannot be reached: %s", told)
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._shut_until = self._clock.monotonic() + self._pause

    def _succeed(self) -> None:
        if self._away_since is not None:
            logger.info("the database can be reached again: runs are recorded")
        self._away_since, self._pause, self._overflowed = None, 0.0, False

    def keep(self, write: Callable[[], bool]) -> None:
        """Call *write*, on a thread of its own, until it returns true; after an outage, that is.

        *write* may be kept twice. What is kept is lost with the process, but for what it writes
        within `FLUSH_SECONDS` at its end.
        """
        if self._make is None:
            return
        with self._changed:
            if len(self._kept) >= MOST_KEPT:
                self._kept.popleft()
                if not self._overflowed:
                    logger.error(
                        "more than %d runs wait to be recorded: the oldest never will be", MOST_KEPT
                    )
                self._overflowed = True
            self._kept.append(write)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="runs", daemon=True)
                self._writer.start()

    def _write(self) -> None:
        while (write := self._next()) is not None:
            try:
                written = write()
            except Exception:
                logger.exception("a run could not be recorded")
                written = True
            with self._changed:
                if self._kept and self._kept[0] is write:  # not dropped meanwhile
                    self._kept.popleft()
                    if not written:
                        self._kept.append(write)

    def _next(self) -> Callable[[], bool] | None:
        """What to write next, once the ledger may be asked; None: the thread ends."""
        with self._changed:
            if self._kept and self.seconds_shut:
                self._changed.wait(self.seconds_shut)
            if self._kept:
                return self._kept[0]
            self._writer = None
            self._changed.notify_all()
            return None

    def flush(self) -> None:
        """Write what is kept, for `FLUSH_SECONDS` at most, as the process ends."""
        with self._changed:
            self._shut_until = 0.0
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._writer is None, FLUSH_SECONDS):
                logger.error("the database is away, and %d runs are not recorded", len(self._kept))


def _settings_of(app: Celery, clock: Clock) -> tuple[Settings, Callable[[], RunLedger] | None]:
    """The settings, and what makes the ledger, if there is any."""
    try:
        settings = Settings.load(app.conf, scheduler=False)
        if settings.worker_ledger is not None:
            return settings, partial(
                factory_at("worker_ledger", settings.worker_ledger), settings, clock=clock
            )
    except SettingsError as error:
        logger.error("routines run, but nothing is recorded of them: %s", error)  # noqa: TRY400
        return Settings(), None
    if (url := settings.scheduler_db_uri) is None:
        logger.warning(
            "routines run, but nothing is recorded of them, nor are duplicates dropped: "
            "scheduler_db_uri is not set in this worker"
        )
        return settings, None
    from .store.ledger import Ledger  # not before a task runs: most of what declares one runs none

    return settings, partial(Ledger.at, url, settings.scheduler_db_schema)


class _Books:
    """Those of this process. A forked one has its own: what its parent has kept is its parent's."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._books: WeakKeyDictionary[Celery, Book] = WeakKeyDictionary()
        self._held: list[threading.Lock] = []
        self._inherited: list[Any] = []

    def of(self, app: Celery) -> Book:
        with self._making:
            if app not in self._books:
                self._books[app] = Book(app)
            return self._books[app]

    def all(self) -> list[Book]:
        with self._making:
            return list(self._books.values())

    def before_fork(self) -> None:
        """A child must not begin with a lock of the database's client that nobody will release."""
        for book in self.all():
            if book.lock.acquire(timeout=FORK_SECONDS):
                self._held.append(book.lock)

    def after_fork(self) -> None:
        while self._held:
            self._held.pop().release()

    def after_fork_in_child(self) -> None:
        self._inherited.append(self._books)
        self._making, self._books, self._held = threading.Lock(), WeakKeyDictionary(), []


_here = _Books()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_here.before_fork,
        after_in_parent=_here.after_fork,
        after_in_child=_here.after_fork_in_child,
    )


def book_of(app: Celery) -> Book:
    """Made at the first run, as the settings of a worker are complete by then."""
    return _here.of(app)


def _on_shutdown(**_: Any) -> None:
    for book in _here.all():
        book.flush()


signals.worker_process_shutdown.connect(_on_shutdown, weak=False, dispatch_uid=__name__)
signals.worker_shutdown.connect(_on_shutdown, weak=False, dispatch_uid=__name__)
