"""Reading and writing what the registrar compares: declared routines, removed ones, schedulers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .. import reconcile
from ..columns import Instant, raw, read_instant
from ..reconcile import FIELDS, Plan, Stored, in_json
from ..routines import Declared, Origin
from ..storage.values import SILENCE, Presence
from ..tables import removed, routines, schedulers
from .bulk import insert_all
from .chunks import chunks

_FORGOTTEN = timedelta(days=1)


@dataclass(frozen=True)
class Code:
    """What the code says, and what is to become of what it says no longer; see `reconcile.plan`."""

    declared: tuple[Declared, ...]
    known_tasks: frozenset[str]
    removal: str
    merge: bool

    @property
    def names(self) -> list[str]:
        return [routine.name for routine in self.declared]


def planned(
    connection: Connection,
    namespace: str,
    code: Code,
    now: datetime,
    besides: UUID | None = None,
) -> Plan:
    """What has to change so that the table fits the code; *besides*: the scheduler that asks."""
    stored = stored_rows(connection, namespace, code.names, code.known_tasks)
    here = {row.name for row in stored}
    return reconcile.plan(
        code.declared,
        stored,
        removed=removed_names(connection, namespace, (n for n in code.names if n not in here)),
        elsewhere=declared_by_live(connection, namespace, now, besides),
        known_tasks=code.known_tasks,
        removal=code.removal,
        merge=code.merge,
    )


def note_taken(connection: Connection, key: UUID, fields: Mapping[str, Any]) -> None:
    """Note that a routine has taken *fields* from the code."""
    mine = routines.c.id == key
    before = connection.execute(sa.select(raw(routines.c.declared)).where(mine)).scalar()
    taken = {**json.loads(before or "{}"), **fields}
    declared = json.dumps(taken, sort_keys=True)
    connection.execute(routines.update().where(mine).values(declared=declared))


def stored_rows(
    connection: Connection, namespace: str, names: Iterable[str], known_tasks: Iterable[str]
) -> list[Stored]:
    """The rows that a declaration names, and those that may have lost theirs; not the others."""
    found = _select(connection, namespace, routines.c.origin == Origin.CODE.value)
    here = {row.name for row in found}
    for chunk in chunks(name for name in names if name not in here):
        found += _select(connection, namespace, routines.c.name.in_(chunk))
    never_ran = sa.and_(
        routines.c.origin.is_(None),
        routines.c.last_run_at.is_(None),
        sa.func.coalesce(routines.c.total_run_count, 0) == 0,
    )
    tasks = set(known_tasks)
    found += [row for row in _select(connection, namespace, never_ran) if row.task not in tasks]
    return list({row.key: row for row in found}.values())


def _select(connection: Connection, namespace: str, where: sa.ColumnElement[bool]) -> list[Stored]:
    c = routines.c
    ran = sa.or_(c.last_run_at.is_not(None), sa.func.coalesce(c.total_run_count, 0) > 0)
    rows = connection.execute(
        sa.select(
            raw(c.id).label("id"),
            c.name,
            c.task,
            c.origin,
            c.active,
            sa.case((ran, 1), else_=0).label("ran"),
            raw(c.declared).label("declared"),
            *(raw(c[field]).label(field) for field in FIELDS),
        ).where(c.namespace == namespace, where)
    )
    return [
        Stored(
            key=row["id"],
            name=row["name"],
            task=row["task"],
            origin=row["origin"],
            active=bool(row["active"]),
            ran=bool(row["ran"]),
            fields={field: row[field] for field in FIELDS},
            declared=row["declared"],
        )
        for row in rows.mappings()
    ]


def removed_names(connection: Connection, namespace: str, names: Iterable[str]) -> set[str]:
    """Which of *names* the table has lost before."""
    found: set[str] = set()
    for chunk in chunks(names):
        mine = sa.and_(removed.c.namespace == namespace, removed.c.name.in_(chunk))
        found |= set(connection.execute(sa.select(removed.c.name).where(mine)).scalars())
    return found


def declared_by_live(
    connection: Connection, namespace: str, now: datetime, besides: UUID | None = None
) -> set[str]:
    """The names that live schedulers of the namespace declare, but for one of them."""
    alive = sa.and_(schedulers.c.namespace == namespace, schedulers.c.seen_at > now - SILENCE)
    if besides is not None:
        alive = sa.and_(alive, schedulers.c.id != besides)
    rows = connection.execute(sa.select(raw(schedulers.c.names)).where(alive)).scalars()
    return {name for text in rows for name in json.loads(text or "[]")}


def announce(connection: Connection, me: Presence, names: Iterable[str], now: datetime) -> None:
    """Write the heartbeat row of this scheduler, with the names it declares."""
    connection.execute(schedulers.delete().where(schedulers.c.id == me.id))
    connection.execute(
        schedulers.delete().where(
            schedulers.c.namespace == me.namespace, schedulers.c.seen_at < now - _FORGOTTEN
        )
    )
    connection.execute(
        schedulers.insert().values(
            id=me.id,
            namespace=me.namespace,
            host=me.host,
            pid=me.pid,
            started_at=now,
            seen_at=now,
            names=json.dumps(sorted(names)),
        )
    )


def apply(connection: Connection, namespace: str, plan: Plan, now: datetime) -> None:
    """Carry out a plan."""
    tasks = {routine.name: routine.task for routine in plan.restore}
    restored = [
        row | {"task": tasks[row["name"]]} for row in taken_back(connection, namespace, tasks, now)
    ]
    new = [_declared_row(routine, namespace, now) for routine in plan.insert]
    for rows in (new, restored):
        if rows:
            insert_all(connection, routines, tuple(rows[0]), rows)
    for row, task in plan.retask:
        _update(connection, row, {"task": task})
    for row, fields in plan.follow:
        taken = dict(json.loads(row.declared or "{}"))
        taken.update({field: json.loads(text) for field, text in fields.items()})
        _update(connection, row, {**fields, "declared": json.dumps(taken, sort_keys=True)})
    for row in plan.deactivate:
        _update(connection, row, {"active": False})
    remove(connection, namespace, [(row.key, row.name) for row in plan.remove], now)


def _update(connection: Connection, row: Stored, values: Mapping[str, Any]) -> None:
    connection.execute(routines.update().where(routines.c.id == row.key).values(**values))


def _declared_row(routine: Declared, namespace: str, now: datetime) -> dict[str, Any]:
    fields = in_json(routine)
    declared = json.dumps({field: json.loads(text) for field, text in fields.items()})
    return {
        "namespace": namespace,
        "name": routine.name,
        "task": routine.task,
        **fields,
        "origin": Origin.CODE.value,
        "declared": declared,
        "created_at": now,
        "updated_at": now,
        "edited_at": now,
    }


def remove(
    connection: Connection, namespace: str, rows: Iterable[tuple[Any, str]], now: datetime
) -> None:
    """Keep the last state of each row, by id and name, in ``removed_routines``, then delete it."""
    for chunk in chunks(rows):
        keys = [key for key, _ in chunk]
        mine = routines.c.id.in_(keys)
        columns = [raw(column).label(column.name) for column in routines.columns]
        states = connection.execute(sa.select(*columns).where(mine)).mappings().all()
        names = [name for _, name in chunk]
        connection.execute(
            removed.delete().where(
                sa.or_(
                    removed.c.id.in_(keys),
                    sa.and_(removed.c.namespace == namespace, removed.c.name.in_(names)),
                )
            )
        )
        if states:
            connection.execute(
                removed.insert(),
                [
                    {
                        "id": state["id"],
                        "namespace": namespace,
                        "name": state["name"],
                        "removed_at": now,
                        "routine": json.dumps(dict(state)),
                    }
                    for state in states
                ],
            )
        connection.execute(routines.delete().where(mine))


def taken_back(
    connection: Connection, namespace: str, names: Iterable[str], now: datetime
) -> list[dict[str, Any]]:
    """The rows of routines that were removed, to be inserted again; they leave the archive.

    They come back unplanned, and as if they had been off meanwhile: time in the archive is
    not caught up. A run that one of them was waiting for may still be out: if it has ended, the
    next heartbeat finds that.
    """
    rows = []
    for chunk in chunks(names):
        mine = sa.and_(removed.c.namespace == namespace, removed.c.name.in_(chunk))
        found = connection.execute(
            sa.select(raw(removed.c.routine), removed.c.removed_at).where(mine)
        ).all()
        for text, removed_at in found:
            row = {name: _value(name, value) for name, value in json.loads(text).items()}
            row |= {"next_run_at": None, "paused_at": removed_at}
            row |= {"edited_at": now, "updated_at": now}
            rows.append(row)
        connection.execute(removed.delete().where(mine))
    return rows


def _value(name: str, text: str | None) -> Any:
    """The value of a column of ``routines`` from its text in the archive."""
    type_ = routines.c[name].type
    if text is None:
        return None
    if isinstance(type_, Instant):
        return read_instant(text)
    if isinstance(type_, sa.Boolean):
        return text in ("1", "true", "t")
    if isinstance(type_, (sa.Integer, sa.Float)):
        return type_.python_type(text)
    return text
