"""A recurrence rule, from the fields that RedBeat stores to the text of RFC 5545.

RedBeat stores a start as an instant and an offset from UTC, by which it then goes all the year
round. Whole hours have zones of that kind, ``Etc/GMT-1`` is one hour east; other offsets do not,
but where a rule names no day and no time it comes to the same in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ..clock import UTC
from ..schedules.interval import is_number
from ..schedules.recurrence.text import FIRST_START, LAST_END
from ..schedules.schedule import shown
from .keys import Unreadable

_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WEEKLY = 2

#: The parts that hold numbers, by the field that they are stored in.
_NUMBERS: Mapping[str, str] = {
    "interval": "INTERVAL",
    "count": "COUNT",
    "bysetpos": "BYSETPOS",
    "bymonth": "BYMONTH",
    "bymonthday": "BYMONTHDAY",
    "byyearday": "BYYEARDAY",
    "byweekno": "BYWEEKNO",
    "byhour": "BYHOUR",
    "byminute": "BYMINUTE",
    "bysecond": "BYSECOND",
}
_KNOWN = {*_NUMBERS, "freq", "wkst", "byweekday", "dtstart", "dtstart_tz", "until", "until_tz"}


def written(fields: Mapping[str, Any]) -> str:
    """The text; weekdays are numbers in *fields*, Monday is 0.

    Raises:
        Unreadable: a field cannot be said in RFC 5545, or is none of RedBeat's.
    """
    for name, value in fields.items():
        if name not in _KNOWN and value is not None:
            raise Unreadable(f"rrule: {name} = {shown(value)} cannot be kept")
    frequency = _one_of(_FREQUENCIES, "freq", fields.get("freq"))
    parts = {"FREQ": frequency}
    for name, part in _NUMBERS.items():
        numbers = _listed(fields.get(name))
        if numbers and (name, numbers) != ("interval", [1]):
            parts[part] = ",".join(str(_whole(name, number)) for number in numbers)
    if days := _listed(fields.get("byweekday")):
        parts["BYDAY"] = ",".join(_one_of(_DAYS, "byweekday", day) for day in days)
    if fields.get("wkst") is not None:
        parts["WKST"] = _one_of(_DAYS, "wkst", fields["wkst"])
    if fields.get("until") is not None:
        parts["UNTIL"] = f"{_instant('until', fields['until']):{_FORM}}Z"
    rule = "RRULE:" + ";".join(f"{name}={value}" for name, value in parts.items())
    return f"{_start(fields)}{rule}"


def _start(fields: Mapping[str, Any]) -> str:
    at = _instant("dtstart", fields.get("dtstart"))
    minutes = fields.get("dtstart_tz") or 0
    if not is_number(minutes) or not -_DAY < minutes < _DAY:
        raise Unreadable(f"rrule: dtstart_tz = {shown(minutes)}: allowed are minutes of a day")
    hours, rest = divmod(minutes, 60)
    if rest == 0 and -12 <= hours <= 14 and hours:
        wall = at + timedelta(hours=hours)
        return f"DTSTART;TZID=Etc/GMT{-int(hours):+d}:{wall:{_FORM}}\n"
    if minutes and not _is_periodic(fields):
        raise Unreadable(
            f"rrule: its start is {minutes:g} minutes from UTC, which no time zone is; make it "
            "anew in a time zone by its name"
        )
    return f"DTSTART:{at:{_FORM}}Z\n"


def _is_periodic(fields: Mapping[str, Any]) -> bool:
    """Whether the rule is its start and what follows after so much time, again and again."""
    named = (value for name, value in fields.items() if name.startswith("by"))
    return fields["freq"] >= _WEEKLY and not any(_listed(value) for value in named)


def _instant(name: str, value: Any) -> datetime:
    """Seconds since 1970, in UTC."""
    try:
        at = _EPOCH + timedelta(seconds=value)
        if FIRST_START <= at.year <= LAST_END:
            return at
    except (TypeError, ValueError, OverflowError):
        pass
    allowed = f"seconds since 1970, of the years {FIRST_START} to {LAST_END}"
    raise Unreadable(f"rrule: {name} = {shown(value)}: allowed are {allowed}")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable(f"rrule: {name} = {shown(value)}: allowed are whole numbers")
    return value


def _one_of(words: tuple[str, ...], name: str, value: Any) -> str:
    number = _whole(name, value)
    if not 0 <= number < len(words):
        raise Unreadable(f"rrule: {name} = {number}: allowed are 0 to {len(words) - 1}")
    return words[number]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 1440
_FORM = "%Y%m%dT%H%M%S"
