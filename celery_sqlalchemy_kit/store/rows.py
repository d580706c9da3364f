"""Rows as values: decoded one by one, so that a bad one harms itself only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar
from uuid import UUID

from .. import schedules
from ..columns import read_instant
from ..errors import RoutineError, ScheduleError
from ..routines import REFUSED_OPTIONS, CatchUp, Origin, Overlap, Routine, made

#: Columns that a claim reads, all as text.
ROUTINE_COLUMNS = (
    "id",
    "name",
    "task",
    "schedule",
    "args",
    "kwargs",
    "options",
    "next_run_at",
    "occurrence_at",
    "last_run_at",
    "total_run_count",
    "catch_up",
    "overlap",
    "jitter",
    "starts_at",
    "ends_at",
    "max_runs",
    "edited_at",
    "paused_at",
    "waiting_for",
    "ended_at",
    "origin",
)

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True)
class Fetched:
    """One row as it was read: its key, its text, and the routine or what is wrong with it."""

    key: str
    text: Mapping[str, str | None]
    routine: Routine | None
    fault: str | None


def fetched(
    text: Mapping[str, str | None], timezone: str, allowed_tasks: Sequence[str] | None = None
) -> Fetched:
    """Decode one row; *text* maps `ROUTINE_COLUMNS` to what stands there.

    *allowed_tasks* are the patterns of which a row's task has to match one; None: any task.
    """
    key = text["id"] or ""
    try:
        routine = routine_of(text, timezone)
        if allowed_tasks is not None:
            check_task(routine.task, allowed_tasks)
        return made(Fetched, key=key, text=text, routine=routine, fault=None)
    except (RoutineError, ScheduleError) as fault:
        # JSON may spell half a surrogate pair, which no database takes back as text.
        told = str(fault).encode("utf-8", "backslashreplace").decode()
        return Fetched(key, text, None, told)


def routine_of(text: Mapping[str, str | None], timezone: str) -> Routine:
    """The routine that a row says.

    Raises:
        RoutineError, ScheduleError: names the column, its value and what is allowed.
    """
    defined = _defined(*_defining(text))
    schedule = schedules.loads(text["schedule"] or "null", timezone)
    return made(
        Routine,
        id=_uuid("id", text["id"]),
        name=_name(text, "name"),
        schedule=schedule,
        one_off=text["origin"] == _ONCE and isinstance(schedule, schedules.Once),
        next_run_at=_instant(text, "next_run_at"),
        occurrence_at=_instant(text, "occurrence_at"),
        last_run_at=_instant(text, "last_run_at"),
        total_run_count=_whole(text, "total_run_count") or 0,
        edited_at=_instant(text, "edited_at"),
        paused_at=_instant(text, "paused_at"),
        waiting_for=_uuid("waiting_for", text["waiting_for"]) if text["waiting_for"] else None,
        ended_at=_instant(text, "ended_at"),
        namespace="",
        args=tuple(json_column(text, "args", list)),
        kwargs=json_column(text, "kwargs", dict),
        **defined,
    )


#: What people say, of which thousands of rows may say the same: all but the schedule, which is
#: remembered by itself, as each of them may have its own.
_DEFINING = (
    *("task", "options", "catch_up", "overlap", "jitter"),
    *("starts_at", "ends_at", "max_runs"),
)


_defining = itemgetter(*_DEFINING)
_ONCE = Origin.ONCE.value


@lru_cache(maxsize=4096)
def _defined(*said: str | None) -> Mapping[str, Any]:
    """The fields of a routine of which a row says this; the same objects for the same text, so
    not to be changed."""
    text = dict(zip(_DEFINING, said, strict=True))
    options = json_column(text, "options", dict)
    if options:
        check_options(options)
    return {
        "task": _name(text, "task"),
        "options": options,
        "catch_up": _word(text, "catch_up", CatchUp),
        "overlap": _word(text, "overlap", Overlap),
        "jitter_seconds": _jitter(text),
        "starts_at": _instant(text, "starts_at"),
        "ends_at": _instant(text, "ends_at"),
        "max_runs": _whole(text, "max_runs"),
    }


def json_column(text: Mapping[str, str | None], column: str, kind: type[Any]) -> Any:
    """A JSON list or object; SQL's and JSON's null are an empty one."""
    value = text[column]
    if value is None or value == ("{}" if kind is dict else "[]"):
        return kind()
    allowed = "an object" if kind is dict else "an array"
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as fault:
        raise RoutineError(
            f"{column} = {_shown(value)} is no JSON; allowed is {allowed}: {fault}"
        ) from None
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise RoutineError(f"{column} = {_shown(value)}: allowed is {allowed}, in JSON")
    return found


def check_task(task: str, allowed: Sequence[str]) -> None:
    """Raise a `RoutineError` if *task* matches none of the *allowed* patterns."""
    if not any(fnmatchcase(task, pattern) for pattern in allowed):
        raise RoutineError(
            f"task = {_shown(task)}: scheduler_allowed_tasks allows {', '.join(allowed) or 'none'}"
        )


def check_options(options: Mapping[str, Any]) -> None:
    """Raise a `RoutineError` if a row may not have these *options*."""
    refused = sorted(REFUSED_OPTIONS & options.keys())
    if refused:
        raise RoutineError(
            f"options: {', '.join(refused)} cannot be set in a row; allowed are queue, priority, "
            "expires, headers and the other options of apply_async"
        )
    headers = options.get("headers")
    if headers is not None and not isinstance(headers, dict):
        raise RoutineError(f"options: headers = {_shown(repr(headers))}: allowed is an object")


def _name(text: Mapping[str, str | None], column: str) -> str:
    value = text[column]
    if not value:
        raise RoutineError(f"{column} = {value!r}: allowed are 1 to 255 characters")
    return value


@lru_cache(maxsize=4096)
def _uuid(column: str, value: str | None) -> UUID:
    try:
        return UUID(value or "")
    except ValueError:
        raise RoutineError(
            f"{column} = {_shown(str(value))} is no UUID; allowed are 32 hex digits, "
            "also with dashes"
        ) from None


def _instant(text: Mapping[str, str | None], column: str) -> datetime | None:
    value = text[column]
    if value is None:
        return None
    try:
        return read_instant(value)
    except ValueError:
        raise RoutineError(
            f"{column} = {_shown(value)} is no instant; allowed is YYYY-MM-DD HH:MM:SS, in UTC"
        ) from None


def _whole(text: Mapping[str, str | None], column: str) -> int | None:
    value = text[column]
    if value is None:
        return None
    try:
        number = int(value)
    except ValueError:
        number = -1
    if number < 0:
        raise RoutineError(f"{column} = {_shown(value)}: allowed is a whole number from 0")
    return number


def _word(text: Mapping[str, str | None], column: str, kind: type[E]) -> E:
    try:
        return kind(text[column])
    except ValueError:
        allowed = ", ".join(str(word.value) for word in kind)
        raise RoutineError(
            f"{column} = {_shown(str(text[column]))}: allowed is one of {allowed}"
        ) from None


def _jitter(text: Mapping[str, str | None]) -> float:
    value = text["jitter"]
    if value is None or value == "0":
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_JITTER:
        raise RoutineError(
            f"jitter = {_shown(value)}: allowed are seconds from 0 to {_LONGEST_JITTER}"
        )
    return seconds


_LONGEST_JITTER = 31_536_000
_LONGEST_SHOWN = 200


def _shown(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…")
