"""Rows of ``routine_runs`` as people look at them: newest first, by what an index serves.

Each state is asked for by itself, up to as many as are wanted, and the answers are merged: so no
statement reads a whole history for its last ten runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from heapq import nlargest
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..clock import UTC
from ..columns import Instant, instant_of, raw
from ..details import RunDetails, json_of
from ..errors import NotFoundError
from ..routines import ENDED, UNFINISHED, State, made
from ..tables import removed, routines, runs
from .chunks import chunks
from .desk import Desk
from .routine_list import like
from .states import in_states

_c = runs.c
_EVER = datetime.min.replace(tzinfo=UTC)
#: What the indexes serve: states, and the instant that orders them.
_BY_TIME = ((UNFINISHED, _c.claimed_at), (ENDED, _c.finished_at))


def find_run(connection: Connection, desk: Desk, run_id: UUID) -> RunDetails:
    """The run of that id.

    Raises:
        NotFoundError: there is none: it never was, or was pruned.
    """
    mine = sa.and_(_c.id == run_id, _c.namespace == desk.namespace)
    row = connection.execute(_select().where(mine)).first()
    if row is None:
        raise NotFoundError(f"there is no run {run_id}: it never was, or was pruned")
    return _details(row)


def runs_beginning(connection: Connection, routine_id: UUID, text: str) -> list[RunDetails]:
    """The runs of one routine whose ids begin with *text*, hex digits; two at most."""
    digits = text.replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        return []
    between = _c.id.between(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))
    mine = _select().where(_c.routine_id == routine_id, between).limit(2)
    return [_details(row) for row in connection.execute(mine)]


def runs_of(
    connection: Connection,
    routine_id: UUID,
    *,
    states: Sequence[State] = tuple(State),
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = 100,
) -> list[RunDetails]:
    """The runs of one routine by their occurrence, newest first, at most *limit*."""
    bounds = [_c.routine_id == routine_id]
    bounds += [] if since is None else [_c.scheduled_for >= since]
    bounds += [] if until is None else [_c.scheduled_for <= until]
    found = [
        _details(row)
        for state in states
        for row in _newest(connection, _c.scheduled_for, [*bounds, in_states(state)], limit)
    ]
    return _merged(found, limit, lambda run: run.scheduled_for)


def all_runs(
    connection: Connection,
    desk: Desk,
    *,
    states: Sequence[State] = tuple(State),
    since: datetime | None = None,
    limit: int | None = 100,
) -> list[RunDetails]:
    """The runs of all routines, at most *limit*: what ended last first, before it what has not.

    *since*: that ended, or were claimed, no earlier.
    """
    found = []
    for chosen, at in _BY_TIME:
        for state in (state for state in states if state in chosen):
            bounds = _in_state(desk, state, chosen)
            bounds += [] if since is None else [at >= since]
            found += [_details(row) for row in _newest(connection, at, bounds, limit)]
    return _merged(found, limit, lambda run: run.finished_at or run.claimed_at or _EVER)


def _in_state(desk: Desk, state: State, chosen: Sequence[State]) -> list[sa.ColumnElement[bool]]:
    """Also that it is one of *chosen*: SQLite does not see by itself that their index suits."""
    return [_c.namespace == desk.namespace, in_states(state), in_states(*chosen)]


def last_runs(connection: Connection, desk: Desk, keys: Iterable[UUID]) -> dict[UUID, RunDetails]:
    """The run of each routine whose occurrence is the newest, by the routine's id."""
    found: dict[UUID, RunDetails] = {}
    newest = [_newest_of(state) for state in _states_there(connection, desk)]
    for wanted in chunks(keys) if newest else ():
        chosen = sa.select(*newest).where(routines.c.id.in_(wanted))
        ids = [
            max(filter(None, each)).rpartition(" ")[2]
            for each in connection.execute(chosen)
            if any(each)
        ]
        for row in connection.execute(_select().where(_c.id.in_(ids))):
            run = _details(row)
            found[run.routine_id] = run
    # Not asked of the database: SQLite would look for the namespace, and not for the ids.
    return {key: run for key, run in found.items() if run.namespace == desk.namespace}


def _states_there(connection: Connection, desk: Desk) -> list[State]:
    """The states that any run is in: mostly a few, and each is looked for with every routine."""
    one: Any = sa.select(sa.literal_column("1")).limit(1)
    there = [
        (state, one.where(*_in_state(desk, state, chosen)).order_by(at).scalar_subquery())
        for chosen, at in _BY_TIME
        for state in chosen
    ]
    found = connection.execute(sa.select(*(each for _, each in there))).one()
    return [state for (state, _), any_ in zip(there, found, strict=True) if any_]


def _newest_of(state: State) -> Any:
    """Instant and id, as one text that sorts as time does, of a routine's newest run in *state*.

    By a range that is one state: where equality is asked for, PostgreSQL may take the index of
    unfinished runs instead, and read all of those for each routine.
    """
    mine = sa.and_(_c.routine_id == routines.c.id, _c.state.between(state.value, state.value))
    chosen = sa.select(raw(_c.scheduled_for) + " " + raw(_c.id)).where(mine)
    newest_first = chosen.order_by(_c.state.desc(), _c.scheduled_for.desc())
    return newest_first.limit(1).scalar_subquery()


def routine_id_of(connection: Connection, desk: Desk, key: str | UUID) -> UUID:
    """The id of a routine, also of one that has been removed, or has left the table.

    Raises:
        NotFoundError: no routine has, or had, that name; an id is taken as it is if a run has it.
    """
    for table in (routines, removed):
        named = sa.and_(table.c.namespace == desk.namespace, table.c.name == str(key))
        found = connection.execute(sa.select(table.c.id).where(named)).scalar()
        if isinstance(key, str) and found is not None:
            return UUID(str(found))
    with suppress(ValueError):
        routine_id = key if isinstance(key, UUID) else UUID(key)
        for table, column in ((routines, routines.c.id), (runs, runs.c.routine_id)):
            known = sa.select(sa.literal(1)).where(column == routine_id)
            if connection.execute(known.where(table.c.namespace == desk.namespace)).first():
                return routine_id
    near = like(connection, desk, str(key))
    raise NotFoundError(f"there is no routine {str(key)!r}, and no run of one{near}")


def _newest(
    connection: Connection,
    at: sa.ColumnElement[Any],
    where: Sequence[sa.ColumnElement[bool]],
    limit: int | None,
) -> Sequence[Any]:
    chosen = _select().where(*where).order_by(at.desc())
    return connection.execute(chosen if limit is None else chosen.limit(limit)).all()


def _merged(found: list[RunDetails], limit: int | None, at: Any) -> list[RunDetails]:
    return nlargest(len(found) if limit is None else limit, found, key=at)


def _select() -> Any:
    return sa.select(*(column if read is None else raw(column) for column, read in _READ))


def _details(row: Any) -> RunDetails:
    read = {
        column.name: value if reader is None else reader(value)
        for value, (column, reader) in zip(row, _READ, strict=True)
    }
    return made(RunDetails, **read)


def _due(text: str | None) -> datetime:
    return instant_of(text) or _EVER


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("id", "routine_id"), UUID),
    **dict.fromkeys(("args", "kwargs", "options"), json_of),
    **{column.name: instant_of for column in _c if isinstance(column.type, Instant)},
    "scheduled_for": _due,
}
#: Columns in the order of `RunDetails`, and what makes a value of their text where it is not one.
_READ = [(_c[each.name], _READERS.get(each.name)) for each in fields(RunDetails)]
