"""Claimed runs on their way to the broker: confirmed, rescued, given up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import raw, read_instant
from ..rescue import Stranded, Verdict
from ..routines import ENDED, CatchUp, Cause, Overlap, Run, State
from ..tables import routines, runs
from .chunks import chunks
from .claims import Claimed, Claimer, schedulable, to_plan
from .ledger import cut
from .unfinished import may_go

Judge = Callable[[Stranded, datetime], Verdict]

#: Causes of the runs that ``total_run_count`` counts.
COUNTED = (Cause.SCHEDULE, Cause.CATCH_UP)


@dataclass(frozen=True)
class View:
    """What there is to do, seen without a lock."""

    now: datetime
    #: A routine is due, or has to be planned.
    to_claim: bool
    #: When the next one is due.
    next_run_at: datetime | None
    #: When the oldest run that is still unpublished was claimed.
    oldest_claim_at: datetime | None
    #: A run waits for the end of the one before it; one of those need wait no longer.
    waiting: bool = False
    to_release: bool = False


@dataclass(frozen=True)
class Rescued:
    """Runs taken over for publishing, and what became of the others, with the reason."""

    claimed: tuple[Claimed, ...] = ()
    ended: tuple[tuple[str, State, str], ...] = ()


def look(connection: Connection, claimer: Claimer) -> View:
    """One statement: when to wake, and whether there is anything to do."""
    mine = schedulable(claimer.namespace)
    present = claimer.now()
    due = sa.select(sa.literal(1)).where(mine, routines.c.next_run_at <= present).limit(1)
    plan = sa.select(sa.literal(1)).where(mine, to_plan()).limit(1)
    # No min(), for which MySQL and MariaDB would read all that are to come.
    following = sa.select(routines.c.next_run_at).where(mine, routines.c.next_run_at > present)
    following = following.order_by(routines.c.next_run_at).limit(1)
    claimed = sa.and_(runs.c.state == State.CLAIMED.value, runs.c.namespace == claimer.namespace)
    oldest = sa.select(sa.func.min(runs.c.claimed_at)).where(claimed)
    waits = sa.and_(runs.c.state == State.WAITING.value, runs.c.namespace == claimer.namespace)
    released = sa.select(sa.func.max(sa.case((may_go(), 1), else_=0))).where(waits)
    now, is_due, planning, next_run_at, oldest_claim_at, release = connection.execute(
        sa.select(
            raw(present),
            due.scalar_subquery(),
            plan.scalar_subquery(),
            raw(following.scalar_subquery()),
            raw(oldest.scalar_subquery()),
            released.scalar_subquery(),
        )
    ).one()
    return View(
        read_instant(now),
        is_due is not None or planning is not None,
        _instant(next_run_at),
        _instant(oldest_claim_at),
        waiting=release is not None,
        to_release=release == 1,
    )


def _instant(text: str | None) -> datetime | None:
    """None too for what is no instant: the claim of its row is going to say so."""
    try:
        return None if text is None else read_instant(text)
    except ValueError:
        return None


def confirm(connection: Connection, claimer: Claimer, ids: Iterable[UUID]) -> None:
    """What was published is ``sent``, unless a worker has begun it already."""
    for published in chunks(ids):
        mine = sa.and_(
            runs.c.id.in_(published),
            runs.c.state == State.CLAIMED.value,
            runs.c.claimed_by == claimer.id,
        )
        values = {"state": State.SENT.value, "sent_at": claimer.now(), "error": None}
        connection.execute(runs.update().where(mine).values(values))


def note_fault(connection: Connection, run_id: UUID, fault: str) -> None:
    """A message that cannot be made or sent, for its own sake: say so in its run."""
    unsent = sa.and_(runs.c.id == run_id, runs.c.state == State.CLAIMED.value)
    connection.execute(runs.update().where(unsent).values(error=cut(fault)))


def release(connection: Connection, claimer: Claimer) -> None:
    """Let go routines that wait for a run which has ended, or is there no more.

    Read as text, as people may have written anything. A row that somebody has locked is left to
    the next time: it must not hold up the scheduler.
    """
    c, ended = routines.c, [state.value for state in ENDED]
    pair = (raw(c.id), raw(c.waiting_for))
    stuck = (
        sa.select(*pair)
        .select_from(routines.outerjoin(runs, runs.c.id == c.waiting_for))
        .where(c.waiting_for.is_not(None), sa.or_(runs.c.id.is_(None), runs.c.state.in_(ended)))
    )
    finished_at = sa.select(runs.c.finished_at).where(runs.c.id == c.waiting_for).scalar_subquery()
    for pairs in chunks(connection.execute(stuck).all()):
        seen = {str(key): awaited for key, awaited in pairs}
        locked = sa.select(*pair).where(c.id.in_(seen)).with_for_update(skip_locked=True)
        still = [key for key, awaited in connection.execute(locked).all() if seen[key] == awaited]
        # MySQL assigns from left to right: what is read comes before what is set.
        connection.execute(
            routines.update()
            .where(c.id.in_(still))
            .ordered_values(
                (c.ended_at, sa.func.coalesce(finished_at, claimer.now())), (c.waiting_for, None)
            )
        )


_SENT = ("id", "routine_id", "args", "kwargs", "options", "scheduled_for", "claimed_at", "error")


def rescue(
    connection: Connection, claimer: Claimer, judge: Judge, *, age: timedelta, limit: int
) -> Rescued:
    """Take over runs that were claimed at least *age* ago and are unpublished; oldest first."""
    present = read_instant(connection.execute(sa.select(raw(claimer.now()))).scalar_one())
    c = runs.c
    locked = connection.execute(
        sa.select(
            c.routine_name,
            c.task,
            c.cause,
            c.publish_attempts,
            *(raw(c[name]).label(name) for name in _SENT),
        )
        .where(
            c.state == State.CLAIMED.value,
            c.namespace == claimer.namespace,
            c.claimed_at <= present - age,
        )
        .order_by(c.claimed_at, c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = [dict(row) for row in locked.mappings()]
    standing = _standing(connection, {row["routine_id"] for row in rows})
    again: list[Claimed] = []
    given_up: list[tuple[Mapping[str, Any], Run, Verdict]] = []
    for row in rows:
        run = _run(row)
        verdict = judge(_stranded(row, run, standing.get(row["routine_id"])), present)
        if verdict.state is None:
            again.append(Claimed(run, present))
        else:
            given_up.append((row, run, verdict))
    ended = _end(connection, given_up, standing, present)
    for taken in chunks(held.run.id for held in again):
        mine = c.id.in_(taken)
        connection.execute(
            runs.update()
            .where(mine)
            .values(
                claimed_by=claimer.id,
                claimed_at=present,
                publish_attempts=c.publish_attempts + 1,
            )
        )
    return Rescued(tuple(again), tuple(ended))


def _standing(connection: Connection, keys: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """How the routines of stranded runs stand now, by id."""
    c = routines.c
    words = (c.active, c.catch_up, c.overlap)
    columns = (raw(c.id), *words, raw(c.occurrence_at), raw(c.waiting_for))
    standing: dict[str, Mapping[str, Any]] = {}
    for wanted in chunks(keys):
        for key, *values in connection.execute(sa.select(*columns).where(c.id.in_(wanted))):
            names = ("active", "catch_up", "overlap", "occurrence_at", "waiting_for")
            standing[key] = dict(zip(names, values, strict=True))
    return standing


def _run(row: Mapping[str, Any]) -> Run:
    return Run(
        id=UUID(row["id"]),
        routine_id=UUID(row["routine_id"]),
        routine_name=row["routine_name"],
        task=row["task"],
        scheduled_for=read_instant(row["scheduled_for"]),
        cause=Cause(row["cause"]),
        args=tuple(json.loads(row["args"] or "null") or ()),
        kwargs=json.loads(row["kwargs"] or "null") or {},
        options=json.loads(row["options"] or "null") or {},
    )


def _stranded(row: Mapping[str, Any], run: Run, routine: Mapping[str, Any] | None) -> Stranded:
    # One that was queued is late because it waited: neither that nor what has come since is a
    # reason to drop it.
    queued = routine is not None and routine["overlap"] == Overlap.QUEUE.value
    kept = queued or (routine is not None and routine["catch_up"] == CatchUp.ALL.value)
    late = queued and run.cause is Cause.SCHEDULE
    following = _instant(routine["occurrence_at"]) if routine else None
    if following == run.scheduled_for:  # a routine that runs once, or waits for the run's end
        following = None
    return Stranded(
        scheduled_for=run.scheduled_for,
        cause=Cause.CATCH_UP if late else run.cause,
        options=run.options,
        publish_attempts=row["publish_attempts"],
        fault=row["error"],
        present=routine is not None,
        active=routine is not None and bool(routine["active"]),
        catch_up=CatchUp.ALL if kept else CatchUp.LATEST,
        following=following,
        over=following is None and not (routine and routine["waiting_for"]),
        claimed_at=_instant(row["claimed_at"]),
    )


def _end(
    connection: Connection,
    given_up: Sequence[tuple[Mapping[str, Any], Run, Verdict]],
    standing: Mapping[str, Any],
    now: datetime,
    was: State = State.CLAIMED,
) -> list[tuple[str, State, str]]:
    """End runs unpublished, which have been *was*; those that counted count no longer.

    One whose routine somebody has locked is left for the next time.
    """
    counted = [row for row, run, _ in given_up if run.cause in COUNTED]
    there = [row["routine_id"] for row in counted if row["routine_id"] in standing]
    free = uncount(connection, there)
    ended = []
    for row, run, verdict in given_up:
        if run.cause in COUNTED and row["routine_id"] in standing and row["routine_id"] not in free:
            continue
        state = verdict.state or State.MISSED
        values = {"state": state.value, "reason": verdict.reason, "finished_at": now}
        unsent = sa.and_(runs.c.id == row["id"], runs.c.state == was.value)
        connection.execute(runs.update().where(unsent).values(values))
        ended.append((f"{run.routine_name}[{run.id}]", state, verdict.reason or ""))
    return ended


def uncount(connection: Connection, keys: Iterable[str]) -> frozenset[str]:
    """Take back from ``total_run_count`` one run for each of *keys*, ids of routines.

    Returns those that it was taken back from; not those of which somebody has locked the row, as
    a transaction that is left open must not hold up the scheduler.
    """
    c, times = routines.c, Counter(keys)
    free: set[str] = set()
    for wanted in chunks(times):
        locked = sa.select(raw(c.id)).where(c.id.in_(wanted)).order_by(c.id)
        free |= set(connection.execute(locked.with_for_update(skip_locked=True)).scalars())
    for key in free:
        less = sa.case((c.total_run_count > times[key], c.total_run_count - times[key]), else_=0)
        connection.execute(routines.update().where(c.id == key).values(total_run_count=less))
    return frozenset(free)
