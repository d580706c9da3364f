"""The wall-clock times that five fields match: the calendar alone, without zone or offset.

All datetimes here are naive and mean what a clock on the wall shows. No loop runs over minutes:
months without a matching day are stepped over, days and times are found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from datetime import datetime

from .fields import Fields

#: Years that are reckoned; the edges of `datetime` lack a day for what an offset adds or takes.
FIRST_YEAR, LAST_YEAR = 2, 9998


class WallTimes:
    """The matching minutes of all years from `FIRST_YEAR` to `LAST_YEAR`, in order."""

    def __init__(self, fields: Fields) -> None:
        #: Minutes since midnight, ascending.
        self._minutes = tuple(60 * hour + at for hour in fields.hour for at in fields.minute)
        self._months = fields.month_of_year
        self._rule = fields.days
        #: The matching days of a month by the weekday of its first day and its length.
        self._known: dict[tuple[int, int], tuple[int, ...]] = {}

    def first(self, low: datetime) -> datetime | None:
        """The earliest at or after *low*; None: there is none."""
        index = self._passed(low)
        over = index == len(self._minutes)
        today = (low.year, low.month, low.day)
        date = self._date_from(low.year, low.month, low.day + over)
        if date is None:
            return None
        minute = self._minutes[index if date == today else 0]
        return _wall(date, minute)

    def last(self, below: datetime) -> datetime | None:
        """The latest before *below*; None: there is none."""
        index = self._passed(below)
        today = (below.year, below.month, below.day)
        date = self._date_to(below.year, below.month, below.day - (index == 0))
        if date is None:
            return None
        minute = self._minutes[index - 1 if date == today else -1]
        return _wall(date, minute)

    def number(self, low: datetime, below: datetime) -> int:
        """How many there are at or after *low*, before *below*."""
        if below <= low:
            return 0
        return self._rank(low, below) - self._rank(low, low)

    def _rank(self, since: datetime, below: datetime) -> int:
        """How many there are before *below*, counted from the first of the month of *since*."""
        days = self._days(below.year, below.month)
        index = bisect_left(days, below.day)
        today = self._passed(below) if below.day in days[index : index + 1] else 0
        months = range(since.year * 12 + since.month - 1, below.year * 12 + below.month - 1)
        whole = sum(len(self._days(month // 12, month % 12 + 1)) for month in months)
        return (whole + index) * len(self._minutes) + today

    def _passed(self, wall: datetime) -> int:
        """How many of a day's times lie before *wall*'s time of day."""
        begun = wall.second > 0 or wall.microsecond > 0
        return bisect_left(self._minutes, wall.hour * 60 + wall.minute + begun)

    def _date_from(self, year: int, month: int, day: int) -> tuple[int, int, int] | None:
        """The first matching date at or after that one; *day* may lie past the month's end."""
        days = self._days(year, month)
        index = bisect_left(days, day)
        if index < len(days):
            return year, month, days[index]
        for later in range(year, LAST_YEAR + 1):
            for candidate in self._months:
                if later > year or candidate > month:
                    days = self._days(later, candidate)
                    if days:
                        return later, candidate, days[0]
        return None

    def _date_to(self, year: int, month: int, day: int) -> tuple[int, int, int] | None:
        """The last matching date at or before that one; *day* may be 0."""
        days = self._days(year, month)
        index = bisect_left(days, day + 1)
        if index:
            return year, month, days[index - 1]
        for earlier in range(year, FIRST_YEAR - 1, -1):
            for candidate in reversed(self._months):
                if earlier < year or candidate < month:
                    days = self._days(earlier, candidate)
                    if days:
                        return earlier, candidate, days[-1]
        return None

    def _days(self, year: int, month: int) -> tuple[int, ...]:
        """The matching days of a month, ascending; none if the month does not match."""
        if month not in self._months:
            return ()
        shape = monthrange(year, month)
        days = self._known.get(shape)
        if days is None:
            days = self._known[shape] = self._rule.of_shape(*shape)
        return days


def _wall(date: tuple[int, int, int], minute: int) -> datetime:
    return datetime(*date, minute // 60, minute % 60)  # noqa: DTZ001 # a wall has no zone
