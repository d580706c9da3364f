"""The days of a month that a crontab matches: by number, by weekday, or counted from the end."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

#: How often at most a weekday comes round in one month.
MOST_WEEKS = 5
#: In place of a count: the last of its month.
LAST = -1


class Days(NamedTuple):
    """Which days match. Sunday is 0.

    ``either``: the day of the month or the day of the week decides, else both must match.
    """

    of_month: tuple[int, ...]
    of_week: tuple[int, ...]
    #: The last day of the month, the last from Monday to Friday: count as days of the month.
    last: bool = False
    last_workday: bool = False
    #: A weekday and how often it has come round by then, or `LAST`; count as days of the week.
    nth: frozenset[tuple[int, int]] = frozenset()
    either: bool = False

    def of_shape(self, first: int, length: int) -> tuple[int, ...]:
        """The days, ascending, of a month of *length* days that begins with weekday *first*, of
        which Monday is 0, as `calendar.monthrange` has it."""
        return _of_shape(self, first, length)

    def ever(self, months: Iterable[int]) -> bool:
        """Whether any day of any year matches, in one of *months*."""
        return _ever(self, tuple(months))


@lru_cache(maxsize=1024)
def _of_shape(days: Days, first: int, length: int) -> tuple[int, ...]:
    of_month = set(days.of_month)
    if days.last:
        of_month.add(length)
    if days.last_workday:
        beyond = (first + length - 1) % 7 - 4  # Saturday is one day past Friday
        of_month.add(length - max(0, beyond))
    found = []
    for day in range(1, length + 1):
        weekday = (first + day) % 7
        count, is_last = (day + 6) // 7, day + 7 > length
        by_week = (
            weekday in days.of_week
            or (weekday, count) in days.nth
            or (is_last and (weekday, LAST) in days.nth)
        )
        by_month = day in of_month
        if (by_month or by_week) if days.either else (by_month and by_week):
            found.append(day)
    return tuple(found)


@lru_cache(maxsize=1024)
def _ever(days: Days, months: tuple[int, ...]) -> bool:
    lengths = {length for month in months for length in _LENGTHS[month]}
    return any(days.of_shape(first, length) for first in range(7) for length in lengths)


_LENGTHS: dict[int, tuple[int, ...]] = {
    month: (28, 29) if month == 2 else (30,) if month in (4, 6, 9, 11) else (31,)
    for month in range(1, 13)
}
