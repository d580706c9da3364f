"""Deadlines for a database that never answers: its connection is shut down under the driver.

The driver then takes the server for gone and raises, in whatever call it is waiting. libpq alone
would wait for ever, and a wait callback, which psycopg2 would heed, is the whole process's: it
breaks COPY for everybody else, so only a scheduler has one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from ..clock import pause

logger = logging.getLogger(__name__)

#: Seconds between looks at the connections in use: a deadline is kept to within so much.
TICK_SECONDS = 0.1
#: Looks without a connection in use after which the thread sleeps until there is one.
IDLE_TICKS = 1
#: Quick transactions after which a server that was slow is taken for a quick one again.
QUICK = 20

_KEY = "routines_line"


class _Deadline:
    """Seconds that a statement on one engine's connections may take.

    Up to *longest*, they double with each statement that takes longer, as its server may be alive
    and slow; they are *seconds* again when many transactions in a row have needed no more.
    """

    def __init__(self, seconds: float, longest: float) -> None:
        self._least, self._most = seconds, longest
        self._now = seconds
        self._quick = 0
        #: What is allowed in any case, for a while.
        self.floor = 0.0

    @property
    def seconds(self) -> float:
        return max(self._now, self.floor)

    def miss(self) -> None:
        self._now, self._quick = min(self._most, self._now * 2), 0

    def meet(self, seconds: float) -> None:
        """A transaction whose slowest statement took so long."""
        if self._now > self._least:
            self._quick = self._quick + 1 if seconds < self._least / 2 else 0
            if self._quick >= QUICK:
                self._now = self._least


class _Line:
    """A connection's socket, by a descriptor of our own: a driver may close its own any time."""

    def __init__(self, descriptor: int, deadline: _Deadline) -> None:
        self._descriptor = os.dup(descriptor)
        self._deadline = deadline
        self._since = self._slowest = 0.0
        self.until = math.inf

    def begin(self) -> None:
        self._slowest, self._since = 0.0, time.monotonic()
        self.until = self._since + self._deadline.seconds

    def go_on(self) -> None:
        now = time.monotonic()
        self._slowest = max(self._slowest, now - self._since)
        self._since, self.until = now, now + self._deadline.seconds

    def end(self) -> None:
        self._deadline.meet(max(self._slowest, time.monotonic() - self._since))

    def give_up(self) -> None:
        self._deadline.miss()
        logger.warning(
            "routines: the database has not answered for %.1f s, its connection is given up",
            time.monotonic() - self._since,
        )
        self.cut()

    def cut(self) -> None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as end:
            end.shutdown(socket.SHUT_RDWR)

    def __del__(self) -> None:
        os.close(self._descriptor)


class _Watchdog:
    """One thread a process, from the first connection on; it does not outlive a fork."""

    def __init__(self) -> None:
        #: To be had twice, as garbage that is collected meanwhile may be a connection.
        self._lock = threading.RLock()
        #: Weak, for those of connections that could not be set up: nobody says that they end.
        self._used: WeakSet[_Line] = WeakSet()
        self._awake = threading.Event()
        self._started = False

    def begin(self, line: _Line) -> None:
        line.begin()
        with self._lock:
            self._used.add(line)
            if self._awake.is_set():
                return
            self._awake.set()
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, name="routines-watchdog", daemon=True).start()

    def end(self, line: _Line) -> None:
        with self._lock:
            if line not in self._used:
                return
            self._used.discard(line)
        line.end()

    def _watch(self) -> None:
        idle = 0
        while self._awake.wait():
            pause(TICK_SECONDS)
            now = time.monotonic()
            with self._lock:
                late = [line for line in list(self._used) if line.until <= now]
                for line in late:
                    line.give_up()
                self._used.difference_update(late)
                idle = 0 if len(self._used) else idle + 1
                if idle > IDLE_TICKS:
                    self._awake.clear()


