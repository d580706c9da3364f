"""``routine_changes``: who changed what by the command line or the Python API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import raw, read_instant
from ..details import Change, json_of, plain
from ..exchange.keys import storable
from ..tables import changes, routines
from .chunks import chunks
from .desk import Desk

_c = changes.c


def record(
    connection: Connection,
    desk: Desk,
    action: str,
    what: Iterable[tuple[UUID, str, Mapping[str, tuple[Any, Any]]]],
    note: str | None = None,
) -> None:
    """Write down what was done: id and name of each routine, and its fields before and after."""
    present = desk.present(connection)
    rows = [
        {
            "id": uuid4(),
            "routine_id": key,
            "routine_name": name,
            "namespace": desk.namespace,
            "changed_at": present,
            "changed_by": desk.who[:255],
            "action": action,
            "changes": json.dumps(plain(fields)),
            "note": None if note is None else storable(note),
        }
        for key, name, fields in what
    ]
    for chunk in chunks(rows):
        connection.execute(changes.insert(), chunk)


def listed(
    connection: Connection,
    desk: Desk,
    name: str | None = None,
    *,
    limit: int | None = 100,
) -> list[Change]:
    """The changes of one routine by its name, or of all; newest first, at most *limit*."""
    chosen = _select().where(_c.namespace == desk.namespace)
    if name is not None:
        chosen = chosen.where(_c.routine_name == name)
    chosen = chosen.order_by(_c.changed_at.desc(), _c.id)
    rows = connection.execute(chosen if limit is None else chosen.limit(limit))
    return [_change(row) for row in rows.mappings()]


def last_notes(connection: Connection, desk: Desk, names: Iterable[str]) -> dict[str, Change]:
    """Of each routine that is there the last change that carries a note; by name."""
    r = routines.c
    noted = sa.and_(_c.namespace == desk.namespace, _c.routine_name == r.name, _c.note.is_not(None))
    last = sa.select(raw(_c.id)).where(noted).order_by(_c.changed_at.desc(), _c.id).limit(1)
    found: dict[str, Change] = {}
    for wanted in chunks(names):
        mine = sa.and_(r.namespace == desk.namespace, r.name.in_(wanted))
        ids = connection.execute(sa.select(last.scalar_subquery()).where(mine)).scalars()
        chosen = _select().where(_c.id.in_([each for each in ids if each is not None]))
        for row in connection.execute(chosen).mappings():
            found[row["routine_name"]] = _change(row)
    return found


def _select() -> Any:
    columns = (_c.routine_name, _c.changed_by, _c.action, _c.note)
    read = (raw(_c[each]).label(each) for each in ("routine_id", "changed_at", "changes"))
    return sa.select(*columns, *read)


def _change(row: Any) -> Change:
    return Change(
        routine_id=UUID(row["routine_id"]),
        routine_name=row["routine_name"],
        changed_at=read_instant(row["changed_at"]),
        changed_by=row["changed_by"],
        action=row["action"],
        changes={key: tuple(each) for key, each in json_of(row["changes"]).items()},
        note=row["note"],
    )
