"""Making routines of definitions, many at once; each with its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..details import RoutineDetails, plain
from ..errors import ConflictError, RoutineError, ScheduleError
from ..exchange import Changes, Definition
from ..exchange.keys import READERS
from ..routines import Origin
from ..schedules.schedule import quoted
from ..tables import routines
from . import changes, edits, fields
from .chunks import chunks
from .desk import Desk


def create(
    connection: Connection,
    desk: Desk,
    definitions: Iterable[Definition],
    *,
    note: str | None = None,
) -> None:
    """Make a routine of each, of origin ``db`` unless it says otherwise.

    Raises:
        ConflictError: there is one of that name.
        RoutineError, ScheduleError: names the field, its value and what is allowed.
    """
    for some in chunks(definitions):
        rows = [_row(desk, each) for each in some]
        try:
            connection.execute(routines.insert(), rows)
        except IntegrityError as error:
            raise ConflictError(f"a name is taken by now: {error.orig}") from error
        told = [
            (row["id"], each.name, {key: (None, value) for key, value in each.to_json().items()})
            for row, each in zip(rows, some, strict=True)
        ]
        changes.record(connection, desk, "create", told, note)


def update(connection: Connection, desk: Desk, found: Changes, *, note: str | None = None) -> None:
    """Change of each routine what its definition says otherwise; of one that cannot be read all.

    Raises:
        NotFoundError: there is no such routine.
        RoutineError, ScheduleError: names the field, its value and what is allowed.
    """
    for each in found.update:
        name = each.after.name
        keys = {difference.key for difference in each.differences}
        said = {key: value for key, value in _said(each.after).items() if key in keys}
        with _named(name):
            routine = edits.update(connection, desk, name, said, note=note)
        if "origin" in keys:
            _mark(connection, desk, routine, plain(each.after.origin), note)
    for repaired in found.repair:
        said = {key: value for key, value in _said(repaired).items() if key != "name"}
        with _named(repaired.name):
            edits.update(connection, desk, repaired.name, said, note=note)


def _mark(
    connection: Connection, desk: Desk, routine: RoutineDetails, origin: str, note: str | None
) -> None:
    mine = routines.c.id == routine.id
    connection.execute(routines.update().where(mine).values(origin=origin))
    told = {"origin": (routine.origin, origin)}
    changes.record(connection, desk, "update", [(routine.id, routine.name, told)], note)


def _row(desk: Desk, definition: Definition) -> dict[str, Any]:
    with _named(definition.name):
        columns = fields.columns_of(desk, _said(definition))
        fields.check(desk, columns)
    origin = plain(definition.origin or Origin.DB)
    return {"id": uuid4(), "namespace": desk.namespace, "origin": origin, **columns}


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Among many, what is wrong with one says with which."""
    try:
        yield
    except (RoutineError, ScheduleError) as fault:
        raise type(fault)(f"{quoted(name)}: {fault}") from fault


def _said(definition: Definition) -> dict[str, Any]:
    """What the kit's own fields are called, but for the origin, which nobody may say but here."""
    said = {key: getattr(definition, key) for key in READERS if key not in ("jitter", "origin")}
    return {**said, "jitter": definition.jitter_seconds}
