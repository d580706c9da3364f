"""The kinds of schedule: values that say when a routine is due, and their JSON.

A kind is one module: its class, `from_code` (None if the value is not its own), `from_json` and
`to_celery`. It is entered below, by its keys in JSON and by its class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from celery.schedules import BaseSchedule

from ..errors import ScheduleError
from . import after, cron, crontab, interval, once, rrule, solar
from .after import After
from .cron import Cron
from .crontab import Crontab
from .fields import FIELDS
from .interval import Interval
from .once import Once
from .rrule import Rrule
from .schedule import Schedule, quoted, refused, shown
from .solar import Solar

__all__ = [
    "After",
    "Cron",
    "Crontab",
    "Interval",
    "Once",
    "Rrule",
    "Schedule",
    "Solar",
    "from_json",
    "loads",
    "parse",
    "rewritten",
    "to_celery",
]

#: By the keys of which any one, in JSON, makes a value this kind; the first that is found counts.
_FROM_JSON: Mapping[str, Callable[[Mapping[str, Any], str], Schedule]] = {
    "timedelta": interval.from_json,
    "every": interval.from_every,
    "period": interval.from_every,
    "cron": cron.from_json,
    "once": once.from_json,
    "after": after.from_json,
    "solar": solar.from_json,
    "rrule": rrule.from_json,
    **dict.fromkeys(FIELDS, crontab.from_json),
}
_FROM_CODE: tuple[Callable[[object, str], Schedule | None], ...] = (
    interval.from_code,
    crontab.from_code,
    rrule.from_code,  # before what reads any text
    cron.from_code,
    once.from_code,
    after.from_code,
    solar.from_code,
)
_TO_CELERY: Mapping[type, Callable[[Any], BaseSchedule]] = {
    Interval: lru_cache(maxsize=1024)(interval.to_celery),
    Crontab: crontab.to_celery,
    Cron: cron.to_celery,
    Once: once.to_celery,
    After: after.to_celery,
    Rrule: rrule.to_celery,
    Solar: lru_cache(maxsize=1024)(solar.to_celery),
}
_TABLE = (
    f'{{"timedelta": seconds}}, {{"cron": "0 9 * * MON-FRI"}}, {{"once": instant}}, '
    '{"solar": "sunset", "latitude": 52.52, "longitude": 13.4}, '
    '{"rrule": "FREQ=MONTHLY;BYDAY=-1FR"}, '
    f'{{"after": seconds}}, or the crontab fields {", ".join(crontab.KEYS)}'
)
_CODE = (
    "a number of seconds, a timedelta, a cron string, a recurrence rule, a datetime, celery's "
    "schedules, or a dict"
)

#: Far more characters than any schedule has.
_LONGEST_TEXT = 10_000


def parse(value: object, *, timezone: str = "UTC") -> Schedule:
    """The schedule that *value*, from code, stands for.

    Seconds (int, float), a timedelta, a cron string, an RFC 5545 rule, a datetime, celery's
    ``schedule``, ``crontab`` or ``solar``, a dict as in the table, or a `Schedule`. Subclasses of
    celery's are refused: what they add cannot be stored. *timezone* is the zone of what follows
    the clock on a wall and names none.

    Raises:
        ScheduleError: it is no schedule; the message shows the value and says what is allowed.
    """
    for read in _FROM_CODE:
        schedule = read(value, timezone)
        if schedule is not None:
            return schedule
    if isinstance(value, Mapping):
        return from_json(value, timezone=timezone)
    raise refused(value, f"is no schedule; allowed are {_CODE} as in the table: {_TABLE}")


def from_json(value: object, *, timezone: str = "UTC") -> Schedule:
    """The schedule that *value*, decoded JSON from the table, stands for; see `parse`.

    >>> from_json({"timedelta": 15}).words()
    'every 15 s'
    """
    if not isinstance(value, Mapping):
        raise refused(value, f"is no schedule; allowed are {_TABLE}")
    for key, read in _FROM_JSON.items():
        if key in value:
            return read(value, timezone)
    for key in value:
        if key != "timezone":
            raise refused(value, f"unknown key {quoted(key)}; allowed are {_TABLE}")
    raise refused(value, f"says no time; allowed are {_TABLE}")


@lru_cache(maxsize=4096)
def loads(text: str, timezone: str) -> Schedule:
    """The schedule of JSON text from the table: the same object for the same text and zone.

    Raises:
        ScheduleError: it is no JSON, or no schedule.
    """
    if len(text) > _LONGEST_TEXT:
        raise ScheduleError(f"schedule {shown(text)}: longer than {_LONGEST_TEXT} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScheduleError(f"schedule {shown(text)}: not JSON: {error}") from None
    return from_json(value, timezone=timezone)


def rewritten(text: str, timezone: str) -> str | None:
    """What a row is to hold in place of JSON *text* that other schedulers write; None: it stays."""
    return _rewritten(text, timezone) if '"every"' in text else None


@lru_cache(maxsize=1024)
def _rewritten(text: str, timezone: str) -> str | None:
    return json.dumps(loads(text, timezone).to_json())


def to_celery(schedule: Schedule) -> BaseSchedule:
    """An object of celery's, for what expects one on an entry: of the same meaning where celery
    has it. Cached, so not to be changed. Its own reckoning is not used."""
    return _TO_CELERY[type(schedule)](schedule)
