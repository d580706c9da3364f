"""Runs that are not published: left so by a scheduler that is gone, or waiting for another run."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from celery_sqlalchemy_kit.overlap import released
from celery_sqlalchemy_kit.rescue import Stranded, expiry, stranded
from celery_sqlalchemy_kit.routines import BY_HAND, COUNTED, Overlap, State
from celery_sqlalchemy_kit.storage.values import Claimed, Judge, Presence, Rescued

from .memory import Tables
from .rows import RunRow

#: Unfinished, and not only waiting.
UNDER_WAY = (State.CLAIMED, State.SENT, State.RUNNING, State.RETRYING)


def rescue(
    tables: Tables, me: Presence, now: datetime, judge: Judge, age: timedelta, limit: int
) -> Rescued:
    claimed, ended = [], []
    stale = [r for r in tables.runs_in(me.namespace, State.CLAIMED) if r.claimed_at <= now - age]
    for row in stale[:limit]:
        verdict = judge(_stranded(tables, row), now)
        if verdict.state is None:
            claimed.append(_claim(tables, row, me, now))
        else:
            ended.append(_end(tables, row, verdict.state, verdict.reason or "", now))
    return Rescued(tuple(claimed), tuple(ended))


def release(tables: Tables, me: Presence, now: datetime, limit: int) -> Rescued:
    claimed, ended = [], []
    for row in tables.runs_in(me.namespace, State.WAITING)[:limit]:
        if not may_go(tables, row):  # the one before may just have been let go
            continue
        found = _stranded(tables, row)
        # From when it was queued: what has been late before is not its fault.
        expires = expiry(row.claimed_at, row.run.options)
        reason = released(
            present=found.present,
            active=found.active,
            over=found.over,
            by_hand=row.run.cause in BY_HAND,
            expired=expires is not None and expires <= now,
        )
        if reason is None:
            claimed.append(_claim(tables, row, me, now))
        else:
            ended.append(_end(tables, row, State.SKIPPED, reason, now))
    return Rescued(tuple(claimed), tuple(ended))


def may_go(tables: Tables, waiting: RunRow) -> bool:
    """Whether a run has nothing to wait for, or need not wait any more."""
    key = waiting.run.routine_id
    routine = tables.routines.get(key)
    if routine is not None and routine.overlap is Overlap.ALLOW:
        return True
    first, *_ = tables.runs_of(key, State.WAITING)
    return first is waiting and not tables.runs_of(key, *UNDER_WAY)


def _stranded(tables: Tables, row: RunRow) -> Stranded:
    routine = tables.routines.get(row.run.routine_id)
    return stranded(
        row.run,
        routine.standing if routine else None,
        claimed_at=row.claimed_at,
        publish_attempts=row.publish_attempts,
        fault=row.error,
    )


def _claim(tables: Tables, row: RunRow, me: Presence, now: datetime) -> Claimed:
    tables.runs[row.run.id] = replace(
        row,
        state=State.CLAIMED,
        claimed_by=me.id,
        claimed_at=now,
        publish_attempts=row.publish_attempts + 1,
    )
    return Claimed(row.run, now)


def _end(
    tables: Tables, row: RunRow, state: State, reason: str, now: datetime
) -> tuple[str, State, str]:
    tables.runs[row.run.id] = replace(row, state=state, reason=reason, finished_at=now)
    routine = tables.routines.get(row.run.routine_id)
    if routine is not None and row.run.cause in COUNTED:
        count = max(0, routine.total_run_count - 1)
        tables.routines[routine.id] = replace(routine, total_run_count=count)
    return f"{row.run.routine_name}[{row.run.id}]", state, reason
