"""Rows of ``routine_runs`` as people look at them: newest first, by what an index serves.

Each state is asked for by itself, up to as many as are wanted, and the answers are merged: so no
statement reads a whole history for its last ten runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from heapq import nlargest
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..clock import UTC
from ..columns import instant_of, raw
from ..details import RunDetails
from ..errors import NotFoundError
from ..routines import ENDED, UNFINISHED, State
from ..tables import removed, routines, runs
from .chunks import chunks
from .desk import Desk
from .routine_list import json_of
from .states import in_states

_c = runs.c
_TEXTS = ("routine_name", "namespace", "task", "cause", "state", "reason", "worker", "error")
_NUMBERS = ("count", "publish_attempts", "attempts", "retries")
_JSON = ("args", "kwargs", "options")
_INSTANTS = ("scheduled_for", "until", "claimed_at", "sent_at", "started_at", "heartbeat_at")
_READ = ("id", "routine_id", *_JSON, *_INSTANTS, "finished_at")
_EVER = datetime.min.replace(tzinfo=UTC)


def find_run(connection: Connection, desk: Desk, run_id: UUID) -> RunDetails:
    """The run of that id.

    Raises:
        NotFoundError: there is none: it never was, or was pruned.
    """
    mine = sa.and_(_c.id == run_id, _c.namespace == desk.namespace)
    row = connection.execute(_select().where(mine)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no run {run_id}: it never was, or was pruned")
    return _details(row)


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
    for chosen, at in ((UNFINISHED, _c.claimed_at), (ENDED, _c.finished_at)):
        for state in (state for state in states if state in chosen):
            bounds = [_c.namespace == desk.namespace, in_states(state)]
            bounds += [] if since is None else [at >= since]
            found += [_details(row) for row in _newest(connection, at, bounds, limit)]
    return _merged(found, limit, lambda run: run.finished_at or run.claimed_at or _EVER)


def last_runs(connection: Connection, keys: Iterable[UUID]) -> dict[UUID, RunDetails]:
    """The run of each routine whose occurrence is the newest, by the routine's id."""
    newest: dict[UUID, RunDetails] = {}
    key = routines.c.id
    at = [
        sa.select(sa.func.max(_c.scheduled_for))
        .where(_c.routine_id == key, _c.state == state.value)
        .scalar_subquery()
        for state in State
    ]
    for wanted in chunks(keys):
        latest = [
            max(instants)
            for _, *read in connection.execute(sa.select(key, *map(raw, at)).where(key.in_(wanted)))
            if (instants := [instant for each in read if (instant := instant_of(each))])
        ]
        if not latest:
            continue
        chosen = _select().where(
            _c.routine_id.in_(wanted), _c.scheduled_for.in_(latest), in_states(*State)
        )
        for row in connection.execute(chosen).mappings():
            run = _details(row)
            before = newest.get(run.routine_id)
            if before is None or before.scheduled_for < run.scheduled_for:
                newest[run.routine_id] = run
    return newest


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
    raise NotFoundError(f"there is no routine {str(key)!r}, and no run of one")


def _newest(
    connection: Connection,
    at: sa.ColumnElement[Any],
    where: Sequence[sa.ColumnElement[bool]],
    limit: int | None,
) -> Sequence[Any]:
    chosen = _select().where(*where).order_by(at.desc())
    return connection.execute(chosen if limit is None else chosen.limit(limit)).mappings().all()


def _merged(found: list[RunDetails], limit: int | None, at: Any) -> list[RunDetails]:
    return nlargest(len(found) if limit is None else limit, found, key=at)


def _select() -> Any:
    plain = (_c[name] for name in (*_TEXTS, *_NUMBERS))
    return sa.select(*plain, *(raw(_c[name]).label(name) for name in _READ))


def _details(row: Any) -> RunDetails:
    instants = {name: instant_of(row[name]) for name in (*_INSTANTS, "finished_at")}
    return RunDetails(
        id=UUID(row["id"]),
        routine_id=UUID(row["routine_id"]),
        **{name: row[name] for name in (*_TEXTS, *_NUMBERS)},
        **{name: json_of(row[name]) for name in _JSON},
        **{**instants, "scheduled_for": instants["scheduled_for"] or _EVER},  # type: ignore[arg-type]
    )
