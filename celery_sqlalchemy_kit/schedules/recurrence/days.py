"""The days that a recurrence rule may fall on, year by year, found by dateutil.

What days a year has depends on nothing but the weekday of its first day, its length and, for weeks
by number, the lengths of the years beside it: dateutil, which walks, is asked once for each of
these 28 kinds of year, and never to walk from one year to the next.
"""

from __future__ import annotations

from array import array
from calendar import isleap, weekday
from collections.abc import Sequence
from datetime import MAXYEAR, date, datetime
from functools import lru_cache
from typing import NamedTuple

from dateutil import rrule


class DayParts(NamedTuple):
    """Which days a rule may fall on; a day has to meet all that is not empty."""

    months: tuple[int, ...]
    #: From 1, or from the end: -1.
    month_days: tuple[int, ...]
    year_days: tuple[int, ...]
    weeks: tuple[int, ...]
    #: Monday is 0; with each how often it has come round, or 0: always. Counted within the
    #: month where there are months, else within the year.
    weekdays: tuple[tuple[int, int], ...]
    #: The day with which weeks begin.
    week_start: int


def days_of(parts: DayParts, year: int) -> Sequence[int]:
    """The days of *year* that meet *parts*, ascending; 1 January is 0."""
    if not any(parts[:-1]):
        return range(365 + isleap(year))
    return _days_of(parts, _LIKE[_shape(year)])


@lru_cache(maxsize=4096)
def _days_of(parts: DayParts, year: int) -> Sequence[int]:
    weekdays = parts.weekdays or tuple((number, 0) for number in range(7))
    begin = _new_year(year)
    walk = rrule.rrule(
        rrule.YEARLY,
        dtstart=begin,
        # One year and no more: where nothing matches, `until` stops nothing.
        interval=MAXYEAR,
        wkst=parts.week_start,
        bymonth=parts.months or None,
        bymonthday=parts.month_days or None,
        byweekday=[rrule.weekday(number, count or None) for number, count in weekdays],
    )
    offsets = ((found - begin).days for found in walk)
    if parts.year_days:  # of which there may be hundreds: dateutil compares with one by one
        length, numbers = 365 + isleap(year), set(parts.year_days)
        offsets = (each for each in offsets if {each + 1, each - length} & numbers)
    if parts.weeks:
        offsets = (each for each in offsets if _is_in_weeks(parts, year, each))
    return array("H", offsets)


def _is_in_weeks(parts: DayParts, year: int, offset: int) -> bool:
    """Whether the week of that day has one of the numbers: dateutil errs in some Januaries."""
    day = _new_year(year).toordinal() + offset
    of = year + (day >= _first_week(year + 1, parts.week_start))
    of -= day < _first_week(of, parts.week_start)
    number = (day - _first_week(of, parts.week_start)) // 7 + 1
    weeks = (_first_week(of + 1, parts.week_start) - _first_week(of, parts.week_start)) // 7
    return number in parts.weeks or number - weeks - 1 in parts.weeks


def _first_week(year: int, week_start: int) -> int:
    """The ordinal of the first day of the first week with four days in *year*."""
    fourth = date(year, 1, 4)
    return fourth.toordinal() - (fourth.weekday() - week_start) % 7


def new_year(year: int) -> int:
    """The ordinal of its first day."""
    return date(year, 1, 1).toordinal()


def _new_year(year: int) -> datetime:
    return datetime(year, 1, 1)  # noqa: DTZ001 # a wall has no zone


def _shape(year: int) -> tuple[int, bool, bool, bool]:
    return weekday(year, 1, 1), isleap(year - 1), isleap(year), isleap(year + 1)


#: A year of each kind: after 400 years the calendar begins anew.
_LIKE = {_shape(year): year for year in range(1900, 2300)}
