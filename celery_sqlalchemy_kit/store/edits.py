"""What people do to routines: make, change, switch, remove, bring back; each with its record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection

from .. import tables
from ..details import RoutineDetails
from ..errors import ConflictError, NotFoundError, RoutineError
from ..routines import Origin
from ..tables import routines
from . import changes, fields, registry, routine_list
from .chunks import chunks
from .desk import Desk, may_be_stale
from .routine_list import find

_c = routines.c


def create(
    connection: Connection,
    desk: Desk,
    given: Mapping[str, Any],
    *,
    if_exists: str = "error",
    note: str | None = None,
) -> RoutineDetails:
    """Make a routine of origin ``db``; *given*: ``name``, ``task``, ``schedule`` and other fields.

    *if_exists*: ``error``, ``update`` (what is given, nothing else) or ``keep``.

    Raises:
        ConflictError: there is a routine of that name.
        RoutineError, ScheduleError: names the field, its value and what is allowed.
    """
    columns = fields.columns_of(desk, given)
    fields.check(desk, columns)
    name, key = columns["name"], uuid4()
    row = {"id": key, "namespace": desk.namespace, "origin": Origin.DB.value, **columns}
    # No error of the database's, which would be the end of the caller's transaction.
    connection.execute(_insert_or_nothing(connection.dialect.name, row))
    made = find(connection, desk, name, lock=may_be_stale(connection))
    if made.id == key:
        told = {field: (None, value) for field, value in _shown(made, given).items()}
        changes.record(connection, desk, "create", [(key, name, told)], note)
        return made
    if if_exists == "update":
        rest = {field: value for field, value in given.items() if field != "name"}
        return update(connection, desk, name, rest, note=note)
    if if_exists == "keep":
        return made
    raise ConflictError(f"there is a routine {name!r} already")


def _insert_or_nothing(dialect: str, row: Mapping[str, Any]) -> Any:
    if dialect == "mysql":
        return mysql.insert(routines).values(row).on_duplicate_key_update(id=_c.id)
    insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect]
    unique = [_c.namespace, _c.name]
    return insert(routines).values(row).on_conflict_do_nothing(index_elements=unique)


def update(
    connection: Connection,
    desk: Desk,
    key: str | UUID,
    given: Mapping[str, Any],
    *,
    note: str | None = None,
    action: str = "update",
) -> RoutineDetails:
    """Change the fields that are *given*; what is the same already is left alone.

    Raises:
        NotFoundError: there is no such routine.
        RoutineError, ScheduleError: names the field, its value and what is allowed.
    """
    if "name" in given:
        raise RoutineError("unknown field 'name': a routine keeps the name that it was made with")
    before = find(connection, desk, key, lock=True)
    columns = fields.columns_of(desk, given)
    fields.check(desk, columns, before)
    new = {name: value for name, value in columns.items() if _differs(before, name, value)}
    after = before
    if new:
        connection.execute(routines.update().where(_c.id == before.id).values(new))
        after = find(connection, desk, before.id)
    if new or note:
        was, now = _shown(before, new), _shown(after, new)
        told = {name: (was[name], now[name]) for name in new}
        changes.record(connection, desk, action, [(after.id, before.name, told)], note)
    return after


def _differs(routine: RoutineDetails, name: str, value: Any) -> bool:
    """Whether a column of *routine* would be another; to the triggers it is an edit if written."""
    if name == "schedule":
        return routine.schedule is None or routine.schedule.to_json() != json.loads(value)
    if name in fields.JSON_FIELDS:
        return bool(getattr(routine, name) != json.loads(value))
    return bool(getattr(routine, name) != value)


def switch(
    connection: Connection,
    desk: Desk,
    names: Iterable[str],
    *,
    active: bool,
    note: str | None = None,
) -> list[str]:
    """Switch routines on or off; *names* may be patterns. Returns the names of those that were
    not so already; with a *note* all are recorded.

    Raises:
        NotFoundError: a name is none's, or a pattern matches none; nothing has been changed.
    """
    found = routine_list.named(connection, desk, names)
    switched: list[str] = []
    for wanted in chunks(found):
        mine = sa.and_(_c.namespace == desk.namespace, _c.name.in_(wanted))
        locked = sa.select(_c.id, _c.name, _c.active).where(mine).order_by(_c.id).with_for_update()
        rows = connection.execute(locked).all()
        other = [key for key, _, was in rows if bool(was) != active]
        connection.execute(routines.update().where(_c.id.in_(other)).values(active=active))
        told = [
            (key, name, {"active": (bool(was), active)} if bool(was) != active else {})
            for key, name, was in rows
            if bool(was) != active or note
        ]
        changes.record(connection, desk, "enable" if active else "disable", told, note)
        switched += [name for _, name, was in rows if bool(was) != active]
    return sorted(switched)


def delete(
    connection: Connection,
    desk: Desk,
    key: str | UUID,
    *,
    force: bool = False,
    note: str | None = None,
) -> RoutineDetails:
    """Remove a routine; `restore` brings it back as it was.

    Raises:
        NotFoundError: there is no such routine.
        ConflictError: a running scheduler declares it in code and would insert it again; unless
            *force*.
    """
    routine = find(connection, desk, key, lock=True)
    present = desk.present(connection)
    if not force and routine.origin == Origin.CODE.value:
        declared = registry.declared_by_live(connection, desk.namespace, present)
        if routine.name in declared:
            raise ConflictError(
                f"{routine.name!r} is declared in the code of a running scheduler, whose next "
                "start would bring it back: disable it instead"
            )
    registry.remove(connection, desk.namespace, [(routine.id, routine.name)], present)
    changes.record(connection, desk, "delete", [(routine.id, routine.name, {})], note)
    return routine


def restore(
    connection: Connection, desk: Desk, name: str, *, note: str | None = None
) -> RoutineDetails:
    """Bring back a routine that was removed, as it was, planned anew; it is of origin ``db`` now,
    so that no start removes it for not being declared.

    Raises:
        NotFoundError: none of that name was removed.
        ConflictError: there is another one of that name.
    """
    there = sa.select(_c.id).where(_c.namespace == desk.namespace, _c.name == name)
    if connection.execute(there).first() is not None:
        raise ConflictError(f"there is a routine {name!r} already")
    present = desk.present(connection)
    rows = registry.taken_back(connection, desk.namespace, [name], present)
    if not rows:
        raise NotFoundError(f"no routine {name!r} has been removed")
    connection.execute(routines.insert(), [row | {"origin": Origin.DB.value} for row in rows])
    restored = find(connection, desk, name)
    changes.record(connection, desk, "restore", [(restored.id, name, {})], note)
    return restored


def removed(connection: Connection, desk: Desk, start: str, *, limit: int) -> list[str]:
    """The first *limit* names, beginning with *start*, of what `restore` would bring back."""
    name = tables.removed.c.name
    mine = sa.and_(
        tables.removed.c.namespace == desk.namespace, name.startswith(start, autoescape=True)
    )
    return list(
        connection.execute(sa.select(name).where(mine).order_by(name).limit(limit)).scalars()
    )


def _shown(routine: RoutineDetails, names: Iterable[str]) -> dict[str, Any]:
    told = routine.to_json()
    return {name: told[name] for name in names if name in told}
