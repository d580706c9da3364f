"""The claim: what is due is taken, in one transaction, by whoever locks it first.

Everything a claim writes, it writes under the lock of the routine's row: a run and the step of
``next_run_at`` stand or fall together, so that no other scheduler can take the same occurrence.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.engine import Connection

from .. import schedules
from ..routines import Overlap, State
from ..steps import Step, Unfinished, step_of
from ..storage.values import Batch, Claimed, Decide, Position
from . import unfinished
from .candidates import Reach, lock
from .claimer import Claimer
from .rows import Fetched, fetched
from .writes import Writes


def claim(
    connection: Connection,
    claimer: Claimer,
    decide: Decide,
    reach: Reach,
    *,
    published: Sequence[UUID],
    again: bool,
) -> Batch:
    """Confirm what was *published*, then take what is due and plan what has to be planned.

    *again*: the try before met ids that were there already; look for them first.
    """
    due, plan, most_planned, present, not_before = lock(connection, claimer, reach, published)
    limit = reach.limit
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
        more=cut_short or len(due) == limit or len(plan) == most_planned,
        # What may not overlap, and so was left, must not be passed by.
        last=None if present == reach.until else last,
        still_due=still_due,
        not_before=not_before,
    )


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
