"""What the text of a schedule means on the command line: decided here, and nowhere else.

====================================  =========================================================
text                                  schedule
====================================  =========================================================
``{…}``                               JSON, as in the table
``30``, ``0.5``, ``30s``, ``1h30m``,  an interval: a number of seconds, or a duration
``every 30s``, ``every 5 minutes``
``after 10s``                         so long after the run before has ended
``2026-12-01T09:00:00Z``              once, at this instant; without an offset it is read in the
                                      time zone
``FREQ=…``, ``RRULE:…``,              a recurrence rule of RFC 5545
``DTSTART…``
``0 9 * * MON-FRI``, ``@daily``       a cron string: five fields, or a name that begins with @
====================================  =========================================================

Crontab fields and solar events have no text of their own: they are given as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..errors import ScheduleError
from ..schedules.recurrence.text import is_rule
from ..schedules.schedule import quoted
from .durations import ALLOWED, duration

FORMS = (
    f"a number of seconds, a duration {ALLOWED}, 'every 5 minutes', 'after 10s', an instant "
    "(2026-12-01T09:00:00Z), a cron string ('0 9 * * MON-FRI', '@daily'), an RFC 5545 rule "
    "('FREQ=MONTHLY;BYDAY=-1FR'), or JSON as in the table"
)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}T", re.ASCII)


def schedule(text: str, timezone: str | None = None) -> Mapping[str, Any]:
    """The JSON that *text* stands for, for `schedules.from_json` to judge; see this module.

    *timezone* is that of a schedule which follows the clock on a wall, and JSON may not name
    another one beside it.

    Raises:
        ScheduleError: it is none of these.

    >>> schedule("every 5 minutes")
    {'timedelta': 300.0}
    """
    found = _json(text) if text.lstrip().startswith("{") else _read(text.strip())
    if found is None:
        raise ScheduleError(f"schedule {quoted(text)}: allowed is {FORMS}")
    if timezone is None:
        return found
    if found.get("timezone", timezone) != timezone:
        raise ScheduleError(f"schedule {quoted(text)} names a time zone other than {timezone}")
    return {**found, "timezone": timezone}


def _json(text: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ScheduleError(f"schedule {quoted(text)}: not JSON: {fault}") from None
    return value


def _interval(text: str) -> timedelta | None:
    return duration(f"{text}s" if _NUMBER.fullmatch(text.strip()) else text)


def _read(text: str) -> dict[str, Any] | None:
    word, _, rest = text.partition(" ")
    if word.lower() == "after":
        delay = _interval(rest)
        return None if delay is None else {"after": delay.total_seconds()}
    every = _interval(rest if word.lower() == "every" else text)
    if every is not None:
        return {"timedelta": every.total_seconds()}
    if _DATE.match(text):
        return {"once": text}
    if is_rule(text):
        return {"rrule": text}
    if text.startswith("@") or len(text.split()) == 5:
        return {"cron": text}
    return None
