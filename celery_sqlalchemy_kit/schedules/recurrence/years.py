"""The matching days of a recurrence rule, a year at a time, and what BYSETPOS takes of them."""

from __future__ import annotations

from bisect import bisect_right
from calendar import isleap
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, groupby
from typing import NamedTuple

from .days import days_of, new_year
from .rule import Frequency, Rule
from .seconds import Ascending, DaySeconds


class Year(NamedTuple):
    """The days of one year on which a rule is due, and when."""

    #: The ordinal of 1 January.
    begin: int
    #: Ascending; 1 January is 0.
    days: Sequence[int]
    #: Their times, where BYSETPOS takes days with their times; empty: `DaySeconds` knows them.
    chosen: Mapping[int, Ascending]


class Years:
    """The years of *rule*, as if it had neither a start nor an end."""

    def __init__(self, rule: Rule, seconds: DaySeconds) -> None:
        self._rule = rule
        self._seconds = seconds
        self._first = self._period(rule.start.year, rule.start.timetuple().tm_yday - 1)
        self.of = lru_cache(maxsize=4)(self._find)

    def _find(self, year: int) -> Year:
        begin, rule = new_year(year), self._rule
        if not rule.positions or rule.frequency >= Frequency.DAILY:
            return Year(begin, self._in_step(year), {})
        chosen: dict[int, set[int]] = {}
        for period in self._periods(year):
            for day, second in self._choose(period):
                chosen.setdefault(day, set()).add(second)
        days = [day for day in sorted(chosen) if 0 <= day < new_year(year + 1) - begin]
        return Year(begin, days, {day: tuple(sorted(chosen[day])) for day in days})

    def _in_step(self, year: int) -> Sequence[int]:
        """The days of *year* that meet the parts, in periods that INTERVAL does not pass over."""
        met = self._met(year)
        if met is None:
            return days_of(self._rule.days, year)
        return [day for day in days_of(self._rule.days, year) if day in met] if met else ()

    def _met(self, year: int) -> Collection[int] | None:
        """The days in periods that INTERVAL does not pass over, 1 January is 0; None: all."""
        frequency, interval, begin = self._rule.frequency, self._rule.interval, new_year(year)
        if frequency > Frequency.DAILY:
            return self._seconds.days_met(year)
        if interval == 1:
            return None
        if frequency is Frequency.YEARLY:
            return () if (year - self._first) % interval else None
        if frequency is Frequency.MONTHLY:
            ends = (0, *_ENDS[isleap(year)])
            months = range((self._first - year * 12) % interval, 12, interval)
            return {day for month in months for day in range(ends[month], ends[month + 1])}
        size, first = 1, self._first
        if frequency is Frequency.WEEKLY:
            size, first = 7, first * 7 + 1 + self._rule.days.week_start
        step = interval * size
        opens = range((first - begin) % step - step, 366, step)
        return {day for each in opens for day in range(max(each, 0), each + size)}

    def _period(self, year: int, day: int) -> int:
        """The number of the year, month, week or day that the rule counts, with that day in it."""
        frequency = self._rule.frequency
        if frequency is Frequency.YEARLY:
            return year
        if frequency is Frequency.MONTHLY:
            return year * 12 + bisect_right(_ENDS[isleap(year)], day)
        ordinal = new_year(year) + day  # of a Monday: 1
        if frequency is Frequency.WEEKLY:
            return (ordinal - 1 - self._rule.days.week_start) // 7
        return ordinal

    def _periods(self, year: int) -> Iterator[list[int]]:
        """The matching days of each year, month or week that touches *year*; of a week also those
        that lie in the years beside it."""
        if self._rule.frequency is not Frequency.WEEKLY:
            for _, days in groupby(self._in_step(year), lambda day: self._period(year, day)):
                yield list(days)
            return
        begin = new_year(year)
        near = [
            new_year(each) - begin + day
            for each in (year - 1, year, year + 1)
            for day in self._in_step(each)
        ]
        near = [day for day in near if -7 < day < 366 + 7]
        for _, days in groupby(near, lambda day: self._period(year, day)):
            yield list(days)

    def _choose(self, days: Sequence[int]) -> Iterator[tuple[int, int]]:
        """What BYSETPOS takes of a period with these days: each with a time of day."""
        times = self._seconds.of(self._rule.start.toordinal())
        size = len(days) * len(times)
        for position in self._rule.positions:
            index = position - 1 if position > 0 else size + position
            if 0 <= index < size:
                yield days[index // len(times)], times[index % len(times)]


#: Of a common and of a leap year, the days at which its months end.
_ENDS = tuple(
    tuple(accumulate((31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31))) for leap in (0, 1)
)