_deadlines: WeakKeyDictionary[Engine, _Deadline] = WeakKeyDictionary()
_watchdog = _Watchdog()


def _after_fork() -> None:
    global _watchdog  # noqa: PLW0603  the parent's has a lock in any state, and no thread here
    _watchdog = _Watchdog()


os.register_at_fork(after_in_child=_after_fork)


def watch(engine: Engine, seconds: float, longest: float | None = None) -> None:
    """Give a deadline to all that goes over *engine*'s connections, once they are connected.

    It is each statement's, and each COMMIT's; what the caller does between two of them counts in.
    Up to *longest* seconds, if that is more, are allowed to a server that proves slow: a
    scheduler's, which has to stop at once when it is told to, whatever it is in the middle of.
    """
    deadline = _deadlines[engine] = _Deadline(seconds, longest or seconds)

    def connected(driver: Any, record: Any) -> None:
        descriptor = _descriptor(driver)
        if descriptor is not None:
            line = record.info[_KEY] = _Line(descriptor, deadline)
            _watchdog.begin(line)  # SQLAlchemy asks a first connection for much by itself

    sa.event.listen(engine, "connect", connected, insert=True)
    sa.event.listen(engine, "checkout", _used)
    sa.event.listen(engine, "checkin", _unused)
    sa.event.listen(engine, "close", _forget)
    sa.event.listen(engine, "before_cursor_execute", _goes_on)
    sa.event.listen(engine, "commit", _goes_on)
    if longest is not None:
        sa.event.listen(engine, "rollback", _rolls_back)
        # By names, as versions of SQLAlchemy differ in what else there is.
        sa.event.listen(engine, "reset", _is_reset, named=True)


@contextlib.contextmanager
def at_least(engine: Engine, seconds: float) -> Iterator[None]:
    """Statements within may take so long."""
    deadline = _deadlines.get(engine)
    if deadline is None:
        yield
        return
    before, deadline.floor = deadline.floor, seconds
    try:
        yield
    finally:
        deadline.floor = before


def leave_alone(pooled: Any) -> None:
    """No deadline any more for a connection that waits on purpose."""
    _forget(None, pooled)


def _used(driver: Any, record: Any, fairy: Any) -> None:
    if (line := record.info.get(_KEY)) is not None:
        _watchdog.begin(line)


def _goes_on(connection: Connection, *_: Any) -> None:
    line = None if connection.invalidated else connection.info.get(_KEY)
    if line is not None:
        line.go_on()


def _rolls_back(connection: Connection) -> None:
    """Of a process that is told to stop in the middle of a transaction no ROLLBACK is waited for:
    the server, if it is there, rolls back what is cut off. Nor is one tried, as its failure would
    take the place of the stop."""
    if not connection.invalidated and _is_stopped(connection.info):
        connection.invalidate()


def _is_reset(*, connection_record: Any, **_: Any) -> None:
    _is_stopped(connection_record.info)


def _is_stopped(info: Mapping[Any, Any]) -> bool:
    """Whether a stop is under way; if so, the connection is cut off."""
    stopped = isinstance(sys.exc_info()[1], (SystemExit, KeyboardInterrupt))
    if stopped and (line := info.get(_KEY)) is not None:
        line.cut()
    return stopped


def _unused(driver: Any, record: Any) -> None:
    if (line := record.info.get(_KEY)) is not None:
        _watchdog.end(line)


def _forget(driver: Any, record: Any) -> None:
    if (line := record.info.pop(_KEY, None)) is not None:
        _watchdog.end(line)


def _descriptor(driver: Any) -> int | None:
    """The connection's socket; None if there is none, or none that is known."""
    owner = getattr(driver, "_sock", None) or driver  # PyMySQL keeps it to itself
    descriptor = owner.fileno() if hasattr(owner, "fileno") else None
    return descriptor if isinstance(descriptor, int) and descriptor >= 0 else None
