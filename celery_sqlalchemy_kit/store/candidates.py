"""The rows that a claim takes, locked and as text: what is due, and what has to be planned."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import raw, read_instant, utcnow
from ..storage.values import Position
from ..tables import routines
from .claimer import Claimer
from .rows import ROUTINE_COLUMNS
from .sent import CONFIRM, confirm, confirmed

#: Rows that are planned by a claim of others that are due.
PLANNED_BESIDE = 100

Rows = list[dict[str, "str | None"]]


class Candidates(NamedTuple):
    """In the order of the index, *most_planned* of the latter at most; and the present."""

    due: Rows
    plan: Rows
    most_planned: int
    now: datetime


def lock(
    connection: Connection,
    claimer: Claimer,
    *,
    limit: int,
    after: Position | None,
    published: Sequence[UUID],
) -> Candidates:
    """Confirm what was *published*, then lock due rows and rows to plan, at most *limit* of each.

    Two arms, as a disjunction would use no index. As each statement is a round trip, PostgreSQL
    confirms, locks what is due and says whether there is anything to plan in one.
    """
    told: dict[str, Any] = {"most": limit}
    if after is not None:
        told |= told_of(after)
    at = claimer.clock.now()
    if at is not None:
        told["at"] = at
    kind = _Kind(claimer.namespace, resumed=after is not None, by_clock=at is not None)
    if connection.dialect.name == "postgresql":
        due, planning, present = _open(connection, claimer, kind, told, published)
    else:
        confirm(connection, claimer, published)
        due, planning, present = _rows(connection.execute(_due(kind), told)), True, None
    # What is due is not sent before all of the claim is written.
    most_planned = min(limit, PLANNED_BESIDE) if due else limit
    plan = []
    if planning:
        plan = _rows(connection.execute(_plan(claimer.namespace), {"most": most_planned}))
    if present is None:
        present = connection.execute(sa.select(raw(claimer.now()))).scalar_one()
    return Candidates(due, plan, most_planned, read_instant(present))


class _Kind(NamedTuple):
    """Of a statement: *resumed* behind the last batch, and *by_clock*, not the database's, in
    which cases it has parameters for that."""

    namespace: str
    resumed: bool
    by_clock: bool


def _open(
    connection: Connection,
    claimer: Claimer,
    kind: _Kind,
    told: dict[str, Any],
    published: Sequence[UUID],
) -> tuple[Rows, bool, str]:
    """What is due, whether there is anything to plan, and the present."""
    if published:
        told |= confirmed(claimer, published)
    opening = _opening(kind, confirms=bool(published))
    found = connection.execute(opening, told).all()
    due = _rows(found) if found[0].id is not None else []
    for row in due:
        if row["next_run_at"] is None:  # -infinity, which is text of no instant
            row["next_run_at"] = "-infinity"
    return due, found[0].planning is not None, found[0].now


def _rows(found: Any) -> Rows:
    return [dict(zip(ROUTINE_COLUMNS, row, strict=False)) for row in found]


_COLUMNS = [raw(routines.c[name]).label(name) for name in ROUTINE_COLUMNS]
_ORDER = (routines.c.next_run_at, routines.c.id)
_MOST = sa.bindparam("most", type_=sa.Integer())


@lru_cache(maxsize=16)
def _due(kind: _Kind, *others: Any) -> Any:
    """With *others* as columns besides."""
    due = sa.select(*_COLUMNS, *others).where(schedulable(kind.namespace))
    due = due.where(routines.c.next_run_at <= _present(kind))
    if kind.resumed:
        due = due.where(behind())
    return due.order_by(*_ORDER).limit(_MOST).with_for_update(skip_locked=True)


@lru_cache(maxsize=16)
def _plan(namespace: str) -> Any:
    return _to_plan(namespace, *_COLUMNS).limit(_MOST).with_for_update(skip_locked=True)


def _to_plan(namespace: str, *columns: Any) -> Any:
    # Their next_run_at is null: the order says which index to use, whatever is known of its values.
    return sa.select(*columns).where(schedulable(namespace), to_plan()).order_by(*_ORDER)


@lru_cache(maxsize=32)
def _opening(kind: _Kind, *, confirms: bool) -> Any:
    """The rows of `_due`, each with the present and whether there is anything to plan; one row with
    nothing else if there are none."""
    order = [column.label(f"order_{n}") for n, column in enumerate(_ORDER)]
    due = _due(kind, *order).cte("due")
    planning = _to_plan(kind.namespace, sa.literal(1)).limit(1).scalar_subquery()
    now = raw(_present(kind)).label("now")
    present = sa.select(now, planning.label("planning")).subquery("present")
    opening = sa.select(*(due.c[name] for name in ROUTINE_COLUMNS), *present.c)
    opening = opening.select_from(present.outerjoin(due, sa.true()))
    opening = opening.order_by(*(due.c[each.name] for each in order))
    return opening.add_cte(CONFIRM.columns().cte("confirmed")) if confirms else opening


def _present(kind: _Kind) -> sa.ColumnElement[datetime]:
    at: sa.ColumnElement[datetime] = sa.bindparam("at", type_=routines.c.next_run_at.type)
    return at if kind.by_clock else utcnow()


def behind() -> sa.ColumnElement[bool]:
    """Rows behind a position, in the order of the index; see `told_of`."""
    position = sa.tuple_(
        sa.bindparam("instant", type_=routines.c.next_run_at.type),
        sa.bindparam("key", type_=routines.c.id.type),
    )
    return sa.tuple_(routines.c.next_run_at, routines.c.id) > position


def told_of(position: Position) -> dict[str, Any]:
    """The parameters of `behind`."""
    return {"instant": position.next_run_at, "key": position.key}


def schedulable(namespace: str) -> sa.ColumnElement[bool]:
    """Rows that can be scheduled at all; as the index ``routines_due`` says it."""
    return sa.and_(routines.c.namespace == namespace, routines.c.active, routines.c.error.is_(None))


def to_plan() -> sa.ColumnElement[bool]:
    """Rows whose next occurrence has to be worked out."""
    return sa.and_(routines.c.next_run_at.is_(None), routines.c.waiting_for.is_(None))
