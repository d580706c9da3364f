"""What people say of a routine, checked by the scheduler's own rules, and made columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import uuid4

from .. import schedules
from ..clock import as_utc
from ..columns import INSTANT_FORMAT
from ..details import RoutineDetails
from ..errors import RoutineError
from ..exchange.keys import READERS, Unreadable, is_storable
from .desk import Desk
from .rows import ROUTINE_COLUMNS, check_task, routine_of

JSON_FIELDS = ("schedule", "args", "kwargs", "options")
_INSTANTS = ("starts_at", "ends_at")
#: What of a routine people may set, beside its name.
FIELDS = (
    *("task", *JSON_FIELDS, "active", "catch_up", "overlap", "jitter"),
    *(*_INSTANTS, "max_runs", "description"),
)
#: What any database takes.
_AS_IN_DOCUMENTS = ("name", "task", "max_runs", "description")


def columns_of(desk: Desk, given: Mapping[str, Any]) -> dict[str, Any]:
    """*given* as values of columns: JSON as text, words as text, instants as aware datetimes.

    Raises:
        RoutineError, ScheduleError: names the field, its value and what is allowed.
    """
    unknown = sorted(given.keys() - {"name", *FIELDS})
    if unknown:
        raise RoutineError(f"unknown field {unknown[0]!r}; allowed are {', '.join(FIELDS)}")
    return {name: _column(desk, name, value) for name, value in given.items()}


def check(desk: Desk, columns: Mapping[str, Any], beside: RoutineDetails | None = None) -> None:
    """Check that a routine of these columns, and of what *beside* has besides, can be scheduled.

    Raises:
        RoutineError, ScheduleError: names the column, its value and what is allowed.
    """
    text: dict[str, str | None] = dict.fromkeys(ROUTINE_COLUMNS)
    text |= {"id": uuid4().hex, "catch_up": "latest", "overlap": "allow"}
    for source in (_text_of(beside) if beside else {}, columns):
        text |= {name: _as_text(value) for name, value in source.items() if name in text}
    routine = routine_of(text, desk.timezone)
    if desk.allowed_tasks is not None:
        check_task(routine.task, desk.allowed_tasks)
    starts, ends = routine.starts_at, routine.ends_at
    if starts is not None and ends is not None and starts > ends:
        raise RoutineError(f"ends_at = {ends.isoformat()}: allowed is no instant before starts_at")


def _text_of(routine: RoutineDetails) -> dict[str, Any]:
    """What cannot be read of a row is left out: it may be about to be corrected."""
    known = routine.routine
    if known is None:
        return {"name": routine.name, "task": routine.task, "schedule": '{"timedelta": 1}'}
    schedule = json.dumps(known.schedule.to_json())
    bounds = {"starts_at": known.starts_at, "ends_at": known.ends_at}
    return {"name": known.name, "task": known.task, "schedule": schedule, **bounds}


def _column(desk: Desk, name: str, value: Any) -> Any:
    if name == "schedule":
        return json.dumps(schedules.parse(value, timezone=desk.timezone).to_json())
    if name in JSON_FIELDS:
        return _json(name, value)
    if name in _INSTANTS:
        return None if value is None else instant(name, value)
    if name == "jitter":
        return value.total_seconds() if isinstance(value, timedelta) else value
    if name in _AS_IN_DOCUMENTS:
        return _as_in_documents(name, value)
    if name == "active" and not isinstance(value, bool):
        raise RoutineError(f"active = {value!r}: allowed is true or false")
    return value.value if isinstance(value, Enum) else value


def _as_in_documents(name: str, value: Any) -> Any:
    try:
        return READERS[name](value)
    except Unreadable as allowed:
        raise RoutineError(f"{name} = {value!r}: allowed is {allowed}") from None


def _json(name: str, value: Any) -> str:
    kind, allowed = (list, "a list") if name == "args" else (dict, "a dict")
    if not value and (value is None or type(value) is kind):
        return "[]" if kind is list else "{}"
    plain = list(value) if isinstance(value, tuple) else value
    if isinstance(value, Mapping):
        plain = dict(value)
    if not isinstance(plain, kind):
        raise RoutineError(f"{name} = {value!r}: allowed is {allowed}")
    try:
        text = json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise RoutineError(f"{name} = {value!r} is no JSON: {fault}") from None
    # MariaDB refuses it.
    if "\\ud" in text and not is_storable(json.dumps(plain, ensure_ascii=False)):
        raise RoutineError(f"{name} = {value!r}: allowed is no half a surrogate")
    return text


def instant(name: str, value: Any) -> datetime:
    """*value*, which people gave for *name*, in UTC.

    Raises:
        RoutineError: it is no datetime with a time zone.
    """
    try:
        return as_utc(value)
    except (AttributeError, TypeError, ValueError):
        raise RoutineError(f"{name} = {value!r}: allowed is a datetime with a time zone") from None


def _as_text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return as_utc(value).replace(tzinfo=None).strftime(INSTANT_FORMAT)
    return None if value is None else str(value)
