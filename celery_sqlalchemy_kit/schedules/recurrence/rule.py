"""Recurrence rules as values: what may stand in the text of one, and what it means.

Source: RFC 5545, sections 3.3.10 (RECUR) and 3.8.2.4 (DTSTART). Read by our own grammar, as
dateutil's takes ``BYDAY=2MO`` for a weekly rule and drops the 2, and names no bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from ...clock import UTC
from ..schedule import refused, shown
from .days import DayParts
from .text import RuleText, when


class Frequency(IntEnum):
    """What a rule counts in, the longest first; numbered as dateutil numbers them."""

    YEARLY = 0
    MONTHLY = 1
    WEEKLY = 2
    DAILY = 3
    HOURLY = 4
    MINUTELY = 5
    SECONDLY = 6


#: How many of each pass in a day; those that are longer follow the calendar.
PER_DAY: Mapping[Frequency, int] = {
    Frequency.DAILY: 1,
    Frequency.HOURLY: 24,
    Frequency.MINUTELY: 1440,
    Frequency.SECONDLY: 86_400,
}
#: The largest INTERVAL: 100 years of each.
LONGEST: Mapping[Frequency, int] = {
    Frequency.YEARLY: 100,
    Frequency.MONTHLY: 1200,
    Frequency.WEEKLY: 5217,
    **{frequency: 36_525 * number for frequency, number in PER_DAY.items()},
}
MOST_COUNT = 10_000
#: Where a rule begins that has no DTSTART, in the zone in force.
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 # a wall has no zone


@dataclass(frozen=True)
class Rule:
    """A rule in which nothing is left implied: what its start implies is filled in.

    Numbers ascend. Empty: every one, but for `positions`, where it is: no choice.
    """

    frequency: Frequency
    interval: int
    #: A wall; nothing is due before it, and INTERVAL is counted from it.
    start: datetime
    days: DayParts
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    positions: tuple[int, ...]
    count: int | None
    #: The last wall, inclusive.
    until: datetime | None
    #: The last instant, inclusive: an UNTIL that ends with Z.
    ends_at: datetime | None


def read_rule(value: object, text: RuleText) -> Rule:
    """The rule that *text* means; *value*, of which it is a part, is shown where it is refused.

    Raises:
        ScheduleError: a part is unknown, out of bounds, or may not stand beside another.
    """
    parts = _Parts(value, text.parts)
    frequency = parts.frequency()
    parts.check_company(frequency, started=text.start is not None)
    interval = parts.number("INTERVAL", LONGEST[frequency]) if "INTERVAL" in parts else 1
    if frequency is Frequency.SECONDLY and PER_DAY[frequency] % interval and _TIMES & parts.keys():
        # Each day would have seconds of its own, of which no day but that day knows any.
        fault = (
            f"INTERVAL {interval} with FREQ=SECONDLY and {', '.join(sorted(_TIMES & parts.keys()))}"
        )
        raise refused(value, f"{fault}; allowed are the divisors of 86400, or none of these parts")
    start = text.start or EPOCH
    by = {name: parts.numbers(name) for name in _BOUNDS}
    until = when(value, "UNTIL", parts["UNTIL"], last=True) if "UNTIL" in parts else None
    is_instant = until is not None and until.tzinfo is UTC
    return Rule(
        frequency,
        interval,
        start,
        _days(parts, frequency, by, start),
        by["BYHOUR"] or _implied(frequency < Frequency.HOURLY, start.hour),
        by["BYMINUTE"] or _implied(frequency < Frequency.MINUTELY, start.minute),
        by["BYSECOND"] or _implied(frequency < Frequency.SECONDLY, start.second),
        by["BYSETPOS"],
        parts.number("COUNT", MOST_COUNT) if "COUNT" in parts else None,
        None if is_instant else until,
        until if is_instant else None,
    )


def _days(
    parts: _Parts, frequency: Frequency, by: Mapping[str, tuple[int, ...]], start: datetime
) -> DayParts:
    months, month_days = by["BYMONTH"], by["BYMONTHDAY"]
    weekdays = parts.weekdays()
    if not (month_days or weekdays or by["BYYEARDAY"] or by["BYWEEKNO"]):
        if frequency is Frequency.WEEKLY:
            weekdays = ((start.weekday(), 0),)
        if frequency <= Frequency.MONTHLY:
            month_days = (start.day,)
        if frequency is Frequency.YEARLY:
            months = months or (start.month,)
    if any(count for _, count in weekdays):
        # Counted within the month, said so that the frequency no longer matters.
        if frequency is Frequency.MONTHLY:
            months = months or tuple(range(1, 13))
        weekdays = _counted(weekdays, 5 if months else 53)
    return DayParts(
        months, month_days, by["BYYEARDAY"], by["BYWEEKNO"], weekdays, parts.week_start()
    )


def _counted(weekdays: Iterable[tuple[int, int]], most: int) -> tuple[tuple[int, int], ...]:
    """Each with a count: dateutil takes ``MO,1FR`` for days that are both."""
    found: set[tuple[int, int]] = set()
    for weekday, count in weekdays:
        found.update((weekday, each) for each in ([count] if count else range(1, most + 1)))
    return tuple(sorted(found))


def _implied(is_implied: bool, number: int) -> tuple[int, ...]:  # noqa: FBT001 # the only flag
    return (number,) if is_implied else ()


class _Parts(dict[str, str]):
    """The parts of a rule by their names; *value* is what a refusal shows."""

    def __init__(self, value: object, parts: Mapping[str, str]) -> None:
        super().__init__(parts)
        self._value = value
        for name in parts:
            if name not in _NAMES:
                raise refused(value, f"unknown part {shown(name)}; allowed are {', '.join(_NAMES)}")

    def frequency(self) -> Frequency:
        text = self.get("FREQ", "")
        if text not in Frequency.__members__:
            fault = f"FREQ {shown(text)}" if "FREQ" in self else "FREQ is missing"
            raise refused(self._value, f"{fault}; allowed are {', '.join(Frequency.__members__)}")
        return Frequency[text]

    def number(self, name: str, most: int) -> int:
        text = self[name]
        if not _DIGITS.fullmatch(text) or not 1 <= int(text) <= most:
            fault = f"{name} {shown(text)}; allowed are 1-{most}"
            if name == "COUNT":
                fault += "; the column max_runs bounds the number of runs as well"
            raise refused(self._value, fault)
        return int(text)

    def numbers(self, name: str) -> tuple[int, ...]:
        if name not in self:
            return ()
        bound = _BOUNDS[name]
        texts = self[name].split(",")
        found = {int(text) for text in texts if _SIGNED.fullmatch(text)}
        readable = all(map(_SIGNED.fullmatch, texts))
        if not readable or not all(bound.low <= abs(number) <= bound.high for number in found):
            raise self._refusal(name, bound.allowed)
        if not bound.signed and min(found) < 0:
            raise self._refusal(name, bound.allowed)
        return tuple(sorted(found))

    def weekdays(self) -> tuple[tuple[int, int], ...]:
        """Monday is 0; with each its count, 0 if it has none."""
        if "BYDAY" not in self:
            return ()
        found = set()
        for text in self["BYDAY"].split(","):
            match = _WEEKDAY.fullmatch(text)
            count = 0 if match is None or not match[1] else int(match[1])
            if match is None or not (count if match[1] else True) or abs(count) > 53:
                raise self._refusal("BYDAY", f"{', '.join(_WEEKDAYS)}, as MO,FR or 1MO or -1FR")
            found.add((_WEEKDAYS.index(match[2]), count))
        return tuple(sorted(found))

    def week_start(self) -> int:
        text = self.get("WKST", "MO")
        if text not in _WEEKDAYS:
            raise self._refusal("WKST", ", ".join(_WEEKDAYS))
        return _WEEKDAYS.index(text)

    def check_company(self, frequency: Frequency, *, started: bool) -> None:
        """Refuse parts that may not stand together, and what libraries read differently."""
        refusal = next((fault for holds, fault in self._faults(frequency, started) if holds), None)
        if refusal is not None:
            raise refused(self._value, refusal)

    def _faults(self, frequency: Frequency, started: bool) -> Iterable[tuple[bool, str]]:  # noqa: FBT001 # as above
        is_counted = any(map(str.isdigit, self.get("BYDAY", "")))
        named = f"with FREQ={frequency.name}"
        for name, allowed in _ALLOWED_WITH.items():
            yield (
                name in self and frequency not in allowed,
                f"{name} {named}; allowed with {', '.join(each.name for each in allowed)}",
            )
        yield (
            is_counted and (frequency > Frequency.MONTHLY or "BYWEEKNO" in self),
            f"BYDAY {shown(self.get('BYDAY'))} {named}; {_COUNTED}",
        )
        yield (
            "BYWEEKNO" in self and not {"BYDAY", "BYMONTHDAY", "BYYEARDAY"} & self.keys(),
            "BYWEEKNO says no day; add BYDAY, of which all are MO,TU,WE,TH,FR,SA,SU",
        )
        yield (
            "BYSETPOS" in self and not _SETS & self.keys(),
            "BYSETPOS chooses among what other BY parts give; there is none",
        )
        yield "COUNT" in self and "UNTIL" in self, "COUNT and UNTIL; allowed is one of them"
        yield (
            "COUNT" in self and not started,
            "COUNT is counted from DTSTART, which is missing; add it, or set the column max_runs",
        )

    def _refusal(self, name: str, allowed: str) -> Exception:
        return refused(self._value, f"{name} {shown(self[name])}; allowed are {allowed}")


class _Bound(NamedTuple):
    low: int
    high: int
    signed: bool = False

    @property
    def allowed(self) -> str:
        below = f" and -{self.high} to -{self.low}" if self.signed else ""
        return f"{self.low}-{self.high}{below}, with commas between"


_BOUNDS: Mapping[str, _Bound] = {
    # RFC 5545 has a 60th second, which neither Python nor any cron knows.
    "BYSECOND": _Bound(0, 59),
    "BYMINUTE": _Bound(0, 59),
    "BYHOUR": _Bound(0, 23),
    "BYMONTHDAY": _Bound(1, 31, signed=True),
    "BYYEARDAY": _Bound(1, 366, signed=True),
    "BYWEEKNO": _Bound(1, 53, signed=True),
    "BYMONTH": _Bound(1, 12),
    "BYSETPOS": _Bound(1, 366, signed=True),
}
_SETS = frozenset({*_BOUNDS, "BYDAY"} - {"BYSETPOS"})
_NAMES = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_BOUNDS)
_TIMES = frozenset({"BYHOUR", "BYMINUTE", "BYSECOND"})
#: What RFC 5545 forbids elsewhere.
_ALLOWED_WITH: Mapping[str, tuple[Frequency, ...]] = {
    "BYWEEKNO": (Frequency.YEARLY,),
    "BYYEARDAY": tuple(
        each for each in Frequency if each.name not in ("MONTHLY", "WEEKLY", "DAILY")
    ),
    "BYMONTHDAY": tuple(each for each in Frequency if each.name != "WEEKLY"),
}
_COUNTED = "a count, as in 1MO, is allowed with MONTHLY, and with YEARLY without BYWEEKNO"
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WEEKDAY = re.compile(rf"([+-]?[0-9]{{1,2}})?({'|'.join(_WEEKDAYS)})")
_DIGITS = re.compile(r"[0-9]{1,12}")
_SIGNED = re.compile(r"[+-]?[0-9]{1,3}")
