"""Cron strings: ``0 9 * * MON-FRI``, in a time zone, as crontab(5) means them.

Unlike crontab fields, a day matches by its number *or* its weekday where neither of the two
begins with ``*``. Besides crontab(5), as in ``cronsim``: ``L`` and ``LW``, the last day and the
last workday of the month; ``FRI#2`` and ``5L``, the second and the last Friday; ``10/15`` from 10
on. Besides that, as in crontab fields: a range may go round, ``22-3``, ``FRI-MON``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab as celery_crontab

from ..errors import ScheduleError
from .days import LAST, MOST_WEEKS, Days
from .description import described
from .fields import FIELDS, Field, Fields
from .reckoning import Reckoning, reckoning
from .schedule import check_keys, refused, shown
from .wallclock import WallClock, check_zone, zone_in

KEYS = ("cron", "timezone")
MACROS: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True)
class Cron(WallClock):
    """Whenever a cron string matches the wall clock of its zone.

    Equal to another whose fields mean the same and that names the same zone, however either is
    written.
    """

    fields: Fields
    timezone: str | None
    #: As it was written.
    expression: str = field(compare=False)
    default_timezone: str = field(default="UTC", compare=False)

    def to_json(self) -> dict[str, Any]:
        named = {} if self.timezone is None else {"timezone": self.timezone}
        return {"cron": self.expression, **named}

    def find_words(self) -> str:
        return described(_five(self.expression), self.zone, either=self.fields.days.either)

    def find_reckoning(self) -> Reckoning:
        return reckoning(self.fields, ZoneInfo(self.zone))


def from_json(value: Mapping[str, Any], timezone: str) -> Cron:
    """Read ``{"cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"}``; *timezone* is the default.

    Raises:
        ScheduleError: a key, a field or the zone is not allowed, or nothing ever matches.
    """
    check_keys(value, KEYS)
    named = zone_in(value, timezone)
    expression = value["cron"]
    if not isinstance(expression, str):
        raise refused(value, f'cron {shown(expression)}: allowed is a text, "0 9 * * MON-FRI"')
    return Cron(_read(value, expression), named, expression, timezone)


def from_code(value: object, timezone: str) -> Cron | None:
    """Read a `Cron` or a text; None for anything else."""
    if isinstance(value, Cron):
        check_zone(value.to_json(), value.timezone or timezone)
        return replace(value, default_timezone=timezone)
    if isinstance(value, str):
        check_zone(value, timezone)
        return Cron(_read(value, value), None, value, timezone)
    return None


def to_celery(cron: Cron) -> celery_crontab:
    """A crontab of Celery's with the same minutes and hours, its ``tz`` the zone in force.

    Celery's has neither *or* nor ``L``: of days that need them it has all.
    """
    return _to_celery(cron.fields, cron.zone)


@lru_cache(maxsize=1024)
def _to_celery(fields: Fields, zone: str) -> celery_crontab:
    days, plain = fields.days, _is_plain(fields.days)
    numbers = {"minute": fields.minute, "hour": fields.hour, "month_of_year": fields.month_of_year}
    if plain:
        numbers |= {"day_of_week": days.of_week, "day_of_month": days.of_month}
    made = celery_crontab(
        **{
            name: ",".join(map(str, found))
            for name, found in numbers.items()
            if len(found) <= FIELDS[name].high - FIELDS[name].low
        }
    )
    made.tz = ZoneInfo(zone)
    return made


def _is_plain(days: Days) -> bool:
    return not (days.either or days.last or days.last_workday or days.nth)


def _five(expression: str) -> str:
    """The five fields of an expression; a macro is spelled out."""
    text = expression.strip()
    return MACROS.get(text.lower(), text)


def _read(value: object, expression: str) -> Fields:
    """What *expression* means; *value*, of which it is a part, is shown where it is refused."""
    texts = _five(expression).split() if len(expression) <= _LONGEST else []
    if len(texts) != len(_FIELDS):
        raise refused(
            value,
            "allowed are five fields, minute, hour, day of month, month and day of week, "
            f"in at most {_LONGEST} characters, or one of {', '.join(MACROS)}",
        )
    try:
        return _fields(_known_numbers, _known_days, *texts)
    except ScheduleError:  # once more, to be told with *value*
        return _fields(partial(_numbers, value), partial(_days, value), *texts)


def _fields(
    numbers: Callable[[int, str], tuple[int, ...]],
    days: Callable[[str, str, str], tuple[tuple[int, ...], Days]],
    *texts: str,
) -> Fields:
    minute, hour, *others = texts
    times = numbers(0, minute), numbers(1, hour)
    months, matching = days(*others)
    wildcard = minute.startswith("*") or hour.startswith("*")
    return Fields(*times, months, matching, wildcard)


def _numbers(value: object, place: int, text: str) -> tuple[int, ...]:
    return _FIELDS[place].of(value, text, text.split(","))


def _days(value: object, of_month: str, month: str, of_week: str) -> tuple[tuple[int, ...], Days]:
    """The months, and the days in them."""
    ends = {part.upper() for part in of_month.split(",")} & {"L", "LW"}
    nth = [part for part in of_week.split(",") if _NTH.fullmatch(part)]
    by_month = [part for part in of_month.split(",") if part.upper() not in ends]
    by_week = [part for part in of_week.split(",") if part not in nth]
    numbers = _FIELDS[2].of(value, of_month, by_month)
    months = _numbers(value, 3, month)
    days = Days(
        of_month=numbers,
        of_week=_FIELDS[4].of(value, of_week, by_week),
        last="L" in ends,
        last_workday="LW" in ends,
        nth=frozenset(_count(value, of_week, part) for part in nth),
        either=not (of_month.startswith("*") or of_week.startswith("*")),
    )
    if not days.ever(months):
        fault = f"never matches: month {month} has no day of month {of_month}"
        raise refused(value, fault + ("" if of_week == "*" else f" that is {of_week}"))
    return months, days


#: Many crons have each of their fields in common with others.
_known_numbers = lru_cache(maxsize=1024)(partial(_numbers, None))
_known_days = lru_cache(maxsize=1024)(partial(_days, None))


def _count(value: object, text: str, part: str) -> tuple[int, int]:
    """A weekday and its count: of ``FRI#2``, or of ``5L``."""
    weekday, _, count = part.partition("#")
    found = _DAY_OF_WEEK.part(weekday if count else weekday[:-1])
    if found is None:
        raise _DAY_OF_WEEK.refusal(value, text)
    return found[0], int(count) if count else LAST


_LONGEST = 1000
_NTH = re.compile(rf"(?:[0-7]|[A-Z]+)#[1-{MOST_WEEKS}]|[0-7]L", re.IGNORECASE)
_FORMS = '"*", "*/2", "1-3", "1,3", "10/15"'
# Names in full, as FRIL is not Friday.
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
_DAY_OF_WEEK = Field(
    "day of week",
    0,
    7,
    FIELDS["day_of_week"].names,
    _WEEKDAYS,
    size=7,
    open_steps=True,
    forms=f'{_FORMS}, "FRI#2", "5L"',
)
_FIELDS = (
    Field("minute", 0, 59, open_steps=True, forms=_FORMS),
    Field("hour", 0, 23, open_steps=True, forms=_FORMS),
    Field("day of month", 1, 31, open_steps=True, forms=f'{_FORMS}, "L", "LW"'),
    Field(
        "month",
        1,
        12,
        FIELDS["month_of_year"].names,
        _MONTHS,
        open_steps=True,
        forms=_FORMS,
    ),
    _DAY_OF_WEEK,
)
