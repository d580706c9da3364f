"""What there is to tidy up: runs that got stuck behind the broker, and those that are old."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from celery_sqlalchemy_kit.rescue import WINDOW, Unbegun, at_once
from celery_sqlalchemy_kit.routines import ENDED, State
from celery_sqlalchemy_kit.storage.values import (
    Again,
    JudgeUnbegun,
    Lost,
    OnWorkerLost,
    Place,
    Presence,
    Since,
    Survey,
    Swept,
    Walk,
)

from .memory import Tables
from .rows import RunRow


def survey(tables: Tables, namespace: str, since: Since) -> Survey:
    return Survey(
        silent=since.silent is not None and bool(_silent(tables, namespace, since.silent)),
        sent=bool(_unbegun(tables, namespace, State.SENT, since.unbegun)),
        retrying=bool(_unbegun(tables, namespace, State.RETRYING, since.unbegun)),
        old=bool(_old(tables, namespace, since.ended)),
        alerts=False,
    )


def _silent(tables: Tables, namespace: str, before: datetime) -> list[RunRow]:
    running = tables.runs_in(namespace, State.RUNNING)
    return [row for row in running if row.heartbeat_at is None or row.heartbeat_at < before]


def _unbegun(tables: Tables, namespace: str, state: State, before: datetime) -> list[RunRow]:
    return [row for row in tables.runs_in(namespace, state) if row.claimed_at <= before]


def _old(tables: Tables, namespace: str, before: datetime) -> list[RunRow]:
    ended = tables.runs_in(namespace, *ENDED)
    return [row for row in ended if row.finished_at is not None and row.finished_at < before]


def sweep(
    tables: Tables,
    me: Presence,
    on_worker_lost: OnWorkerLost,
    *,
    now: datetime,
    lost_after: timedelta,
    limit: int,
    may_send: bool,
) -> Swept:
    lost, again = [], []
    for row in _silent(tables, me.namespace, now - lost_after)[:limit]:
        silence = (now - (row.heartbeat_at or row.claimed_at)).total_seconds()
        told = _lost(row, f"no beat of worker {row.worker} for {silence:.0f} s")
        begins_again = on_worker_lost(row.run.task) == "again"
        if begins_again and not may_send:
            continue
        if begins_again:
            told = replace(told, again=True)
            again.append(_send_again(tables, row, me, told.reason, now))
        else:
            _lose(tables, row, told.reason, now)
        lost.append(told)
    return Swept(tuple(lost), tuple(again))


def redeliver(
    tables: Tables, me: Presence, judge: JudgeUnbegun, walk: Walk, now: datetime, limit: int
) -> Swept:
    lost, again = [], []
    passed = Counter(walk.after.unbegun if walk.after else {})
    place = None
    for number, row in enumerate(_ahead(tables, me.namespace, walk), start=1):
        passed[row.run.task] += 1
        verdict = judge(row.run.task, _unbegun_of(row))
        if verdict is not None and verdict.state is not None:
            lost.append(_lost(row, verdict.reason or ""))
            _lose(tables, row, verdict.reason or "", now)
        elif verdict is not None and passed[row.run.task] <= WINDOW:
            attempts = row.publish_attempts + 1
            tables.runs[row.run.id] = replace(row, claimed_by=me.id, publish_attempts=attempts)
            again.append(_again(row, row.retries + (walk.state is State.RETRYING)))
        if number == walk.looks_at or len(lost) + len(again) == limit:
            place = Place(row.claimed_at, str(row.run.id), dict(passed))
            break
    return Swept(tuple(lost), tuple(again), place)


def _ahead(tables: Tables, namespace: str, walk: Walk) -> list[RunRow]:
    found = _unbegun(tables, namespace, walk.state, walk.before)
    if walk.after is None:
        return found
    return [row for row in found if row.order > (walk.after.claimed_at, walk.after.key)]


def _unbegun_of(row: RunRow) -> Unbegun:
    # Of what waits for its retry, the last is when that was due; of what its worker has put back,
    # when that was.
    signs = (row.claimed_at, row.sent_at, row.heartbeat_at)
    since = max(instant for instant in signs if instant is not None)
    return Unbegun(since, row.claimed_at, row.run.options, row.publish_attempts)


def _lose(tables: Tables, row: RunRow, reason: str, now: datetime) -> None:
    lost = replace(row, state=State.LOST, reason=reason, finished_at=now)
    if row.state is State.RETRYING:
        # What is lost is the next attempt, which nobody has begun: its message still may.
        lost = replace(lost, retries=row.retries + 1, attempt_id=None)
    tables.runs[row.run.id] = lost


def _send_again(tables: Tables, row: RunRow, me: Presence, reason: str, now: datetime) -> Again:
    # The attempt stays: it may yet end the run, while there is no other.
    tables.runs[row.run.id] = replace(
        row,
        state=State.SENT,
        sent_at=now,
        claimed_by=me.id,
        publish_attempts=row.publish_attempts + 1,
        reason=reason,
    )
    return _again(row, row.retries)


def _again(row: RunRow, retries: int) -> Again:
    return Again(at_once(row.run), row.claimed_at, retries=retries)


def _lost(row: RunRow, reason: str) -> Lost:
    return Lost(str(row.run.id), row.run.routine_name, row.run.task, row.worker, reason)


def prune(tables: Tables, namespace: str, before: datetime, limit: int) -> int:
    return _delete(tables, _old(tables, namespace, before)[:limit])


def surplus(tables: Tables, routine_id: UUID, keep: int) -> datetime | None:
    ended = tables.runs_of(routine_id, *ENDED)
    newest = sorted((row.run.scheduled_for for row in ended), reverse=True)
    return newest[keep] if len(newest) > keep else None


def prune_surplus(tables: Tables, routine_id: UUID, until: datetime, limit: int) -> int:
    ended = tables.runs_of(routine_id, *ENDED)
    return _delete(tables, [row for row in ended if row.run.scheduled_for <= until][:limit])


def _delete(tables: Tables, rows: list[RunRow]) -> int:
    for row in rows:
        del tables.runs[row.run.id]
    return len(rows)
