"""A ``beat_schedule``, as an app's configuration holds it, as definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import entries
from ..errors import DeclarationError, ScheduleError
from ..routines import Declared
from ..schedules.schedule import quoted
from . import definition
from .definition import Found
from .keys import Unreadable

#: What Celery knows of an entry; it refuses others.
KEYS = ("task", "schedule", "args", "kwargs", "options", "relative")


def read(beat_schedule: Mapping[str, Any] | None, timezone: str = "UTC") -> Found:
    """What the entries define; *timezone* is the zone of a crontab that names none.

    An entry is a mapping as in the configuration, or a ``ScheduleEntry``; its schedule is
    whatever `schedules.parse` reads, or a list of such, which is a routine each. ``relative``
    is not taken over: a crontab says the same.
    """
    found = Found([], [])
    for name, entry in (beat_schedule or {}).items():
        try:
            for declared in _declared(str(name), entry, timezone):
                defined, faults = definition.read(_written(declared), timezone)
                found.definitions.extend(filter(None, [defined]))
                found.problems.extend(f"{quoted(declared.name)}: {fault}" for fault in faults)
        except (DeclarationError, ScheduleError, Unreadable) as fault:
            found.problems.append(f"{quoted(str(name))}: {fault}")
    return found


def _declared(name: str, entry: Any, timezone: str) -> list[Declared]:
    if not isinstance(entry, Mapping):
        # Of a ScheduleEntry; anything else has none that could be stored.
        entry = {key: value for key, value in _attributes(entry) if key in KEYS}
    for key in entry:
        if key not in KEYS:
            raise Unreadable(f"unknown key {quoted(key)}; allowed are {', '.join(KEYS)}")
    if entry.get("relative"):
        raise Unreadable("relative cannot be kept; use a crontab such as crontab(minute=0)")
    return entries.declared(name, entry, timezone, builtin=False)


def _attributes(entry: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(entry, "__dict__", {}).items()


def _written(declared: Declared) -> dict[str, Any]:
    return {
        "name": declared.name,
        "task": declared.task,
        "schedule": declared.schedule.to_json(),
        "args": declared.args,
        "kwargs": declared.kwargs,
        "options": declared.options,
    }
