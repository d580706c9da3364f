"""The five fields of a crontab: what may stand in them, and which numbers that means.

Source: ``celery.schedules.crontab``. A field is a number, a text (``*``, ``*/5``, ``1-5``,
``22-3``, ``1-31/2``, ``mon-fri``, or several of these with commas between), or a list of such.
Read by our own grammar, so that a row means the same under every version of Celery, and more
strictly: celery takes ``*/15 junk``, or ``jan`` for a minute. Cron strings add to it: see `cron`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import ScheduleError
from .days import Days
from .schedule import refused, shown

#: A field as it is written down: numbers and texts as they were, lists as tuples.
Spec = int | str | tuple[int | str, ...]


class Fields(NamedTuple):
    """What the fields match: numbers ascending, and days. All must match."""

    minute: tuple[int, ...]
    hour: tuple[int, ...]
    month_of_year: tuple[int, ...]
    days: Days
    #: The minute or the hour begins with ``*``: follows real time where the clock is changed.
    wildcard: bool


def read_fields(value: Mapping[str, Any], specs: Mapping[str, Spec]) -> Fields:
    """The numbers that *specs* mean; a field that is missing is ``*``.

    Raises:
        ScheduleError: a field is out of range or unreadable, or no day ever matches. The
            message shows *value*.
    """
    minute, hour, day_of_week, day_of_month, month_of_year = (
        field.numbers(value, specs.get(name, "*")) for name, field in FIELDS.items()
    )
    wildcard = any(_begins_with_star(specs.get(name, "*")) for name in ("minute", "hour"))
    days = Days(of_month=day_of_month, of_week=day_of_week)
    if not days.ever(month_of_year):
        day, month = shown(specs["day_of_month"]), shown(specs["month_of_year"])
        raise refused(value, f"never matches: month_of_year {month} has no day_of_month {day}")
    return Fields(minute, hour, month_of_year, days, wildcard)


def read_spec(value: Mapping[str, Any], name: str) -> Spec:
    """Field *name* of *value* in a form that cannot change.

    Raises:
        ScheduleError: it is neither a number nor a text nor a list of these, or far too long.
    """
    spec = value[name]
    if _is_plain(spec):
        return spec  # type: ignore[no-any-return] # int or str, as just asked
    listed = isinstance(spec, (list, tuple)) and 0 < len(spec) <= _MANY
    if listed and all(map(_is_plain, spec)) and sum(len(str(item)) for item in spec) <= _MANY:
        return tuple(spec)
    raise FIELDS[name].refusal(value, spec)


@dataclass(frozen=True)
class Field:
    """One field: its bounds, both inclusive, and the names of its numbers, if they have names.

    ``whole``: the names in full, if only they and what they begin with are names; else the first
    three letters count. ``size``: how many numbers differ, if fewer than the bounds allow (Sunday
    is 0 and 7).
    ``open_steps``: ``10/15`` is every 15th from 10 on; otherwise it is refused. ``forms``: what
    a refusal gives as examples.
    """

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    size: int | None = None
    open_steps: bool = False
    forms: str = 'a number, a text such as "*", "*/2", "1-3" or "1,3", or a list of numbers'

    def numbers(self, value: Mapping[str, Any], spec: Spec) -> tuple[int, ...]:
        """The numbers that *spec* means, ascending."""
        items = spec if isinstance(spec, tuple) else (spec,)
        texts = (item if isinstance(item, str) else str(item) for item in items)
        return self.of(value, spec, [part.strip() for text in texts for part in text.split(",")])

    def of(self, value: object, spec: object, parts: Iterable[str]) -> tuple[int, ...]:
        """The numbers that *parts* mean, elements of *spec*, ascending."""
        found: set[int] = set()
        for part in parts:
            numbers = _part(self, part)
            if numbers is None:
                raise self.refusal(value, spec)
            found.update(numbers)
        return tuple(sorted(found))

    def refusal(self, value: object, spec: object) -> ScheduleError:
        """The error that says that *spec* may not stand in this field of *value*."""
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        allowed = f"{self.low}-{self.high}{names}"
        return refused(value, f"{self.name} {shown(spec)}; allowed are {allowed}, as {self.forms}")

    def part(self, part: str) -> tuple[int, ...] | None:
        """The numbers of one element between commas; None: it is none."""
        match = _PART.fullmatch(part)
        if match is None:
            return None
        first, last, step = match.groups()
        begin, end = self.low, self.high
        if first is not None:
            number = self._number(first)
            if number is None or (last is None and step is not None and not self.open_steps):
                return None
            begin = number
            if last is not None or step is None:
                other = number if last is None else self._number(last)
                if other is None:
                    return None
                end = other
        stride = 1 if step is None else int(step)
        return tuple(self._range(begin, end)[::stride]) if stride else None

    def _range(self, begin: int, end: int) -> list[int]:
        """From *begin* to *end*, both inclusive; past the top and on from the bottom if need be."""
        size = self.size or self.high - self.low + 1
        end += size if end < begin else 0
        return [self.low + (number - self.low) % size for number in range(begin, end + 1)]

    def _number(self, text: str) -> int | None:
        if text.isdigit():
            number = int(text)
            return number if self.low <= number <= self.high else None
        # Three letters count, as in celery: "tues" and "thurs" are in use.
        name = text[:3].lower()
        if name not in self.names:
            return None
        index = self.names.index(name)
        if self.whole and not self.whole[index].startswith(text.lower()):
            return None
        return self.low + index


@lru_cache(maxsize=1024)
def _part(field: Field, part: str) -> tuple[int, ...] | None:
    """The same again for most of the crontabs that a start reads by the thousand."""
    return field.part(part)


def _is_plain(spec: object) -> bool:
    """Whether it is a number or a text of bearable length; bool is an int to Python only."""
    if isinstance(spec, str):
        return len(spec) <= _MANY
    return isinstance(spec, int) and not isinstance(spec, bool) and abs(spec) <= _MANY


def _begins_with_star(spec: Spec) -> bool:
    first = spec[0] if isinstance(spec, tuple) else spec
    return isinstance(first, str) and first.lstrip().startswith("*")


#: More characters, or elements, than any field needs; `0,1,...,59` has 169.
_MANY = 500
_NUMBER = "[0-9]{1,4}|[a-z]+"
_PART = re.compile(
    rf"(?:\*|({_NUMBER})(?:-({_NUMBER}))?)(?:/([0-9]{{1,4}}))?", re.ASCII | re.IGNORECASE
)
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
FIELDS: Mapping[str, Field] = {
    field.name: field
    for field in (
        Field("minute", 0, 59),
        Field("hour", 0, 23),
        Field("day_of_week", 0, 6, _WEEKDAYS),
        Field("day_of_month", 1, 31),
        Field("month_of_year", 1, 12, _MONTHS),
    )
}
