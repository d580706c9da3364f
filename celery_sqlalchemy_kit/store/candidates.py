"""The rows that a claim takes, locked and as text: what is due, and what has to be planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import Instant, raw, read_instant, utcnow
from ..routines import Overlap
from ..storage.values import Position
from ..tables import routines
from .claimer import Claimer
from .rows import ROUTINE_COLUMNS
from .sent import CONFIRM, confirm, confirming

#: Rows that are planned by a claim of others that are due.
PLANNED_BESIDE = 100
#: How far ahead an instant may be that a claim takes for the present. One that is further away is
#: due by another clock, or by this one before it was set back.
SOON = timedelta(milliseconds=200)

Rows = list[dict[str, "str | None"]]


class Reach(NamedTuple):
    """How far a claim goes: so many rows at most, behind a position, due until an instant that is
    about to come; the latter is heeded by PostgreSQL alone, if it comes within `SOON`."""

    limit: int
    after: Position | None = None
    until: datetime | None = None


class Candidates(NamedTuple):
    """In the order of the index, *most_planned* of the latter at most; and the present."""

    due: Rows
    plan: Rows
    most_planned: int
    now: datetime
    #: See `Batch.not_before`.
    not_before: float


def lock(
    connection: Connection,
    claimer: Claimer,
    reach: Reach,
    published: Sequence[UUID],
) -> Candidates:
    """Confirm what was *published*, then lock due rows and rows to plan, as many of each.

    Two arms, as a disjunction would use no index. As each statement is a round trip, PostgreSQL
    confirms, locks what is due and says whether there is anything to plan in one.
    """
    limit, after, until = reach
    told: dict[str, Any] = {"most": limit}
    if after is not None:
        told |= told_of(after)
    at = claimer.clock.now()
    if at is not None:
        told["at"] = at
    early = until is not None and connection.dialect.name == "postgresql"
    if early:
        told["until"] = until
    kind = _Kind(claimer.namespace, after is not None, at is not None, early)
    present: str | None
    not_before = 0.0
    if connection.dialect.name == "postgresql":
        due, planning, present, not_before = _lock_due_postgresql(
            connection, claimer, kind, told, published
        )
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
    return Candidates(due, plan, most_planned, read_instant(present), not_before)


class _Kind(NamedTuple):
    """Which variant of a statement. *resumed*: with parameters for where the last batch ended, see
    `told_of`; *by_clock*: with the present as its parameter ``at``; *early*: with an instant that
    may count as the present as its parameter ``until``."""

    namespace: str
    resumed: bool
    by_clock: bool
    early: bool


def _lock_due_postgresql(
    connection: Connection,
    claimer: Claimer,
    kind: _Kind,
    told: Mapping[str, Any],
    published: Sequence[UUID],
) -> tuple[Rows, bool, str, float]:
    """What is due, whether there is anything to plan, the present, and when that comes."""
    told = {**told, **confirming(claimer, published)} if published else told
    answer = connection.execute(_locking_due(kind, confirms=bool(published)), told)
    answered_at = claimer.clock.monotonic()
    found, own = answer.all(), len(ROUTINE_COLUMNS)
    present, planning, *_ = found[0][own:]
    due = [_text(row[:own]) for row in found if row[0] is not None]
    for row in due:
        if row["next_run_at"] is None:  # -infinity, which is text of no instant
            row["next_run_at"] = "-infinity"
    not_before = 0.0
    if kind.early:  # the last row was made last
        ahead = (read_instant(present) - read_instant(found[-1][-1])).total_seconds()
        not_before = answered_at + ahead if ahead > 0 else 0.0
    return due, planning is not None, present, not_before


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
    if kind.early:
        # Whether the run before has ended by then, cannot be known before.
        has_come = _present(kind) <= _clock(kind)
        due = due.where(sa.or_(routines.c.overlap == Overlap.ALLOW.value, has_come))
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
    if kind.early:
        at_last = _clock(kind) if kind.by_clock else sa.func.clock_timestamp(type_=Instant())
        locking = locking.add_columns(raw(at_last).label("at_last"))
    locking = locking.select_from(present.outerjoin(due, sa.true()))
    locking = locking.order_by(*(due.c[each.name] for each in order))
    return locking.add_cte(CONFIRM.columns().cte("confirmed")) if confirms else locking


def _clock(kind: _Kind) -> sa.ColumnElement[datetime]:
    at: sa.ColumnElement[datetime] = sa.bindparam("at", type_=routines.c.next_run_at.type)
    return at if kind.by_clock else utcnow()


def _present(kind: _Kind) -> sa.ColumnElement[datetime]:
    """What the clock says, or what it is about to."""
    now = _clock(kind)
    if not kind.early:
        return now
    until = _until()
    soon = until.between(now, now + sa.literal(SOON, sa.Interval()))
    return sa.case((soon, until), else_=now)


def _until() -> sa.ColumnElement[datetime]:
    return sa.bindparam("until", type_=routines.c.next_run_at.type)


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
