"""Recurrence rules: ``FREQ=MONTHLY;BYDAY=-1FR``, in a time zone, as RFC 5545 means them.

INTERVAL is counted from DTSTART on the clock of the zone; without DTSTART from 1970-01-01T00:00:00
on that clock, whose hour, minute and day hold where the rule names none. A time of day is fixed
in rules by the day or longer; rules by the hour, minute or second follow real time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import schedule as celery_schedule

from ..clock import UTC, as_utc
from .reckoning import Reckoning
from .recurrence.rule import Frequency, Rule, read_rule
from .recurrence.text import is_rule, read_text
from .recurrence.times import HORIZON, rule_times
from .schedule import check_keys, refused, shown
from .wallclock import WallClock, check_zone, zone_in
from .zones import instant_of

KEYS = ("rrule", "timezone")


@dataclass(frozen=True)
class Rrule(WallClock):
    """Whenever a recurrence rule matches the wall clock of its zone.

    Equal to another that matches the same times by the same parts and names the same zone,
    however either is written. Nothing is due before DTSTART; what is more than 100 years off, or
    past the year 9998, never is.
    """

    rule: Rule
    #: By its own key, by TZID, or UTC by the ``Z`` of DTSTART.
    timezone: str | None
    #: As it was written.
    written: tuple[tuple[str, str], ...] = field(compare=False)
    default_timezone: str = field(default="UTC", compare=False)

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        found = super().next_after(instant)
        return found if found is None or found <= self._ends_at else None

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        return super().latest(min(as_utc(until), self._ends_at), after=after)

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        return super().count(after=after, until=min(as_utc(until), self._ends_at))

    def to_json(self) -> dict[str, Any]:
        return dict(self.written)

    def find_words(self) -> str:
        """Its own text: no library that is kept up says it in other words."""
        text = " ".join(dict(self.written)["rrule"].split())
        return f"{text if text.upper().startswith(_PREFIXES) else f'RRULE:{text}'}, {self.zone}"

    def find_reckoning(self) -> Reckoning:
        return _reckoning(replace(self.rule, ends_at=None), ZoneInfo(self.zone))

    @property
    def _ends_at(self) -> datetime:
        return self.rule.ends_at or _NEVER


def from_json(value: Mapping[str, Any], timezone: str) -> Rrule:
    """Read ``{"rrule": "FREQ=MONTHLY;BYDAY=-1FR", "timezone": "Europe/Berlin"}``; *timezone* is
    the default.

    Raises:
        ScheduleError: a key, a part or the zone is not allowed, or nothing ever matches.
    """
    check_keys(value, KEYS)
    named = zone_in(value, timezone)
    text = value["rrule"]
    if not isinstance(text, str):
        raise refused(value, f'rrule {shown(text)}: allowed is a text, "FREQ=MONTHLY;BYDAY=-1FR"')
    return _read(value, text, named, timezone)


def from_code(value: object, timezone: str) -> Rrule | None:
    """Read a `Rrule` or the text of a rule; None for anything else."""
    if isinstance(value, Rrule):
        check_zone(value.to_json(), value.timezone or timezone)
        return replace(value, default_timezone=timezone)
    if isinstance(value, str) and is_rule(value):
        check_zone(value, timezone)
        return _read(value, value, None, timezone)
    return None


@lru_cache(maxsize=1024)
def to_celery(rrule: Rrule) -> celery_schedule:
    """Celery has no such schedule: an interval takes its place, as long as a period of the rule."""
    return celery_schedule(_LENGTHS[rrule.rule.frequency] * rrule.rule.interval)


def _read(value: object, text: str, named: str | None, default: str) -> Rrule:
    """The schedule of *text* in *value*, whose own key for the zone says *named*."""
    read = read_text(value, text)
    zone = read.zone if named is None else named
    if read.zone is not None:
        check_zone(value, read.zone)
        if read.zone != zone:
            raise refused(
                value,
                f"timezone {shown(zone)}, but {read.zone} by DTSTART; allowed is one of the two",
            )
    rule = read_rule(value, read)
    fault = _fault(rule, ZoneInfo(zone or default))
    if fault is not None:
        raise refused(value, fault)
    key = {} if named is None else {"timezone": named}
    return Rrule(rule, zone, (("rrule", text), *key.items()), default)


def _fault(rule: Rule, zone: ZoneInfo) -> str | None:
    times = rule_times(replace(rule, ends_at=None))
    if rule.count is not None and times.nth(rule.count) is None:
        return f"COUNT {rule.count} ends more than {HORIZON} years after DTSTART; allowed is less"
    first = times.first(rule.start)
    if first is None:
        return f"never matches: nothing meets all parts within {HORIZON} years after {rule.start}"
    if rule.ends_at is not None and instant_of(first, zone) > rule.ends_at:
        return f"never matches: UNTIL lies before the first time, {first}"
    return None


@lru_cache(maxsize=4096)
def _reckoning(rule: Rule, zone: ZoneInfo) -> Reckoning:
    return Reckoning(rule_times(rule), zone, fixed=rule.frequency <= Frequency.DAILY)


_NEVER = datetime.max.replace(tzinfo=UTC)
_PREFIXES = ("RRULE", "DTSTART")
_DAY = timedelta(days=1)
_LENGTHS: Mapping[Frequency, timedelta] = {
    Frequency.YEARLY: 365 * _DAY,
    Frequency.MONTHLY: 30 * _DAY,
    Frequency.WEEKLY: 7 * _DAY,
    Frequency.DAILY: _DAY,
    Frequency.HOURLY: timedelta(hours=1),
    Frequency.MINUTELY: timedelta(minutes=1),
    Frequency.SECONDLY: timedelta(seconds=1),
}
