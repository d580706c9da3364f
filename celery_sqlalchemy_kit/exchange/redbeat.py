"""The entries of RedBeat (celery-redbeat 2), JSON in Redis, as definitions.

Source: its ``decoder``, by whose ``__type__`` JSON stands for other objects. Nothing is made of
them here but what a document can hold.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..clock import as_utc
from ..routines import Origin
from ..schedules.fields import FIELDS
from ..schedules.interval import is_number
from ..schedules.schedule import quoted, shown
from ..schedules.zones import zone_named
from . import definition, redbeat_rule
from .definition import Definition, Found
from .keys import Unreadable, first_of

#: Celery's own, which each of its schedulers adds where it is needed, the kit's too.
CLEANUP = "celery.backend_cleanup"

_TYPES = ("datetime", "interval", "crontab", "weekday", "rrule")


@dataclass(frozen=True)
class Typed:
    """An object that RedBeat's JSON stands for: of what type, and with which fields."""

    type: str
    fields: Mapping[str, Any]


def read(
    entries: Iterable[tuple[str, str | None]],
    statics: Collection[str] = (),
    default_zone: str = "UTC",
) -> Found:
    """What the entries define: each a key and the text of its ``definition``, None: it has none.

    *statics* are the names that RedBeat took from the code, as ``beat_schedule`` had it: to the
    kit as well they are the code's. *default_zone* is that of a crontab.
    """
    found = Found([], [])
    for key, text in entries:
        try:
            defined, faults = _defined(text, statics, default_zone)
        except Unreadable as fault:
            defined, faults = None, [str(fault)]
        if defined is not None and defined.name != CLEANUP:
            found.definitions.append(defined)
        found.problems.extend(f"{quoted(key)}: {fault}" for fault in faults)
    return found


def _defined(
    text: str | None, statics: Collection[str], default_zone: str
) -> tuple[Definition | None, list[str]]:
    if text is None:
        raise Unreadable("it has no definition")
    try:
        entry = json.loads(text, object_hook=_typed)
    except (ValueError, RecursionError) as fault:
        raise Unreadable(f"definition = {shown(text)} is no JSON: {fault}") from None
    if not isinstance(entry, Mapping):
        raise Unreadable(f"definition = {shown(text)}: allowed is an object")
    options, ends_at = _options(entry.get("options"))
    for key, sent in (("args", entry.get("args")), ("kwargs", entry.get("kwargs"))):
        _check_plain(key, sent)
    _check_plain("options", options)
    name = entry.get("name")
    is_static = isinstance(name, str) and name in statics
    written = {
        "name": name,
        "task": entry.get("task"),
        "schedule": _schedule(entry.get("schedule")),
        "args": entry.get("args"),
        "kwargs": entry.get("kwargs"),
        "options": options,
        "active": bool(entry.get("enabled", True)),
        "ends_at": ends_at,
        "origin": Origin.CODE.value if is_static else None,
    }
    return definition.read(written, default_zone)


def _typed(value: dict[str, Any]) -> Any:
    kind = value.get("__type__")
    if not isinstance(kind, str) or kind not in _TYPES:
        return value  # as RedBeat leaves it
    return Typed(kind, {key: inner for key, inner in value.items() if key != "__type__"})


def _check_plain(key: str, value: Any) -> None:
    if found := first_of(Typed, value):
        raise Unreadable(
            f"{key} hold a value of type {found.type}, which JSON has no form for; send it as text"
        )


def _options(options: Any) -> tuple[Any, str | None]:
    """The options, and when the entry ends: at an instant that every message expires at."""
    expires = options.get("expires") if isinstance(options, Mapping) else None
    if not isinstance(expires, Typed) or expires.type != "datetime":
        return options, None
    left = {key: value for key, value in options.items() if key != "expires"}
    return left, as_utc(_datetime(expires.fields)).isoformat()


def _datetime(fields: Mapping[str, Any]) -> datetime:
    """The instant of an encoded datetime; its zone is a name, or an offset in seconds."""
    zone = fields.get("timezone", "UTC")
    wall = {key: value for key, value in fields.items() if key != "timezone"}
    try:
        known = timezone(timedelta(seconds=zone)) if is_number(zone) else zone_named(zone)
        if known is not None:
            return datetime(**wall, tzinfo=known)
    except (TypeError, ValueError, OverflowError):
        pass
    raise Unreadable(f"{shown(dict(fields))} is no instant")


def _schedule(value: Any) -> Any:
    """A schedule of a document; what is none of RedBeat's is left for the reader to refuse."""
    if not isinstance(value, Typed):
        return value
    fields = value.fields
    if value.type == "interval":
        if fields.get("relative"):
            raise Unreadable("relative cannot be kept; use a crontab such as crontab(minute=0)")
        return {"timedelta": fields.get("every")}
    if value.type == "crontab":
        said = {name: fields[name] for name in FIELDS if fields.get(name, "*") != "*"}
        return said or {"minute": "*"}
    if value.type == "rrule":
        rule = {key: _day(inner) for key, inner in fields.items()}
        return {"rrule": redbeat_rule.written(rule)}
    raise Unreadable(f"schedule: a {value.type} is none; allowed are interval, crontab and rrule")


def _day(value: Any) -> Any:
    """A weekday as its number, Monday is 0. Which one of a month it is RedBeat does not store."""
    if isinstance(value, list):
        return [_day(each) for each in value]
    is_day = isinstance(value, Typed) and value.type == "weekday"
    return value.fields.get("wkday") if is_day else value
