"""Intervals: every so many seconds of elapsed time.

The occurrences are ``anchor + k * interval`` for every integer k, in whole microseconds, so that
the phase never drifts. Elapsed time knows no daylight saving: 86,400 s is not "daily at nine".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery.schedules import schedule as celery_schedule

from ..clock import as_utc
from .schedule import Schedule, check_keys, refused, shown

SHORTEST = timedelta(milliseconds=10)
LONGEST = timedelta(days=36_525)

#: What ``{"every": …, "period": …}`` counts in.
PERIODS = ("microseconds", "milliseconds", "seconds", "minutes", "hours", "days", "weeks")
_ALLOWED = "allowed are 0.01 to 3155760000 seconds (100 years)"


@dataclass(frozen=True)
class Interval(Schedule):
    """Every so much elapsed time, from `SHORTEST` to `LONGEST`.

    Without an anchor the grid begins at the instant from which is counted: *instant* of
    `next_after`, *after* of `latest` and `count`.
    """

    every: timedelta

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        instant = as_utc(instant)
        anchor = instant if anchor is None else as_utc(anchor)
        try:
            return anchor + ((instant - anchor) // self.every + 1) * self.every
        except OverflowError:  # past the year 9999
            return None

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        until, after = as_utc(until), as_utc(after)
        anchor = after if anchor is None else as_utc(anchor)
        try:
            newest = anchor + (until - anchor) // self.every * self.every
        except OverflowError:  # before the year 1, so before *after*
            return None
        return newest if newest > after else None

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        until, after = as_utc(until), as_utc(after)
        anchor = after if anchor is None else as_utc(anchor)
        return max(0, (until - anchor) // self.every - (after - anchor) // self.every)

    def to_json(self) -> dict[str, Any]:
        return {"timedelta": shown_seconds(self.every)}

    def words(self) -> str:
        return f"every {shown_seconds(self.every)} s"


def from_json(value: Mapping[str, Any], timezone: str) -> Interval:
    """Read ``{"timedelta": 15}``; *timezone* means nothing to elapsed time."""
    check_keys(value, ("timedelta",))
    return _interval(value["timedelta"], value)


def from_every(value: Mapping[str, Any], timezone: str) -> Interval:
    """Read ``{"every": 30, "period": "seconds"}``, as django-celery-beat and its kin write it.

    Raises:
        ScheduleError: the period is none of `PERIODS`, or the interval is out of bounds.
    """
    check_keys(value, ("every", "period"))
    period = value.get("period")
    if period not in PERIODS:
        raise refused(value, f"period {shown(period)}; allowed are {', '.join(PERIODS)}")
    number: Any = value.get("every")
    if not is_number(number):
        raise refused(value, f"every {shown(number)}: a number of {period}; {_ALLOWED}")
    one = timedelta(**{period: 1})
    # Compared before it is converted, as above.
    within = 0 <= number <= LONGEST / one
    return _within(number * one if within else None, value)


def from_code(value: object, timezone: str) -> Interval | None:
    """Read seconds, a timedelta or celery's own `schedule`; None for anything else."""
    if isinstance(value, Interval):
        return value
    if isinstance(value, timedelta):
        return _within(value, value)
    if isinstance(value, (int, float)):
        return _interval(value, value)
    if type(value) is celery_schedule:
        return _from_celery(value)
    return None


def to_celery(interval: Interval) -> celery_schedule:
    """Celery's own `schedule` of the same length."""
    return celery_schedule(interval.every)


def _from_celery(value: Any) -> Interval:
    if value.relative:
        # The table has no place for it, and dropping it would move the phase unasked.
        raise refused(value, 'relative=True cannot be kept; use a crontab such as {"minute": 0}')
    if not isinstance(value.run_every, timedelta):
        raise refused(value, f"run_every is {value.run_every!r}; {_ALLOWED}")
    return _within(value.run_every, value)


def _interval(seconds: object, of: object) -> Interval:
    if not is_number(seconds):
        raise refused(of, f"an interval is a number of seconds; {_ALLOWED}")
    return _within(seconds_of(seconds), of)


def _within(every: timedelta | None, of: object) -> Interval:
    if every is None or not SHORTEST <= every <= LONGEST:
        raise refused(of, f"the interval is out of bounds; {_ALLOWED}")
    return Interval(every)


def is_number(value: object) -> bool:
    """Whether it is an int or a float; bool is an int to Python, but nobody means True seconds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def seconds_of(number: Any) -> timedelta | None:
    """That many seconds; None unless they are 0 to `LONGEST`."""
    # Compared before it is converted: the number may be NaN, infinite or have 400 digits.
    return timedelta(seconds=number) if 0 <= number <= LONGEST.total_seconds() else None


def shown_seconds(every: timedelta) -> int | float:
    """Whole seconds as an int; else the float that reads back as the same microseconds."""
    if every.microseconds:
        return every.total_seconds()
    return every.days * 86_400 + every.seconds
