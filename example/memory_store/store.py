"""The scheduler's side: `SchedulerStore`. What each method is to do, the protocol says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from celery_sqlalchemy_kit.clock import DATABASE, Clock
from celery_sqlalchemy_kit.reconcile import Plan
from celery_sqlalchemy_kit.routines import Declared, State
from celery_sqlalchemy_kit.storage.values import (
    Batch,
    Change,
    Decide,
    Found,
    Judge,
    JudgeUnbegun,
    OnWorkerLost,
    Passed,
    Position,
    Presence,
    Rescued,
    Since,
    Survey,
    Swept,
    View,
    Walk,
)

from . import claims, registry, sweeps, unsent
from .memory import Memory, present


class MemoryStore:
    """A `Memory`, as one scheduler sees it."""

    def __init__(
        self,
        memory: Memory,
        me: Presence,
        *,
        timezone: str = "UTC",
        clock: Clock = DATABASE,
        allowed_tasks: Sequence[str] | None = None,
    ) -> None:
        self._memory, self._me, self._clock = memory, me, clock
        self._reader = claims.Reader(timezone, allowed_tasks)

    def look(self, *, after: Passed | None = None) -> View:
        return claims.look(self._memory.read(), self._me.namespace, present(self._clock))

    def claim(
        self,
        decide: Decide,
        *,
        limit: int,
        after: Position | None = None,
        published: Iterable[UUID] = (),
        until: datetime | None = None,
    ) -> Batch:
        with self._memory.change(self._clock) as (tables, now):
            claims.confirm(tables, self._me, now, published)
            return claims.claim(tables, self._me, now, self._reader, decide, limit)

    def stopped(self, routine_ids: Iterable[UUID], *, at: datetime) -> frozenset[UUID]:
        tables = self._memory.read()
        return frozenset(key for key in routine_ids if not claims.runs_on(tables, key, at))

    def confirm(self, published: Iterable[UUID]) -> None:
        with self._memory.change(self._clock) as (tables, now):
            claims.confirm(tables, self._me, now, published)

    def note_fault(self, run_id: UUID, fault: str) -> None:
        with self._memory.change(self._clock) as (tables, _):
            row = tables.runs.get(run_id)
            if row is not None and row.state is State.CLAIMED:
                tables.runs[run_id] = replace(row, error=fault)

    def rescue(self, judge: Judge, *, age: timedelta, limit: int) -> Rescued:
        with self._memory.change(self._clock) as (tables, now):
            return unsent.rescue(tables, self._me, now, judge, age, limit)

    def release(self, *, limit: int) -> Rescued:
        with self._memory.change(self._clock) as (tables, now):
            return unsent.release(tables, self._me, now, limit)

    def survey(self, since: Since) -> Survey:
        return sweeps.survey(self._memory.read(), self._me.namespace, since)

    def sweep(
        self,
        on_worker_lost: OnWorkerLost,
        *,
        now: datetime,
        lost_after: timedelta,
        limit: int,
        may_send: bool,
    ) -> Swept:
        with self._memory.change(self._clock) as (tables, _):
            return sweeps.sweep(
                tables,
                self._me,
                on_worker_lost,
                now=now,
                lost_after=lost_after,
                limit=limit,
                may_send=may_send,
            )

    def redeliver(self, judge: JudgeUnbegun, walk: Walk, *, limit: int) -> Swept:
        with self._memory.change(self._clock) as (tables, now):
            return sweeps.redeliver(tables, self._me, judge, walk, now, limit)

    def alert(
        self,
        *,
        overdue_before: datetime,
        tells_overdue: bool,
        failed_since: datetime,
        alerted_after: str | None,
        limit: int,
    ) -> tuple[Found, tuple[Change, ...]]:
        """There are none here."""
        return Found(()), ()

    def prune(self, before: datetime, changes_before: datetime, *, limit: int) -> int:
        with self._memory.change(self._clock) as (tables, _):
            return sweeps.prune(tables, self._me.namespace, before, limit)

    def surplus(self, routine_id: UUID, *, keep: int) -> datetime | None:
        return sweeps.surplus(self._memory.read(), routine_id, keep)

    def prune_surplus(self, routine_id: UUID, until: datetime, *, limit: int) -> int:
        with self._memory.change(self._clock) as (tables, _):
            return sweeps.prune_surplus(tables, routine_id, until, limit)

    def reconcile(
        self, declared: Iterable[Declared], *, known_tasks: Iterable[str], removal: str, merge: bool
    ) -> Plan:
        code, known = tuple(declared), frozenset(known_tasks)
        with self._memory.change(self._clock) as (tables, now):
            plan = registry.plan(
                tables, self._me, now, code, known_tasks=known, removal=removal, merge=merge
            )
            registry.apply(tables, self._me.namespace, plan, now)
            registry.announce(tables, self._me, (each.name for each in code), now)
            return plan

    def beat(self, lateness: timedelta) -> bool:
        with self._memory.change(self._clock) as (tables, now):
            return registry.beat(tables, self._me, now)

    def leave(self, published: Iterable[UUID] = ()) -> None:
        with self._memory.change(self._clock) as (tables, now):
            claims.confirm(tables, self._me, now, published)
            tables.schedulers.pop(self._me.id, None)
