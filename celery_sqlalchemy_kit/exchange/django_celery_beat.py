"""The rows of django-celery-beat, versions 2.5 to 2.9, as definitions.

Source: its models and its scheduler. Where a row says several things, what that scheduler makes
of it counts: of several schedules the first in its order; ``expires`` ends the routine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from ..clock import UTC
from ..errors import SourceError
from ..schedules.schedule import quoted, shown
from ..schedules.zones import instant_of, zone_named
from . import definition
from .definition import Found
from .keys import Unreadable

Row = Mapping[str, Any]

#: The tables of schedules, in the order in which a task takes the first that it names; what is
#: needed of each.
SCHEDULES: Mapping[str, tuple[str, ...]] = {
    "interval": ("every", "period"),
    "crontab": (
        *("minute", "hour", "day_of_month", "month_of_year", "day_of_week"),
        "timezone",
    ),
    "solar": ("event", "latitude", "longitude"),
    "clocked": ("clocked_time",),
}
#: What is needed of a task. One that has no such column yet says nothing of it.
TASK = (
    *("name", "task", "args", "kwargs", "description", "enabled"),
    *("queue", "exchange", "routing_key", "priority", "headers"),
    *("expires", "expire_seconds", "start_time", "one_off", "total_run_count"),
    *(f"{kind}_id" for kind in SCHEDULES),
)
#: Celery's own, which each of its schedulers adds where it is needed, the kit's too.
CLEANUP = "celery.backend_cleanup"


@dataclass(frozen=True)
class Tables:
    """What the tables hold, as drivers give it; schedules by kind and id."""

    tasks: Sequence[Row]
    schedules: Mapping[str, Mapping[Any, Row]]


def read(tables: Tables, timezone: str = "UTC", *, instants_in: str = "UTC") -> Found:
    """What the rows define.

    *timezone* is the zone of a crontab that names none. *instants_in*: the zone of instants that
    come without one, as from MySQL and SQLite: UTC, unless Django runs with ``USE_TZ = False``,
    then its ``TIME_ZONE``.

    Raises:
        SourceError: *instants_in* is no time zone.
    """
    zone = zone_named(instants_in)
    if zone is None:
        raise SourceError(f"unknown time zone {shown(instants_in)}; a name such as Europe/Berlin")
    found = Found([], [])
    for task in tables.tasks:
        name = task.get("name")
        if name == CLEANUP:
            continue
        try:
            defined, faults = definition.read(_written(task, tables.schedules, zone), timezone)
        except Unreadable as fault:
            defined, faults = None, [str(fault)]
        found.definitions.extend(filter(None, [defined]))
        found.problems.extend(f"{quoted(name)}: {fault}" for fault in faults)
    return found


def _written(
    task: Row, schedules: Mapping[str, Mapping[Any, Row]], zone: ZoneInfo
) -> dict[str, Any]:
    """A task as it stands in a document."""
    kind, row = _scheduled(task, schedules)
    starts = _instant("start_time", task.get("start_time"), zone)
    ends = _instant("expires", task.get("expires"), zone)
    if starts and ends and starts > ends:
        raise Unreadable(f"start_time = {starts} is after expires = {ends}: it never runs")
    once, one_off = kind == "clocked", bool(task.get("one_off"))
    # Between its run and the scheduler's next look at it.
    over = one_off and bool(task.get("total_run_count"))
    return {
        "name": task.get("name"),
        "task": task.get("task"),
        "schedule": _SCHEDULES[kind](row, zone),
        "args": _json(task, "args"),
        "kwargs": _json(task, "kwargs"),
        "options": dict(_options(task)),
        "active": bool(task.get("enabled", True)) and not over,
        "starts_at": starts,
        "ends_at": ends,
        # One that is given another instant is to run again.
        "max_runs": 1 if one_off and not once else None,
        "description": task.get("description"),
    }


def _scheduled(task: Row, schedules: Mapping[str, Mapping[Any, Row]]) -> tuple[str, Row]:
    for kind in SCHEDULES:
        key = task.get(f"{kind}_id")
        if key is None:
            continue
        row = schedules.get(kind, {}).get(key)
        if row is None:
            raise Unreadable(f"{kind}_id = {shown(key)}: there is no such schedule")
        return kind, row
    raise Unreadable(f"it has no schedule; allowed is one of {', '.join(SCHEDULES)}")


def _options(task: Row) -> Iterator[tuple[str, Any]]:
    for option in ("queue", "exchange", "routing_key", "priority"):
        if task.get(option) not in (None, ""):
            yield option, task[option]
    if headers := _json(task, "headers"):
        yield "headers", headers
    # None for ever, and so is 0.
    if task.get("expire_seconds"):
        yield "expires", task["expire_seconds"]


def _json(task: Row, column: str) -> Any:
    text = task.get(column)
    if text is None or text == "":
        return None
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as fault:
        raise Unreadable(f"{column} = {shown(text)} is no JSON: {fault}") from None


def _instant(column: str, value: Any, zone: ZoneInfo) -> str | None:
    """An instant of a document, from what a driver gives."""
    if value is None:
        return None
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return (at.astimezone(UTC) if at.tzinfo else instant_of(at, zone)).isoformat()
    except (TypeError, ValueError, OverflowError):
        raise Unreadable(f"{column} = {shown(value)} is no instant") from None


# -- schedules ---------------------------------------------------------------------------------


def _interval(row: Row, zone: ZoneInfo) -> dict[str, Any]:
    return {"every": row.get("every"), "period": row.get("period")}


def _crontab(row: Row, zone: ZoneInfo) -> dict[str, Any]:
    fields = {field: row.get(field) for field in SCHEDULES["crontab"]}
    said = {
        field: _NUMBERS.get(text, text)
        for field, text in ((field, str(value)) for field, value in fields.items() if value)
        if text != "*"
    }
    return said if said.keys() - {"timezone"} else {"minute": "*", **said}


def _solar(row: Row, zone: ZoneInfo) -> dict[str, Any]:
    place = {name: row.get(name) for name in ("latitude", "longitude")}
    degrees = {
        name: float(value) if isinstance(value, Decimal) and value.is_finite() else value
        for name, value in place.items()
    }
    return {"solar": row.get("event"), **degrees}


def _clocked(row: Row, zone: ZoneInfo) -> dict[str, Any]:
    return {"once": _instant("clocked_time", row.get("clocked_time"), zone)}


#: Texts that people write as numbers.
_NUMBERS = {str(number): number for number in range(60)}
_SCHEDULES = {"interval": _interval, "crontab": _crontab, "solar": _solar, "clocked": _clocked}
