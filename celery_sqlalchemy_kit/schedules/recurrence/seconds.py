"""The times of day of a recurrence rule, in seconds since midnight."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from functools import lru_cache
from typing import Protocol

from .days import new_year
from .rule import PER_DAY, Frequency, Rule

DAY = 86_400


class Ascending(Protocol):
    """Numbers in order, as a range or a tuple has them; to be bisected."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> int: ...


class Grid:
    """Every ``outer * size + inner``, ascending; none is made before it is asked for."""

    def __init__(self, outer: Ascending, size: int, inner: Ascending) -> None:
        self._outer, self._size, self._inner = outer, size, inner

    def __len__(self) -> int:
        return len(self._outer) * len(self._inner)

    def __getitem__(self, index: int, /) -> int:
        outer, inner = divmod(index, len(self._inner))
        return self._outer[outer] * self._size + self._inner[inner]


class DaySeconds:
    """The seconds at which *rule* is due on a day that matches.

    A rule that counts hours, minutes or seconds counts them on from day to day: unless its
    INTERVAL divides the day, days differ.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._per_day = PER_DAY.get(rule.frequency, 1)
        self._size = DAY // self._per_day
        start = rule.start
        today = start.hour * 3600 + start.minute * 60 + start.second
        #: The hour, minute or second of the start, counted from the first of all days.
        self._start = start.toordinal() * self._per_day + today // self._size
        self._within = _within(rule)
        self._steps = lru_cache(maxsize=2048)(self._find_steps)
        #: Those of every day; None: days differ.
        self.same: Ascending | None = None
        if rule.frequency <= Frequency.DAILY:
            self.same = self._within
        elif self._per_day % rule.interval == 0:
            self.same = self.of(start.toordinal())

    def of(self, day: int) -> Ascending:
        """Those of that day, an ordinal."""
        if self.same is not None:
            return self.same
        residue = (self._start - day * self._per_day) % self._rule.interval
        return Grid(self._steps(residue), 1, self._within)

    def days_met(self, year: int) -> Collection[int] | None:
        """The days of *year* that steps of INTERVAL reach, 1 January is 0; None: all."""
        if self._rule.interval <= self._per_day:
            return None
        begin, end = (new_year(each) * self._per_day for each in (year, year + 1))
        met = range(begin + (self._start - begin) % self._rule.interval, end, self._rule.interval)
        return {(step - begin) // self._per_day for step in met}

    def _find_steps(self, residue: int) -> Ascending:
        """When the hours, minutes or seconds begin that are that far and then steps of INTERVAL
        from midnight, and that the rule names."""
        rule = self._rule
        hours = rule.hours or range(24)
        minutes = rule.minutes or range(60) if rule.frequency > Frequency.HOURLY else (0,)
        seconds = rule.seconds or range(60) if rule.frequency > Frequency.MINUTELY else (0,)
        named = Grid(hours, 3600, Grid(minutes, 60, seconds))
        if rule.interval == 1:
            return named
        steps = range(residue * self._size, DAY, rule.interval * self._size)
        if len(named) == self._per_day:
            return steps
        return array(
            "I",
            (
                step
                for step in steps
                if step // 3600 in hours and step // 60 % 60 in minutes and step % 60 in seconds
            ),
        )


def _within(rule: Rule) -> Ascending:
    """The times since the beginning of the day, hour, minute or second that the rule counts.

    Of a day, hour, minute or second BYSETPOS takes its share; of longer periods: see `years`.
    """
    within: Ascending = (0,)
    if rule.frequency < Frequency.SECONDLY:
        within = rule.seconds
    if rule.frequency < Frequency.MINUTELY:
        within = Grid(rule.minutes, 60, within)
    if rule.frequency < Frequency.HOURLY:
        within = Grid(rule.hours, 3600, within)
    if not rule.positions or rule.frequency < Frequency.DAILY:
        return within
    size = len(within)
    indices = {each - 1 if each > 0 else size + each for each in rule.positions}
    return tuple(within[index] for index in sorted(indices) if 0 <= index < size)
