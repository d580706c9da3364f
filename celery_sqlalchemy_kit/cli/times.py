"""Durations and instants as people read them: pure."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from ..clock import UTC

#: A unit, its seconds, how many of it make the next one, and that.
_STEPS = (("s", 1, 60, "min"), ("min", 60, 60, "h"), ("h", 3600, 24, "d"))


def duration(span: timedelta) -> str:
    """How long something took, in two units at most.

    >>> [duration(timedelta(seconds=n)) for n in (0.35, 1.23, 42, 200, 7500)]
    ['350 ms', '1.2 s', '42 s', '3 min 20 s', '2 h 5 min']
    """
    seconds = abs(span).total_seconds()
    sign = "-" if span < timedelta(0) else ""
    if seconds < 0.0005:
        return "0 s"
    if seconds < 0.9995:
        return f"{sign}{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{sign}{seconds:.1f}".removesuffix(".0") + " s"
    for unit, size, many, above in _STEPS:
        number = round(seconds / size)
        if number < many:
            return f"{sign}{number} {unit}"
        if number < 10 * many:
            whole, rest = divmod(number, many)
            return f"{sign}{whole} {above}" + (f" {rest} {unit}" if rest else "")
    return f"{sign}{round(seconds / 86_400)} d"


def about(instant: datetime, now: datetime) -> str:
    """How far off an instant is, in one unit: ``in 3 min``, ``2 h ago``, ``now``."""
    seconds = abs(instant - now).total_seconds()
    if seconds < 0.5:
        return "now"
    told = f"{round(seconds / 86_400)} d"
    for unit, size, many, _ in _STEPS:
        number = round(seconds / size)
        if number < 2 * many:
            told = f"{number} {unit}"
            break
    return f"in {told}" if instant > now else f"{told} ago"


def stamp(instant: datetime, zone: str = "UTC") -> str:
    """An instant by the clocks of *zone*: ``2026-12-01 09:00 CET``, with seconds if it has any."""
    try:
        shown = instant.astimezone(_zone(zone))
    except OverflowError:  # within a day of the end of all time
        shown = instant
    text = shown.isoformat(" ", "seconds")[:19].removesuffix(":00")
    return f"{text} {shown.tzname()}"


@lru_cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
