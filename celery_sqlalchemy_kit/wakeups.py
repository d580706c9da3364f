"""How a scheduler hears that the table has changed, while it waits."""

from __future__ import annotations

import logging
import select
import time
from typing import Any, Protocol

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from .clock import pause
from .migrations.triggers import CHANNEL
from .store.watchdog import leave_alone

logger = logging.getLogger(__name__)

#: Seconds between looks where the database cannot call.
POLL_SECONDS = 1.0
#: Seconds between looks at SQLite's counter of changes, which costs microseconds.
SQLITE_SECONDS = 0.05


class Wakeups(Protocol):
    """Waits for a change or for time to pass."""

    #: How changes are heard of, for people.
    how: str

    def listen(self) -> None:
        """Begin to hear; what is committed from now on is not missed. Idempotent."""

    def wait(self, seconds: float) -> None:
        """Return after a change, or after *seconds*, or earlier without a reason."""

    def forget(self) -> None:
        """The database was away: what hears over a connection of its own needs a new one."""


class Polling:
    """Nobody calls: wait at most a second, so that the table is looked at again."""

    how = f"a look every {POLL_SECONDS:g} s"

    def listen(self) -> None:
        """Nothing to do."""

    def wait(self, seconds: float) -> None:
        pause(min(seconds, POLL_SECONDS))

    def forget(self) -> None:
        """Nothing to do."""


class DataVersion:
    """SQLite: ``PRAGMA data_version`` moves when any other connection commits.

    *engine* must have one connection only, the one that also claims: its own commits do not
    move the counter.
    """

    how = f"data_version, every {SQLITE_SECONDS * 1000:g} ms"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: int | None = None

    def listen(self) -> None:
        self._seen = self._version()

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            version = self._version()
            if version not in (None, self._seen):
                self._seen = version
                return
            pause(min(left, SQLITE_SECONDS))

    def forget(self) -> None:
        """Nothing to do: it hears over the connection that also claims."""

    def _version(self) -> int | None:
        """None: it cannot be had now, as while somebody else has locked the whole file."""
        try:
            connection = self._engine.raw_connection()
            try:
                return int(connection.cursor().execute("PRAGMA data_version").fetchone()[0])
            finally:
                connection.close()
        except (SQLAlchemyError, self._engine.dialect.dbapi.Error):  # type: ignore[union-attr]
            return None


class Notifications:
    """PostgreSQL: LISTEN on a connection of its own; falls back to polling while it has none."""

    how = "NOTIFY"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pooled: Any = None
        self._polling = Polling()
        self._deaf = False

    def listen(self) -> None:
        if self._pooled is not None:
            return
        try:
            self._pooled = self._engine.raw_connection()
            driver = self._pooled.driver_connection
            driver.autocommit = True
            driver.cursor().execute(f"LISTEN {CHANNEL}")
            leave_alone(self._pooled)
        except (SQLAlchemyError, self._error()) as error:
            self._lose(error)
        else:
            if self._deaf:
                logger.warning("routines: LISTEN works again")
            self._deaf = False

    def wait(self, seconds: float) -> None:
        if self._pooled is None:
            self.listen()
            if self._pooled is None:
                self._polling.wait(seconds)
            return
        try:
            if not _notified(self._pooled.driver_connection):
                readable, _, _ = select.select([self._pooled.driver_connection], [], [], seconds)
                if readable:
                    _notified(self._pooled.driver_connection)
        except (self._error(), OSError, ValueError) as error:
            self._lose(error)

    def forget(self) -> None:
        pooled, self._pooled = self._pooled, None
        if pooled is not None:
            pooled.invalidate()

    def _error(self) -> type[Exception]:
        return self._engine.dialect.dbapi.Error  # type: ignore[union-attr]

    def _lose(self, error: BaseException) -> None:
        if not self._deaf:
            logger.warning("routines: no LISTEN, changes are polled for: %s", error)
        self._deaf = True
        self.forget()


def _notified(driver: Any) -> bool:
    """Whether notifications have come; takes them off the connection."""
    if hasattr(driver, "pgconn"):  # psycopg 3
        driver.pgconn.consume_input()
        heard = False
        while driver.pgconn.notifies() is not None:
            heard = True
        return heard
    driver.poll()
    heard = bool(driver.notifies)
    driver.notifies.clear()
    return heard


def wakeups_for(engine: Engine, listener: Engine, *, notify: bool) -> Wakeups:
    """The way that suits the database; *listener* is an engine for LISTEN alone."""
    if engine.dialect.name == "sqlite":
        return DataVersion(engine)
    if engine.dialect.name == "postgresql" and notify:
        return Notifications(listener)
    return Polling()
