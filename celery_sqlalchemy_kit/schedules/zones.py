"""Time zones as spans: stretches of time in which a zone keeps one offset from UTC.

Within a span the wall clock runs as real time does, so that the calendar alone decides; where
two spans meet, a clock is changed. All datetimes here are naive: instants are UTC, *walls* are
what a clock in the zone shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ..clock import UTC
from .walltimes import FIRST_YEAR, LAST_YEAR


class Span(NamedTuple):
    """One offset from *begin* to *end*, or as much of it as lies in one year of UTC."""

    begin: datetime
    #: Exclusive.
    end: datetime
    offset: timedelta
    #: The wall at *begin*.
    opens: datetime
    #: The wall at *end*, exclusive.
    closes: datetime
    #: Every wall below it was shown or skipped before *begin*. Below *opens*: clocks have gone
    #: forward, what lies between does not exist. Above: back, what lies between is repeated.
    passed: datetime


def zone_named(name: str) -> ZoneInfo | None:
    """The zone of that IANA name, such as ``Europe/Berlin``; None: there is none.

    Source: the system's time zone database, else the package ``tzdata``.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name at all; a folder such as Europe
        return None


def spans(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[Span]:
    """The spans that end after *after* and begin at or before *until*, in order."""
    for year in range(max(after.year, FIRST_YEAR), min(until.year, LAST_YEAR) + 1):
        for span in _spans_of_year(zone, year):
            if span.begin > until:
                return
            if span.end > after:
                yield span


def spans_backwards(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[Span]:
    """The same spans as `spans`, latest first."""
    for year in range(min(until.year, LAST_YEAR), max(after.year, FIRST_YEAR) - 1, -1):
        for span in reversed(_spans_of_year(zone, year)):
            if span.end <= after:
                return
            if span.begin <= until:
                yield span


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """The aware instant at which *zone* shows *wall*: the first of two; the end of a gap.

    For the years from `FIRST_YEAR` to `LAST_YEAR`.
    """
    for span in spans(zone, wall - 2 * _DAY, wall + 2 * _DAY):
        if wall < span.closes:
            return max(span.begin, wall - span.offset).replace(tzinfo=UTC)
    raise ValueError(wall)


@lru_cache(maxsize=4096)
def _spans_of_year(zone: ZoneInfo, year: int) -> tuple[Span, ...]:
    opening, closing = _new_year(year), _new_year(year + 1)
    # What a change shortly before the year repeats reaches into it, by a day at the very most.
    begin = opening - 2 * _DAY
    offset = _offset(zone, begin)
    passed = begin + offset
    found = []
    for end, following in [*_changes(zone, begin, closing), (closing, offset)]:
        if end > opening:
            cut = max(begin, opening)
            opens = cut + offset
            seen = passed if cut == begin else max(passed, opens)
            found.append(Span(cut, end, offset, opens, end + offset, seen))
        passed = max(passed, end + offset)
        begin, offset = end, following
    return tuple(found)


def _new_year(year: int) -> datetime:
    return datetime(year, 1, 1)  # noqa: DTZ001 # instants are naive in here, and mean UTC


def _changes(
    zone: ZoneInfo, begin: datetime, end: datetime
) -> Iterator[tuple[datetime, timedelta]]:
    """The instants after *begin*, before *end* from which another offset holds, with it."""
    if zone.utcoffset(None) is not None:  # a fixed offset, such as UTC's
        return
    offset = _offset(zone, begin)
    while begin < end:
        # No zone has ever had two changes within three days; a step of as many passes over none.
        step = min(begin + 3 * _DAY, end)
        while (following := _offset(zone, step)) != offset:
            at = _change(zone, begin, step, offset)
            following = _offset(zone, at)
            if at < end:
                yield at, following
            begin, offset = at, following
        begin = step


def _change(zone: ZoneInfo, begin: datetime, end: datetime, offset: timedelta) -> datetime:
    """The instant in (*begin*, *end*] at which *offset* ends; changes fall on whole seconds."""
    low, high = 0, round((end - begin).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, begin + timedelta(seconds=middle)) == offset:
            low = middle
        else:
            high = middle
    return begin + timedelta(seconds=high)


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    shown = instant.replace(tzinfo=zone)
    # Of two in one zone, Python subtracts what their clocks show.
    return zone.fromutc(shown) - shown


_DAY = timedelta(days=1)
