"""The rows that a claim takes, locked and as text: what is due, and what has to be planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from .sent import CONFIRM, confirm, confirming

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
    present: str | None
    if connection.dialect.name == "postgresql":
        due, planning, present = _lock_due_postgresql(connection, claimer, kind, told, published)
    else:
        confirm(connection, claimer, published)
        due, present = _lock_rows(connection, _due(kind), told)
        planning = True
    # What is due is not sent before all of the claim is written.
    most_planned = min(limit, PLANNED_BESIDE) if due else limit
    plan: Rows = []
    if planning:
        plan, seen_at = _lock_rows(connection, _plan(kind), {**told, "most": most_planned})
        present = present or seen_at
    if present is None:
        present = connection.execute(sa.select(raw(claimer.now()))).scalar_one()
    return Candidates(due, plan, most_planned, read_instant(present))


class _Kind(NamedTuple):
    """Which variant of a statement. *resumed*: with parameters for where the last batch ended, see
    `told_of`; *by_clock*: with the present as its parameter ``at``."""

    namespace: str
    resumed: bool
    by_clock: bool


def _lock_due_postgresql(
    connection: Connection,
    claimer: Claimer,
    kind: _Kind,
    told: Mapping[str, Any],
    published: Sequence[UUID],
) -> tuple[Rows, bool, str]:
    """What is due, whether there is anything to plan, and the present."""
    told = {**told, **confirming(claimer, published)} if published else told
    found = connection.execute(_locking_due(kind, confirms=bool(published)), told).all()
    *_, present, planning = found[0]
    due = [_text(row[:-2]) for row in found if row[0] is not None]
    for row in due:
        if row["next_run_at"] is None:  # -infinity, which is text of no instant
            row["next_run_at"] = "-infinity"
    return due, planning is not None, present


def _lock_rows(
    connection: Connection, statement: Any, told: Mapping[str, Any]
) -> tuple[Rows, str | None]:
    """The rows, and the present, if there are any."""
    found = connection.execute(statement, told).all()
    return [_text(row[:-1]) for row in found], found[0][-1] if found else None


def _text(values: Iterable[str | None]) -> dict[str, str | None]:
    return dict(zip(ROUTINE_COLUMNS, values, strict=True))


_COLUMNS = [raw(routines.c[name]).label(name) for name in ROUTINE_COLUMNS]
_ORDER = (routines.c.next_run_at, routines.c.id)
_MOST = sa.bindparam("most", type_=sa.Integer())


@lru_cache(maxsize=16)
def _due(kind: _Kind) -> Any:
    return _select_due(kind, raw(_present(kind)))


def _select_due(kind: _Kind, *others: Any) -> Any:
    """With *others* as columns besides."""
    due = sa.select(*_COLUMNS, *others).where(schedulable(kind.namespace))
    due = due.where(routines.c.next_run_at <= _present(kind))
    if kind.resumed:
        due = due.where(behind())
    return due.order_by(*_ORDER).limit(_MOST).with_for_update(skip_locked=True)


@lru_cache(maxsize=16)
def _plan(kind: _Kind) -> Any:
    plan = _select_to_plan(kind.namespace, *_COLUMNS, raw(_present(kind)))
    return plan.limit(_MOST).with_for_update(skip_locked=True)


def _select_to_plan(namespace: str, *columns: Any) -> Any:
    # Their next_run_at is null: the order says which index to use, whatever is known of its values.
    return sa.select(*columns).where(schedulable(namespace), to_plan()).order_by(*_ORDER)


@lru_cache(maxsize=32)
def _locking_due(kind: _Kind, *, confirms: bool) -> Any:
    """PostgreSQL's: the rows that are due, each with the present and whether there is anything to
    plan; one row with nothing else if there are none."""
    order = [column.label(f"order_{n}") for n, column in enumerate(_ORDER)]
    due = _select_due(kind, *order).cte("due")
    planning = _select_to_plan(kind.namespace, sa.literal(1)).limit(1).scalar_subquery()
    now = raw(_present(kind)).label("now")
    present = sa.select(now, planning.label("planning")).subquery("present")
    locking = sa.select(*(due.c[name] for name in ROUTINE_COLUMNS), *present.c)
    locking = locking.select_from(present.outerjoin(due, sa.true()))
    locking = locking.order_by(*(due.c[each.name] for each in order))
    return locking.add_cte(CONFIRM.columns().cte("confirmed")) if confirms else locking


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
