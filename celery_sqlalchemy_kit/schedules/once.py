"""Once: at one instant, and never again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import schedule as celery_schedule
from dateutil.parser import isoparse

from ..clock import as_utc
from .schedule import Schedule, check_keys, refused, shown
from .wallclock import check_zone, zone_in
from .walltimes import FIRST_YEAR, LAST_YEAR
from .zones import instant_of

KEYS = ("once", "timezone")
_ALLOWED = (
    "allowed is an instant in ISO 8601 such as 2026-12-01T09:00:00Z; without an offset it is read "
    "in the time zone"
)


@dataclass(frozen=True)
class Once(Schedule):
    """At the instant *at*, an aware datetime, and never again.

    How late it may run: see `due`.
    """

    at: datetime

    def __post_init__(self) -> None:
        at: Any = self.at
        if not isinstance(at, datetime) or at.utcoffset() is None:
            raise refused(at, "Once takes an aware datetime")
        object.__setattr__(self, "at", as_utc(at))

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        return self.at if self.at > as_utc(instant) else None

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        return self.at if as_utc(after) < self.at <= as_utc(until) else None

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        return int(as_utc(after) < self.at <= as_utc(until))

    def to_json(self) -> dict[str, Any]:
        return {"once": self.at.isoformat().replace("+00:00", "Z")}

    def words(self) -> str:
        return f"once, at {self.at.replace(tzinfo=None)} UTC"


def from_json(value: Mapping[str, Any], timezone: str) -> Once:
    """Read ``{"once": "2026-12-01T09:00:00Z"}``.

    Without an offset the instant is what a clock shows in the zone ``"timezone"``, else in
    *timezone*: the first of two, or the first after a gap.

    Raises:
        ScheduleError: it is no instant, or the zone is none.
    """
    check_keys(value, KEYS)
    zone = zone_in(value, timezone) or timezone
    text = value["once"]
    # Of 2026-12, or of a week, isoparse takes the first day; nobody has said that day.
    if not isinstance(text, str) or not _DATE.match(text):
        raise refused(value, f"once {shown(text)}; {_ALLOWED}")
    try:
        at = _read(text)
    except (ValueError, OverflowError):  # OverflowError: at 24:00 on the last day of all
        raise refused(value, f"once {shown(text)}; {_ALLOWED}") from None
    return _once(at, zone, value)


def from_code(value: object, timezone: str) -> Once | None:
    """Read a `Once` or a datetime; None for anything else. A naive one is *timezone*'s."""
    if isinstance(value, Once):
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            check_zone(value, timezone)
        return _once(value, timezone, value)
    return None


def to_celery(once: Once) -> celery_schedule:
    """Celery has no such schedule: an interval takes its place, for who only looks at its name."""
    return celery_schedule(1.0)


def _read(text: str) -> datetime:
    if _AS_WRITTEN.fullmatch(text):
        try:
            return datetime.fromisoformat(f"{text[:-1]}+00:00")
        except ValueError:  # it may be 24:00 still
            pass
    return isoparse(text)


def _once(at: datetime, zone: str, of: object) -> Once:
    if not FIRST_YEAR < at.year < LAST_YEAR:
        raise refused(of, f"the year is {at.year}; allowed are {FIRST_YEAR + 1} to {LAST_YEAR - 1}")
    return Once(at if at.tzinfo else instant_of(at, ZoneInfo(zone)))


#: As `Once.to_json`, or JavaScript, has it: each of a million one-offs has its own, and is read in
#: a tenth of the time that all the forms of ISO 8601 take.
_AS_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}|\.\d{6})?Z", re.ASCII)
_DATE = re.compile(r"[0-9]{4}(-?)[0-9]{2}\1[0-9]{2}(?![0-9])", re.ASCII)
