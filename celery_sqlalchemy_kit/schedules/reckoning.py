"""From wall-clock times to instants: the rule for the days on which clocks are changed.

Source: Debian's cron(8), as ``cronsim`` implements it too. Fixed times (neither the minute nor
the hour begins with ``*``) run once for each time that the wall shows or skips: one that is
skipped runs at the first instant after the gap, one that is shown twice runs at the first.
Wildcards follow real time: they run whenever the wall shows a match, in both of the repeated
hours and never in a skipped one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from ..clock import UTC
from .fields import Fields
from .walltimes import FIRST_YEAR, LAST_YEAR, WallTimes
from .zones import Span, spans, spans_backwards


class Walls(Protocol):
    """The wall-clock times that match; naive."""

    def first(self, low: datetime) -> datetime | None:
        """The earliest at or after *low*; None: there is none."""

    def last(self, below: datetime) -> datetime | None:
        """The latest before *below*; None: there is none."""

    def number(self, low: datetime, below: datetime) -> int:
        """How many there are at or after *low*, before *below*."""


class Reckoning:
    """The occurrences of *walls* in one zone. Instants are aware UTC.

    *fixed*: each time that the wall shows or skips runs once; else they follow real time.
    Routines with the same schedule share one and with it the last answer: between two occurrences
    the next one is the same from everywhere.
    """

    def __init__(self, walls: Walls, zone: ZoneInfo, *, fixed: bool) -> None:
        self._walls = walls
        self._zone = zone
        self._fixed = fixed
        #: From the first instant until before the second, the second is what comes next. One
        #: tuple, replaced as a whole, so that threads never see half of it.
        self._answer = (_NEVER, _NEVER)

    def next_after(self, instant: datetime) -> datetime | None:
        since, known = self._answer
        if since <= instant < known:
            return known
        found = self._search(instant.replace(tzinfo=None))
        if found is None:
            return None
        found = found.replace(tzinfo=UTC)
        self._answer = (instant, found)
        return found

    def latest(self, until: datetime, after: datetime) -> datetime | None:
        since, known = self._answer
        if since <= after and until < known:
            return None
        end, start = until.replace(tzinfo=None), after.replace(tzinfo=None)
        for span in spans_backwards(self._zone, start, end):
            low, skipped = self._opening(span, start)
            wall = self._walls.last(_closing(span, end))
            if wall is not None and wall >= low:
                return (wall - span.offset).replace(tzinfo=UTC)
            if skipped:
                return span.begin.replace(tzinfo=UTC)
        return None

    def count(self, after: datetime, until: datetime) -> int:
        end, start = until.replace(tzinfo=None), after.replace(tzinfo=None)
        total = 0
        for span in spans(self._zone, start, end):
            low, skipped = self._opening(span, start)
            total += self._walls.number(low, _closing(span, end))
            # Skipped times and one at the very end of the gap are the same instant.
            total += skipped and self._walls.first(low) != low
        return total

    def _search(self, after: datetime) -> datetime | None:
        if after.year > LAST_YEAR:
            return None
        after = max(after, _FIRST)
        until = after + 2 * _DAY
        last_year = min(max(after.year, _SETTLED) + _CYCLE, LAST_YEAR)
        found = self._scan(after, until)
        while found is None:
            # No wall is a day away from UTC, so what comes later lies within a day of a wall that
            # comes later: the years up to the next one (29 February) need no spans.
            wall = self._walls.first(until - _DAY)
            if wall is None or wall.year > last_year:
                return None
            after, until = max(until, wall - _DAY), wall + 2 * _DAY
            found = self._scan(after, until)
        return found

    def _scan(self, after: datetime, until: datetime) -> datetime | None:
        """The first occurrence after *after* in the spans that begin at or before *until*."""
        for span in spans(self._zone, after, until):
            low, skipped = self._opening(span, after)
            if skipped:
                return span.begin
            wall = self._walls.first(low)
            if wall is not None and wall < span.closes:
                return wall - span.offset
        return None

    def _opening(self, span: Span, after: datetime) -> tuple[datetime, bool]:
        """The first wall of *span* that may run after *after*, and whether skipped ones do too."""
        low = max(span.opens, span.passed) if self._fixed else span.opens
        if after >= span.begin:
            return max(low, after + span.offset + _MICROSECOND), False
        if self._fixed and span.passed < span.opens:
            wall = self._walls.first(span.passed)
            return low, wall is not None and wall < span.opens
        return low, False


@lru_cache(maxsize=4096)
def reckoning(fields: Fields, zone: ZoneInfo) -> Reckoning:
    """The one reckoning of *fields* in *zone*, shared by all who ask."""
    return Reckoning(WallTimes(fields), zone, fixed=not fields.wildcard)


def _closing(span: Span, until: datetime) -> datetime:
    """The wall, exclusive, up to which *span* lies at or before *until*."""
    return span.closes if until >= span.end else until + span.offset + _MICROSECOND


_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = datetime(FIRST_YEAR, 1, 1)  # noqa: DTZ001 # instants are naive once they are inside
#: Years after which the calendar begins anew, and from which on zones have but rules. A wildcard
#: that has met nothing but gaps in as many will never be due: Sundays from 8 to 14 March, at 2
#: o'clock, in New York.
_CYCLE, _SETTLED = 400, 2100
_NEVER = datetime.min.replace(tzinfo=UTC)
