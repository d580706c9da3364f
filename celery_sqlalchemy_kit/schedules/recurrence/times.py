"""The wall-clock times of a recurrence rule: the calendar alone, without zone or offset.

All datetimes here are naive and mean what a clock on the wall shows. Nothing walks from the start
of the rule: a year's matching days are known, those out of step with INTERVAL are left out by
arithmetic, and the times of a day are bisected.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta
from functools import lru_cache

from ..walltimes import LAST_YEAR
from .rule import Rule
from .seconds import Ascending, DaySeconds
from .years import Year, Years

#: What does not come within so many years never comes: no search goes further.
HORIZON = 100


class RuleTimes:
    """The times of *rule* from its start to its end, at most to the year `LAST_YEAR`.

    A search costs a look at each matching day that has no time, at most `HORIZON` years of them;
    counting costs as much for each year, and only where INTERVAL divides no day (every 7 hours)
    a look at each of its days.
    """

    def __init__(self, rule: Rule) -> None:
        self._start = rule.start
        self._seconds = DaySeconds(rule)
        self._years = Years(rule, self._seconds)
        #: Exclusive.
        self._end = datetime(LAST_YEAR + 1, 1, 1)  # noqa: DTZ001 # a wall has no zone
        #: From the first to the second, the second is what comes next, or came last. Replaced as
        #: a whole, so that threads never see half of it.
        self._next = (_MAX, _MAX)
        self._newest: tuple[datetime, datetime | None] = (_MIN, None)
        if rule.until is not None:
            self._end = min(self._end, rule.until + _MICROSECOND)
        if rule.count is not None:
            last = self.nth(rule.count)
            self._end = self._start if last is None else last + _MICROSECOND

    def first(self, low: datetime) -> datetime | None:
        """The earliest at or after *low*; None: there is none within `HORIZON` years."""
        low = max(low, self._start)
        if low >= self._end:
            return None
        since, known = self._next
        if since <= low <= known:
            return known
        found = self._find_first(low)
        if found is not None:
            self._next = low, found
        return found

    def last(self, below: datetime) -> datetime | None:
        """The latest before *below*; None: there is none."""
        below = min(below, self._end)
        until, known = self._newest
        if below <= until and (known is None or known < below):
            return known
        known = self._find_last(below)
        self._newest = below, known
        return known

    def number(self, low: datetime, below: datetime) -> int:
        """How many there are at or after *low*, before *below*."""
        low, below = max(low, self._start), min(below, self._end)
        if below <= low:
            return 0
        whole = sum(self._number(self._years.of(year)) for year in range(low.year, below.year))
        return whole + self._passed(below) - self._passed(low)

    def nth(self, count: int) -> datetime | None:
        """The wall of that number from the start, which is 1; None: not within `HORIZON` years."""
        left = count + self._passed(self._start)
        for number in self._range(self._start.year):
            year = self._years.of(number)
            total = self._number(year)
            if left <= total:
                return self._nth_of(year, left)
            left -= total
        return None

    def _find_first(self, low: datetime) -> datetime | None:
        today, second = low.toordinal(), _second(low)
        for number in self._range(low.year):
            year = self._years.of(number)
            for index in range(bisect_left(year.days, today - year.begin), len(year.days)):
                day, times = self._day(year, index)
                passed = bisect_left(times, second) if day == today else 0
                if passed < len(times):
                    wall = _wall(day, times[passed])
                    return wall if wall < self._end else None
        return None

    def _find_last(self, below: datetime) -> datetime | None:
        today, second = below.toordinal(), _second(below)
        for number in range(below.year, self._start.year - 1, -1):
            year = self._years.of(number)
            for index in reversed(range(bisect_left(year.days, today - year.begin + 1))):
                day, times = self._day(year, index)
                passed = bisect_left(times, second) if day == today else len(times)
                if passed:
                    wall = _wall(day, times[passed - 1])
                    return wall if wall >= self._start else None
        return None

    def _range(self, year: int) -> range:
        return range(year, min(year + HORIZON, LAST_YEAR) + 1)

    def _day(self, year: Year, index: int) -> tuple[int, Ascending]:
        """The ordinal and the seconds of one of the days of *year*."""
        day = year.days[index]
        ordinal = year.begin + day
        return ordinal, year.chosen[day] if year.chosen else self._seconds.of(ordinal)

    def _number(self, year: Year, days: int | None = None) -> int:
        """How many there are in *year*, or on that many of its first matching days."""
        days = len(year.days) if days is None else days
        if self._seconds.same is not None and not year.chosen:
            return days * len(self._seconds.same)
        return sum(len(self._day(year, index)[1]) for index in range(days))

    def _passed(self, below: datetime) -> int:
        """How many there are before *below*, counted from the first of its year."""
        if below.year > LAST_YEAR:
            return 0
        year, today = self._years.of(below.year), below.toordinal()
        days = bisect_left(year.days, today - year.begin)
        passed = self._number(year, days)
        if days < len(year.days):
            day, times = self._day(year, days)
            passed += bisect_left(times, _second(below)) if day == today else 0
        return passed

    def _nth_of(self, year: Year, left: int) -> datetime | None:
        for index in range(len(year.days)):
            day, times = self._day(year, index)
            if left <= len(times):
                return _wall(day, times[left - 1])
            left -= len(times)
        return None


@lru_cache(maxsize=4096)
def rule_times(rule: Rule) -> RuleTimes:
    """The one `RuleTimes` of *rule*, shared by all who ask."""
    return RuleTimes(rule)


def _second(wall: datetime) -> int:
    """How many whole seconds of the day have begun before *wall*; of a fraction, one more."""
    return wall.hour * 3600 + wall.minute * 60 + wall.second + (wall.microsecond > 0)


def _wall(day: int, second: int) -> datetime:
    return datetime.fromordinal(day) + timedelta(seconds=second)


_MICROSECOND = timedelta(microseconds=1)
_MIN, _MAX = datetime.min, datetime.max  # noqa: DTZ901 # walls have no zone
