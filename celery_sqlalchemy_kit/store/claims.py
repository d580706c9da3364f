"""The claim: what is due is taken, in one transaction, by whoever locks it first.

Everything a claim writes, it writes under the lock of the routine's row: a run and the step of
``next_run_at`` stand or fall together, so that no other scheduler can take the same occurrence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .. import schedules
from ..clock import Clock
from ..columns import raw, read_instant, utcnow
from ..routines import Overlap, State
from ..steps import Step, Unfinished, step_of
from ..storage.values import Batch, Claimed, Decide, Position
from ..tables import routines
from . import unfinished
from .present import now_of
from .rows import ROUTINE_COLUMNS, Fetched, fetched
from .writes import Writes

#: Rows that are planned by a claim of others that are due.
PLANNED_BESIDE = 100


@dataclass(frozen=True)
class Claimer:
    """Who claims, for which namespace, in which default zone, by which clock, which tasks."""

    id: UUID
    namespace: str
    timezone: str
    clock: Clock
    allowed_tasks: Sequence[str] | None

    def now(self) -> sa.ColumnElement[datetime]:
        """The present, in a statement."""
        return now_of(self.clock)


def claim(
    connection: Connection,
    claimer: Claimer,
    decide: Decide,
    *,
    limit: int,
    after: Position | None,
    again: bool,
) -> Batch:
    """Take what is due and plan what has to be planned, at most *limit* rows of each.

    *again*: the try before met ids that were there already; look for them first.
    """
    due, plan, present = _lock(connection, claimer, limit, after)
    guarded = [row for row in (*due, *plan) if row["overlap"] != Overlap.ALLOW.value]
    standing = unfinished.read(connection, (row["id"] or "" for row in guarded))
    writes = Writes(claimer.namespace, present)
    claimed: list[Claimed] = []
    last, cut_short, still_due = None, False, False
    for text in (*due, *plan):
        if len(claimed) >= limit:
            # Rows bound the locks, runs bound the writes: a row can have a backlog of many.
            cut_short = True
            break
        row = fetched(text, claimer.timezone, claimer.allowed_tasks)
        if row.routine is None:
            writes.fault(row)
            continue
        step = step_of(row.routine, decide, present, standing.get(row.key, Unfinished()))
        _write(writes, row, step, claimer.id)
        still_due |= step.next_run_at is not None and step.next_run_at <= present
        claimed += (Claimed(run, present, row.routine) for run in step.runs)
        _rewrite(writes, row, claimer.timezone)
        if row.routine.next_run_at is not None:
            last = Position(row.routine.next_run_at, row.key)
    repeated = writes.drop_repeated(connection) if again else frozenset()
    writes.execute(connection)
    return Batch(
        present,
        tuple(held for held in claimed if held.run.id not in repeated),
        tuple(writes.told),
        tuple(repeated),
        rows=len(due) + len(plan),
        more=cut_short or len(due) == limit or len(plan) == _most_planned(limit, due),
        last=last,
        still_due=still_due,
    )


Rows = list[dict[str, "str | None"]]
_LOCKED = (*ROUTINE_COLUMNS, "now")


def _lock(
    connection: Connection, claimer: Claimer, limit: int, after: Position | None
) -> tuple[Rows, Rows, datetime]:
    """Lock due rows and rows to plan, in two arms: a disjunction would use no index."""
    present = claimer.clock.now()
    if present is None:
        due, plan = _arms(claimer.namespace, resumed=after is not None)
    else:
        due, plan = _arms_at(claimer.now(), claimer.namespace, resumed=after is not None)
    told: dict[str, Any] = {"most": limit}
    if after is not None:
        told |= told_of(after)
    is_due = _rows(connection, due, told)
    for row in is_due:
        if row["next_run_at"] is None:  # PostgreSQL's -infinity, which is text of no instant
            row["next_run_at"] = "-infinity"
    unplanned = _rows(connection, plan, {"most": _most_planned(limit, is_due)})
    for row in (*is_due[:1], *unplanned[:1]):
        return is_due, unplanned, read_instant(row["now"] or "")
    return [], [], read_instant(connection.execute(sa.select(raw(claimer.now()))).scalar_one())


def _rows(connection: Connection, statement: Any, told: Mapping[str, Any]) -> Rows:
    return [dict(zip(_LOCKED, row, strict=True)) for row in connection.execute(statement, told)]


def _most_planned(limit: int, is_due: Rows) -> int:
    """What is due is not sent before all of the claim is written."""
    return min(limit, PLANNED_BESIDE) if is_due else limit


def _arms_at(now: sa.ColumnElement[datetime], namespace: str, *, resumed: bool) -> tuple[Any, Any]:
    """The statements of both arms: parameters most and, where a batch is *resumed* behind the last
    one, what is `told_of` that."""
    columns = [*(raw(routines.c[name]) for name in ROUTINE_COLUMNS), raw(now)]
    mine, most = schedulable(namespace), sa.bindparam("most", type_=sa.Integer())
    due = sa.select(*columns).where(mine, routines.c.next_run_at <= now)
    if resumed:
        due = due.where(behind())
    due = due.order_by(routines.c.next_run_at, routines.c.id).limit(most)
    # Their next_run_at is null: the order says which index to use, whatever is known of its values.
    plan = sa.select(*columns).where(mine, to_plan()).limit(most)
    plan = plan.order_by(routines.c.next_run_at, routines.c.id)
    return due.with_for_update(skip_locked=True), plan.with_for_update(skip_locked=True)


@lru_cache(maxsize=16)
def _arms(namespace: str, *, resumed: bool) -> tuple[Any, Any]:
    """The same by the database's clock, which need not be built for every batch."""
    return _arms_at(utcnow(), namespace, resumed=resumed)


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


def _write(writes: Writes, row: Fetched, step: Step, claimer: UUID) -> None:
    """Note what becomes of one row."""
    for run in step.runs:
        writes.run(run, row.text, State.CLAIMED, claimed_by=claimer)
    if step.waits is not None:
        writes.run(step.waits, row.text, State.WAITING)
    for each in step.records:
        writes.run(
            each.run,
            row.text,
            each.state,
            reason=each.reason,
            count=each.count,
            until=each.until,
        )
    if step.spent:
        writes.spent.append(row.key)
        return
    if step.over:
        writes.over.append(row.key)
    writes.step(row.key, step)


def _rewrite(writes: Writes, row: Fetched, timezone: str) -> None:
    """Keep the schedule in the form of this kit."""
    rewritten = schedules.rewritten(row.text["schedule"] or "", timezone)
    if rewritten is not None:
        writes.rewritten.append((row.key, rewritten))
