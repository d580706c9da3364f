"""What has to change in the table so that it fits the code: pure, values in, values out.

The database is the source of truth: of a routine that stands in both, only ``task`` follows the
code, and with ``merge`` also what nobody has edited since it was taken from the code.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from . import schedules
from .errors import ScheduleError
from .routines import Declared, Origin

#: What a declaration says about a routine, and people may change in the table.
FIELDS = ("schedule", "args", "kwargs", "options")


@dataclass(frozen=True)
class Stored:
    """What of a row matters here; JSON columns as text, ``ran``: it has been dispatched."""

    key: str
    name: str
    task: str
    origin: str | None
    active: bool
    ran: bool
    fields: Mapping[str, str | None]
    declared: str | None


@dataclass(frozen=True)
class Drift:
    """Code and database differ in one field; both as JSON."""

    name: str
    field: str
    code: str
    database: str


@dataclass(frozen=True)
class Plan:
    """What the registrar is going to do."""

    insert: tuple[Declared, ...] = ()
    #: Declared again after it had been removed.
    restore: tuple[Declared, ...] = ()
    #: Rows whose task moved in the code, with the new task.
    retask: tuple[tuple[Stored, str], ...] = ()
    #: Rows that follow the code, field by field as JSON.
    follow: tuple[tuple[Stored, Mapping[str, str]], ...] = ()
    remove: tuple[Stored, ...] = ()
    deactivate: tuple[Stored, ...] = ()
    #: Rows that the code no longer declares but a live scheduler does.
    held: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    #: The code declares nothing of its own: nothing is removed.
    spared: tuple[str, ...] = ()


def plan(
    declared: Iterable[Declared],
    stored: Iterable[Stored],
    *,
    removed: Collection[str] = (),
    elsewhere: Collection[str] = (),
    known_tasks: Collection[str] = (),
    removal: str = "delete",
    merge: bool = False,
) -> Plan:
    """Compare the code with the table.

    *removed*: names that the table has lost before. *elsewhere*: names that other live
    schedulers declare. *removal*: ``delete``, ``deactivate`` or ``keep``.
    """
    code = {routine.name: routine for routine in declared}
    table = {row.name: row for row in stored}
    new = [routine for name, routine in code.items() if name not in table]
    both = [(table[name], routine) for name, routine in code.items() if name in table]
    gone = [row for row in table.values() if row.name not in code and _undeclared(row, known_tasks)]
    if removal == "keep":
        gone = []
    held = tuple(row.name for row in gone if row.name in elsewhere)
    gone = [row for row in gone if row.name not in elsewhere]
    spared: tuple[str, ...] = ()
    if gone and all(routine.builtin for routine in code.values()):
        spared, gone = tuple(row.name for row in gone), []
    follow = {row.name: _follow(row, routine) for row, routine in both} if merge else {}
    return Plan(
        insert=tuple(routine for routine in new if routine.name not in removed),
        restore=tuple(routine for routine in new if routine.name in removed),
        retask=tuple((row, routine.task) for row, routine in both if row.task != routine.task),
        follow=tuple((row, follow[row.name]) for row, _ in both if follow.get(row.name)),
        remove=tuple(gone) if removal == "delete" else (),
        deactivate=tuple(r for r in gone if r.active) if removal == "deactivate" else (),
        held=held,
        drift=tuple(
            drift
            for row, routine in both
            for drift in _drift(row, routine)
            if drift.field not in follow.get(row.name, {})
        ),
        spared=spared,
    )


def _undeclared(row: Stored, known_tasks: Collection[str]) -> bool:
    """Whether a row that the code does not declare is one that it used to declare.

    A row that came by bare SQL counts as one only if its task is unknown here and it never ran:
    a leftover of the earlier package, which knew no origin.
    """
    if row.origin == Origin.CODE.value:
        return True
    return row.origin is None and not row.ran and row.task not in known_tasks


def in_json(routine: Declared) -> dict[str, str]:
    """The fields of a declaration as JSON."""
    values = {
        "schedule": routine.schedule.to_json(),
        "args": list(routine.args),
        "kwargs": dict(routine.kwargs),
        "options": dict(routine.options),
    }
    # There and back first: keys of several types, which become text, cannot be sorted.
    plain = json.loads(json.dumps(values))
    return {field: json.dumps(value, sort_keys=True) for field, value in plain.items()}


def _follow(row: Stored, routine: Declared) -> dict[str, str]:
    """The fields that the code changed and nobody edited in the table."""
    taken = _decoded(row.declared)
    if not isinstance(taken, dict):
        return {}
    changed = {}
    for field, code in in_json(routine).items():
        database = row.fields[field]
        unedited = field in taken and _same(field, json.dumps(taken[field]), database)
        if unedited and not _same(field, code, database):
            changed[field] = code
    return changed


def _drift(row: Stored, routine: Declared) -> list[Drift]:
    return [
        Drift(row.name, field, canonical(field, code), canonical(field, row.fields[field]))
        for field, code in in_json(routine).items()
        if not _same(field, code, row.fields[field])
    ]


def canonical(field: str, text: str | None) -> str:
    """A JSON value in one form; of a schedule as it is written, see `_same`."""
    value = _decoded(text)
    if field == "schedule":
        with suppress(ScheduleError):
            value = schedules.from_json(value).to_json()
    elif value is None:
        value = [] if field == "args" else {}
    return json.dumps(value, sort_keys=True)


def _same(field: str, one: str | None, other: str | None) -> bool:
    """Whether two JSON values mean the same: ``{"minute": "0"}`` is ``{"minute": 0}``."""
    if one == other:  # as of nearly all, which need not be read then
        return True
    if field == "schedule":
        with suppress(ScheduleError):
            return schedules.from_json(_decoded(one)) == schedules.from_json(_decoded(other))
    return canonical(field, one) == canonical(field, other)


def _decoded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
