"""What all schedules share that follow the clock on a wall: a time zone, and its reckoning."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any

from ..clock import as_utc
from .reckoning import Reckoning
from .schedule import Schedule, refused, shown
from .zones import zone_named


class WallClock(Schedule):
    """Derived by the kinds, which bring the two zones, `find_reckoning` and `find_words`."""

    #: The zone that the schedule names itself; None: the default.
    timezone: str | None
    #: The application's, in force where none is named: no part of the value, of its JSON or of
    #: equality.
    default_timezone: str

    @property
    def zone(self) -> str:
        """The name of the zone in force."""
        return self.default_timezone if self.timezone is None else self.timezone

    @cached_property
    def reckoning(self) -> Reckoning:
        return self.find_reckoning()

    def find_reckoning(self) -> Reckoning:
        """The one that all share that are due at the same times."""
        raise NotImplementedError

    def words(self) -> str:
        return self._words

    @cached_property
    def _words(self) -> str:
        return self.find_words()

    def find_words(self) -> str:
        """What `words` says: thousands of routines may have the same schedule."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Without what is found anew: not all of it can be pickled."""
        return {name: value for name, value in vars(self).items() if name not in _FOUND}

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        return self.reckoning.next_after(as_utc(instant))

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        return self.reckoning.latest(as_utc(until), as_utc(after))

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        return self.reckoning.count(as_utc(after), as_utc(until))


_FOUND = ("reckoning", "_words")


def check_zone(value: object, name: object) -> None:
    """Raise a `ScheduleError` that shows *value* unless *name* is that of a time zone."""
    if not isinstance(name, str) or zone_named(name) is None:
        raise refused(value, f"unknown time zone {shown(name)}; a name such as Europe/Berlin")


def zone_in(value: Any, timezone: str) -> str | None:
    """The zone that *value*, a schedule's JSON, names; it, or else *timezone*, has to be one."""
    named: str | None = value.get("timezone")
    check_zone(value, named if "timezone" in value else timezone)
    return named
