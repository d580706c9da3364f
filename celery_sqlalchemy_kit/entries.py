"""Entries: what code says of a routine, as in ``beat_schedule``; checked, and made a value.

An entry with a list of schedules stands for several routines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from . import schedules
from .errors import DeclarationError, ScheduleError
from .routines import REFUSED_OPTIONS, Declared

#: What an entry of a task's ``routines`` may say.
KEYS = ("schedule", "args", "kwargs", "options")

_LONGEST_NAME = 255


def check(attributes: Mapping[str, Any], task: str) -> None:
    """Check the schedules that a task class says in its *attributes*; *task* is what it is called.

    Raises:
        DeclarationError: names the task, the routine, what is wrong and what is allowed.
    """
    if attributes.get("schedule") is not None:
        _check_schedule(attributes["schedule"], task)
    routines = attributes.get("routines") or {}
    if not isinstance(routines, Mapping):
        raise DeclarationError(f"{task}: routines = {routines!r}: allowed is a dict of dicts")
    for name, entry in routines.items():
        whose = f"{task}: routines[{name!r}]"
        if not isinstance(entry, Mapping):
            raise DeclarationError(f"{whose} = {entry!r}: allowed is a dict with a schedule")
        for key in entry:
            if key not in KEYS:
                raise DeclarationError(
                    f"{whose}: unknown key {key!r}; allowed are {', '.join(KEYS)}"
                )
        _check_schedule(entry.get("schedule"), whose)


def of_task(task: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries of one task, by name: of its ``schedule``, and of its ``routines``."""
    shared = {field: getattr(task, field, None) for field in ("args", "kwargs", "options")}
    shared["task"] = task.name
    if task.schedule is not None:
        yield task.name, {**shared, "schedule": task.schedule}
    for name, entry in (task.routines or {}).items():
        yield name, {**shared, **entry}


def declared(
    name: str, entry: Mapping[str, Any], timezone: str, *, builtin: bool
) -> list[Declared]:
    """The routines of one entry: one for each of its schedules.

    Raises:
        DeclarationError, ScheduleError: name the field, its value and what is allowed.
    """
    task = entry.get("task")
    for what, value in (("name", name), ("task", task)):
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
            raise DeclarationError(
                f"{what} = {value!r}: allowed are 1 to {_LONGEST_NAME} characters"
            )
    options = dict(_sent(entry, "options", Mapping, "a dict") or {})
    refused = sorted(REFUSED_OPTIONS & options.keys())
    if refused:
        raise DeclarationError(f"options: {', '.join(refused)} cannot be set")
    value = entry.get("schedule")
    several = isinstance(value, (list, tuple))
    found = [schedules.parse(each, timezone=timezone) for each in _listed(value)]
    return [
        Declared(
            name=_named_by(name, schedule) if several else name,
            task=str(task),
            schedule=schedule,
            args=tuple(_sent(entry, "args", (list, tuple), "a list or a tuple") or ()),
            kwargs=dict(_sent(entry, "kwargs", Mapping, "a dict") or {}),
            options=options,
            builtin=builtin,
        )
        for schedule in found
    ]


def _named_by(name: str, schedule: schedules.Schedule) -> str:
    """The name of one routine out of several: by its schedule, as places in a list may change."""
    named = f"{name} {json.dumps(schedule.to_json(), sort_keys=True)}"
    if len(named) > _LONGEST_NAME:
        raise DeclarationError(
            f"the name {named!r} has more than {_LONGEST_NAME} characters; `routines` gives it a "
            "name of its own"
        )
    return named


def _sent(entry: Mapping[str, Any], field: str, kind: Any, allowed: str) -> Any:
    """What is sent with the message, if it can be stored."""
    value = entry.get(field)
    if value is not None and not isinstance(value, kind):
        raise DeclarationError(f"{field} = {value!r}: allowed is {allowed}")
    try:
        json.dumps(dict(value) if isinstance(value, Mapping) else value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise DeclarationError(f"{field} = {value!r} is no JSON: {fault}") from None
    return value


def _check_schedule(value: Any, whose: str) -> None:
    try:
        for each in _listed(value):
            schedules.parse(each)
    except ScheduleError as error:
        raise DeclarationError(f"{whose}: {error}") from error


def _listed(value: Any) -> list[Any]:
    """The schedules in a list of them; one that is none, or is empty, stands for itself."""
    return list(value) if isinstance(value, (list, tuple)) and value else [value]
