"""What is due, and the claim of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from uuid import UUID

from celery_sqlalchemy_kit.errors import RoutineError, ScheduleError
from celery_sqlalchemy_kit.routines import Routine, State
from celery_sqlalchemy_kit.steps import Step, Unfinished, step_of
from celery_sqlalchemy_kit.storage.values import Batch, Claimed, Decide, Presence, View

from .memory import Tables
from .rows import RoutineRow, RunRow
from .unsent import UNDER_WAY, may_go


@dataclass(frozen=True)
class Reader:
    """How this scheduler reads a routine."""

    timezone: str
    allowed_tasks: Sequence[str] | None

    def read(self, row: RoutineRow) -> Routine:
        """The routine.

        Raises:
            RoutineError, ScheduleError: it cannot be scheduled.
        """
        patterns = ["*"] if self.allowed_tasks is None else self.allowed_tasks
        if not any(fnmatchcase(row.task, pattern) for pattern in patterns):
            raise RoutineError(f"task = {row.task!r} is not among scheduler_allowed_tasks")
        return row.read(self.timezone)


def look(tables: Tables, namespace: str, now: datetime) -> View:
    mine = list(_schedulable(tables, namespace))
    instants = [row.next_run_at for row in mine if row.next_run_at is not None]
    claimed = tables.runs_in(namespace, State.CLAIMED)
    waiting = tables.runs_in(namespace, State.WAITING)
    return View(
        now,
        to_claim=any(_is_due(row, now) or _is_unplanned(row) for row in mine),
        next_run_at=min((instant for instant in instants if instant > now), default=None),
        oldest_claim_at=claimed[0].claimed_at if claimed else None,
        waiting=bool(waiting),
        to_release=any(may_go(tables, row) for row in waiting),
    )


def _schedulable(tables: Tables, namespace: str) -> Iterator[RoutineRow]:
    for row in tables.routines.values():
        if row.namespace == namespace and row.active and row.error is None:
            yield row


def _is_due(row: RoutineRow, now: datetime) -> bool:
    return row.next_run_at is not None and row.next_run_at <= now


def _is_unplanned(row: RoutineRow) -> bool:
    return row.next_run_at is None and row.waiting_for is None


def runs_on(tables: Tables, routine_id: UUID, at: datetime) -> bool:
    row = tables.routines.get(routine_id)
    if row is None:
        return False
    is_over = row.waiting_for is None and (row.occurrence_at is None or row.occurrence_at <= at)
    return row.active or is_over


def confirm(tables: Tables, me: Presence, now: datetime, published: Iterable[UUID]) -> None:
    for key in published:
        row = tables.runs.get(key)
        if row is not None and row.state is State.CLAIMED and row.claimed_by == me.id:
            tables.runs[key] = replace(row, state=State.SENT, sent_at=now, error=None)


def claim(
    tables: Tables, me: Presence, now: datetime, reader: Reader, decide: Decide, limit: int
) -> Batch:
    mine = list(_schedulable(tables, me.namespace))
    due = sorted((row for row in mine if _is_due(row, now)), key=_position)[:limit]
    unplanned = [row for row in mine if _is_unplanned(row)][:limit]
    batch = _Batch(tables, me, now)
    looked_at = 0
    for row in (*due, *unplanned):
        if len(batch.claimed) >= limit:
            break
        looked_at += 1
        try:
            routine = reader.read(row)
        except (RoutineError, ScheduleError) as fault:
            batch.fail(row, str(fault))
            continue
        batch.take(row, routine, step_of(routine, decide, now, _unfinished(tables, row.id)))
    rows = len(due) + len(unplanned)
    return Batch(
        now,
        tuple(batch.claimed),
        tuple(batch.faults),
        tuple(batch.repeated),
        rows=rows,
        more=looked_at < rows or limit in (len(due), len(unplanned)),
    )


def _position(row: RoutineRow) -> tuple[datetime | None, str]:
    return row.next_run_at, str(row.id)


def _unfinished(tables: Tables, routine_id: UUID) -> Unfinished:
    begun = tables.runs_of(routine_id, *UNDER_WAY)
    waiting = tables.runs_of(routine_id, State.WAITING)
    return Unfinished(
        begun[0].run.id if begun else None,
        waiting[0].run.id if waiting else None,
    )


class _Batch:
    """What one claim takes, written row by row."""

    def __init__(self, tables: Tables, me: Presence, now: datetime) -> None:
        self._tables, self._me, self._now = tables, me, now
        self.claimed: list[Claimed] = []
        self.faults: list[tuple[str, str]] = []
        self.repeated: list[UUID] = []

    def fail(self, row: RoutineRow, fault: str) -> None:
        self._tables.routines[row.id] = replace(row, error=fault)
        self.faults.append((row.name, fault))

    def take(self, row: RoutineRow, routine: Routine, step: Step) -> None:
        for run in step.runs:
            new = RunRow(run, self._me.namespace, State.CLAIMED, self._now)
            if self._insert(replace(new, claimed_by=self._me.id, publish_attempts=1)):
                self.claimed.append(Claimed(run, self._now, routine))
        if step.waits is not None:
            self._insert(RunRow(step.waits, self._me.namespace, State.WAITING, self._now))
        for each in step.records:
            record = RunRow(each.run, self._me.namespace, each.state, self._now)
            told = replace(record, reason=each.reason, count=each.count, until=each.until)
            self._insert(replace(told, finished_at=self._now))
        self._tables.routines[row.id] = self._stepped(row, step)

    def _insert(self, row: RunRow) -> bool:
        """False: its occurrence has a run already, which is none of this claim's business."""
        if row.run.id in self._tables.runs:
            self.repeated.append(row.run.id)
            return False
        self._tables.runs[row.run.id] = row
        return True

    def _stepped(self, row: RoutineRow, step: Step) -> RoutineRow:
        return replace(
            row,
            occurrence_at=step.occurrence_at,
            next_run_at=step.next_run_at,
            last_run_at=step.last_run_at,
            total_run_count=step.total_run_count,
            waiting_for=step.waiting_for,
            ended_at=step.ended_at,
            active=not step.over,
            paused_at=self._now if step.over else None,
        )
