"""The worker's side: `RunLedger`. What each method is to do, the protocol says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from celery_sqlalchemy_kit.clock import DATABASE, Clock
from celery_sqlalchemy_kit.routines import State
from celery_sqlalchemy_kit.storage.values import Begun, Fate

from .memory import Memory, present
from .rows import RunRow


class MemoryLedger:
    """The runs of a `Memory`, as workers begin and end them."""

    def __init__(self, memory: Memory, clock: Clock = DATABASE) -> None:
        self._memory, self._clock = memory, clock

    def begin(
        self,
        run_id: UUID,
        attempt_id: UUID,
        *,
        retries: int,
        worker: str,
        again: bool = False,
        lost_after: timedelta | None = None,
        ago: float = 0.0,
    ) -> Begun:
        with self._memory.change(self._clock) as (tables, now):
            row = tables.runs.get(run_id)
            if row is None:
                return Begun.UNKNOWN
            if row.state is State.RUNNING and row.attempt_id == attempt_id:
                return Begun.BEGUN
            begun = _begun(row, now, retries=retries, again=again, lost_after=lost_after)
            if begun is Begun.BEGUN:
                tables.runs[run_id] = replace(
                    row,
                    state=State.RUNNING,
                    attempt_id=attempt_id,
                    retries=retries,
                    worker=worker,
                    started_at=now - timedelta(seconds=ago),
                    heartbeat_at=now,
                    finished_at=None,
                    reason=None,
                    error=None,
                )
            elif begun is Begun.LOST:
                reason = f"no beat of worker {row.worker}"
                lost = replace(row, state=State.LOST, reason=reason, finished_at=now)
                tables.runs[run_id] = lost
            return begun

    def end(
        self,
        run_id: UUID,
        attempt_id: UUID,
        state: State,
        *,
        reason: str | None = None,
        error: str | None = None,
        due: float | datetime | None = None,
        ago: float = 0.0,
    ) -> bool:
        with self._memory.change(self._clock) as (tables, now):
            row = tables.runs.get(run_id)
            if row is None or row.attempt_id != attempt_id:
                return False
            if row.state not in (State.RUNNING, State.LOST, State.SENT):
                return row.state is state
            then = now - timedelta(seconds=ago)
            ended = replace(row, state=state, reason=reason, error=error, finished_at=then)
            if state is State.RETRYING:
                at = due if isinstance(due, datetime) else then + timedelta(seconds=due or 0.0)
                ended = replace(ended, finished_at=None, heartbeat_at=at)
            elif state is State.SENT:
                ended = replace(ended, finished_at=None, attempt_id=None)
            tables.runs[run_id] = ended
            return True

    def lose(
        self, run_id: UUID, attempt_id: UUID, *, retries: int, reason: str, again: bool = False
    ) -> Fate:
        after = State.SENT if again else State.LOST
        with self._memory.change(self._clock) as (tables, now):
            row = tables.runs.get(run_id)
            if row is None:
                return Fate.OVER
            mine = row.attempt_id == attempt_id
            if mine and (row.state, row.reason) == (after, reason):
                return Fate.LOST
            if not (mine and row.state is State.RUNNING):
                return Fate.UNSTARTED if _may_begin(row, retries) else Fate.OVER
            lost = replace(row, state=after, reason=reason)
            lost = replace(lost, sent_at=now) if again else replace(lost, finished_at=now)
            tables.runs[run_id] = lost
            return Fate.LOST

    def drop(self, run_id: UUID, state: State, *, retries: int, reason: str) -> bool:
        with self._memory.change(self._clock) as (tables, now):
            row = tables.runs.get(run_id)
            if row is None or not _may_drop(row, state, retries):
                return False
            if row.state is State.RETRYING and state is State.SKIPPED:
                state = State.FAILED
            tables.runs[run_id] = replace(row, state=state, reason=reason, finished_at=now)
            return True

    def beat(self, active: Iterable[tuple[UUID, UUID | None]], worker: str) -> int:
        beaten = 0
        with self._memory.change(self._clock) as (tables, now):
            for run_id, attempt_id in active:
                row = tables.runs.get(run_id)
                if row is None or (row.state, row.worker) != (State.RUNNING, worker):
                    continue
                if attempt_id in (None, row.attempt_id):
                    tables.runs[run_id] = replace(row, heartbeat_at=now)
                    beaten += 1
        return beaten

    def owner(self, run_id: UUID) -> tuple[str, str]:
        row = self._memory.read().runs.get(run_id)
        return ("", "") if row is None else (row.run.routine_name, row.worker or "")

    def now(self) -> datetime:
        return present(self._clock)


def _begun(
    row: RunRow, now: datetime, *, retries: int, again: bool, lost_after: timedelta | None
) -> Begun:
    """What becomes of another attempt's wish to begin."""
    if _may_begin(row, retries):
        return Begun.BEGUN
    if again and row.state is State.LOST and row.retries <= retries:
        return Begun.BEGUN
    if row.state is not State.RUNNING or lost_after is None or (again and retries < row.retries):
        return Begun.DUPLICATE
    if row.heartbeat_at is None or row.heartbeat_at <= now - lost_after:
        return Begun.BEGUN if again else Begun.LOST
    return Begun.OWNED if again else Begun.DUPLICATE


def _may_begin(row: RunRow, retries: int) -> bool:
    if _is_unstarted(row) or _is_lost_unstarted(row):
        return row.retries <= retries
    # The next attempt may be here before the end of the last one is: its number proves that.
    return row.state in (State.RETRYING, State.RUNNING, State.LOST) and row.retries < retries


def _is_unstarted(row: RunRow) -> bool:
    return row.state in (State.CLAIMED, State.SENT)


def _is_lost_unstarted(row: RunRow) -> bool:
    return row.state is State.LOST and row.attempt_id is None


def _may_drop(row: RunRow, state: State, retries: int) -> bool:
    if row.state is State.RETRYING:
        return row.retries < retries
    return _is_unstarted(row) or (_is_lost_unstarted(row) and state is not State.LOST)
