"""The only reader of time.

What is due is decided by the database's clock (``DATABASE``, which the store turns into an
expression of the database's own), so that schedulers with skewed clocks agree. The process's
monotonic clock measures how long to sleep and how old a claim is, and nothing else. A
`SettableClock` takes the place of both in tests.
"""

from __future__ import annotations

import select
import time
from datetime import datetime, timedelta, timezone
from typing import Protocol

UTC = timezone.utc


class Clock(Protocol):
    """Where the store takes the present from."""

    def now(self) -> datetime | None:
        """The present as aware UTC, or None: ask the database."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""


class DatabaseClock:
    """The database's clock for what is due; the process's monotonic clock for waiting."""

    def now(self) -> datetime | None:
        return None

    def monotonic(self) -> float:
        return time.monotonic()


class SettableClock:
    """A clock that stands still until it is moved; for tests.

    `monotonic` moves with it, by as much, and also when `now` is set back.
    """

    def __init__(self, now: datetime) -> None:
        self._now = as_utc(now)
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, by: timedelta | float) -> datetime:
        """Move on by a timedelta or a number of seconds; returns the new present."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        self._now += step
        self._elapsed += abs(step.total_seconds())
        return self._now

    def set(self, now: datetime) -> datetime:
        """Jump to an aware instant, forwards or back."""
        return self.advance(as_utc(now) - self._now)


DATABASE = DatabaseClock()


def here() -> datetime:
    """The present by this host's clock, by which nothing is decided: it is compared only."""
    return datetime.now(UTC)


def pause(seconds: float) -> None:
    """Wait; a signal's handler ends it by raising.

    By select: under libfaketime, by which people see what a wrong clock does, Python's `sleep`
    and whatever waits for a lock fail or never return.
    """
    select.select([], [], [], max(0.0, seconds))


def as_utc(instant: datetime) -> datetime:
    """The same instant in UTC.

    Raises:
        ValueError: *instant* is naive; which zone it means cannot be known here.
    """
    if instant.tzinfo is UTC:
        return instant
    if instant.utcoffset() is None:
        raise ValueError(f"a datetime with a time zone is needed, got {instant!r}")
    return instant.astimezone(UTC)
