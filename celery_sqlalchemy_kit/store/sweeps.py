"""Runs that got stuck behind the broker: their worker has died, or nobody begins them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..clock import UTC
from ..columns import instant_of, raw
from ..errors import RoutineError
from ..rescue import WINDOW, Unbegun, at_once
from ..routines import State
from ..storage.values import Again, JudgeUnbegun, Lost, OnWorkerLost, Place, Swept, Walk
from ..tables import runs
from .chunks import chunks
from .claimer import Claimer
from .present import SomeInstant
from .states import in_states
from .unsent import run_of

#: When something was claimed whose instant cannot be read: nothing is done about it.
NEVER = datetime.max.replace(tzinfo=UTC)

Row = Mapping[Any, Any]

_c = runs.c
#: The last sign of life; all three are there in a run that was begun.
_BEAT = sa.func.coalesce(_c.heartbeat_at, _c.started_at, _c.claimed_at)
_SMALL = (
    _c.task,
    _c.publish_attempts,
    *(
        raw(_c[name]).label(name)
        for name in ("id", "options", "scheduled_for", "claimed_at", "sent_at", "heartbeat_at")
    ),
)
_COLUMNS = (
    *_SMALL,
    _c.routine_name,
    _c.cause,
    _c.worker,
    _c.retries,
    raw(_BEAT).label("beat_at"),
    *(raw(_c[name]).label(name) for name in ("routine_id", "args", "kwargs")),
)


def silent(namespace: str, before: SomeInstant) -> sa.ColumnElement[bool]:
    """Running, and without a beat since *before*."""
    return sa.and_(
        _c.namespace == namespace,
        in_states(State.RUNNING),
        _c.claimed_at < before,  # which the index knows; nothing beats before it is claimed
        before > _BEAT,
    )


def unbegun(namespace: str, state: State, before: SomeInstant) -> sa.ColumnElement[bool]:
    """Sent, or to be retried, and claimed before *before*."""
    return sa.and_(_c.namespace == namespace, in_states(state), _c.claimed_at <= before)


def sweep(
    connection: Connection,
    claimer: Claimer,
    on_worker_lost: OnWorkerLost,
    *,
    now: datetime,
    lost_after: timedelta,
    limit: int,
    may_send: bool,
) -> Swept:
    """End the runs whose worker has not beaten for *lost_after*, at most *limit*.

    Those whose task says so become ``sent`` instead, to be sent again: so that somebody does even
    if this process dies before it has, and the routine is not taken for one that is free. Until
    the broker is there (*may_send*) they are left alone.
    """
    found = (
        sa.select(*_COLUMNS)
        .where(silent(claimer.namespace, now - lost_after))
        .order_by(_c.claimed_at, _c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    lost, again = [], []
    for row in connection.execute(found).mappings().all():
        since = instant_of(row["beat_at"]) or now
        silence = (now - since).total_seconds()
        each = _lost(row, f"no beat of worker {row['worker']} for {silence:.0f} s")
        sent = None
        if on_worker_lost(row["task"]) == "again":
            sent = _again(row, row["retries"])
            if not may_send:
                continue
        if sent is not None:
            again.append(sent)
            each = replace(each, again=True)
        lost.append(each)
    _end(connection, claimer, State.RUNNING, [each for each in lost if not each.again])
    _send_again(connection, claimer, State.RUNNING, [each for each in lost if each.again])
    return Swept(tuple(lost), tuple(again))


def redeliver(
    connection: Connection, claimer: Claimer, judge: JudgeUnbegun, walk: Walk, *, limit: int
) -> Swept:
    """Look at runs without a lock, and act on at most *limit* of them.

    In a long queue most have nothing to be done, and these must not stand before the others: so
    the place is returned at which to go on. Only the oldest `WINDOW` of a task are sent again.
    """
    here = _ahead(claimer, walk)
    page = sa.select(*_SMALL).where(here).order_by(_c.claimed_at, _c.id).limit(walk.looks_at)
    rows: Sequence[Row] = connection.execute(page).mappings().all()
    unbegun_of = Counter(walk.after.unbegun if walk.after else {})
    stuck: list[Row] = []
    place = None
    for row in rows:
        unbegun_of[row["task"]] += 1
        verdict = judge(row["task"], _unbegun(row, walk.state))
        waits = verdict is not None and verdict.state is None and unbegun_of[row["task"]] > WINDOW
        if verdict is not None and not waits:
            stuck.append(row)
        if len(stuck) == limit:
            break
    if len(rows) == walk.looks_at or len(stuck) == limit:
        place = _place(row, unbegun_of)
    lost: list[Lost] = []
    again: list[Again] = []
    for some in chunks(stuck):
        locked = sa.select(*_COLUMNS).where(_c.id.in_([row["id"] for row in some]), here)
        for row in connection.execute(locked.with_for_update(skip_locked=True)).mappings().all():
            # Once more: another scheduler, or a worker, may have been here since.
            verdict = judge(row["task"], _unbegun(row, walk.state))
            if verdict is not None and verdict.state is not None:
                lost.append(_lost(row, verdict.reason or ""))
            elif verdict is not None:
                retries = row["retries"] + (walk.state is State.RETRYING)
                again += filter(None, [_again(row, retries)])
    _end(connection, claimer, walk.state, lost)
    for sent in chunks(again):
        connection.execute(
            runs.update()
            .where(_c.id.in_([held.run.id for held in sent]), in_states(walk.state))
            .values(claimed_by=claimer.id, publish_attempts=_c.publish_attempts + 1)
        )
    return Swept(tuple(lost), tuple(again), place)


def _ahead(claimer: Claimer, walk: Walk) -> sa.ColumnElement[bool]:
    here = unbegun(claimer.namespace, walk.state, walk.before)
    if (after := walk.after) is None:
        return here
    behind = sa.or_(_c.claimed_at > after.claimed_at, _c.id > after.key)
    return sa.and_(here, _c.claimed_at >= after.claimed_at, behind)


def _place(row: Row, unbegun_of: Mapping[str, int]) -> Place | None:
    claimed_at = instant_of(row["claimed_at"])
    return Place(claimed_at, row["id"], unbegun_of) if claimed_at else None


def _unbegun(row: Row, state: State) -> Unbegun:
    claimed_at = instant_of(row["claimed_at"]) or NEVER
    if state is State.RETRYING:
        since = instant_of(row["heartbeat_at"]) or claimed_at
    else:
        # One that its worker has put back was begun after it was sent.
        since = max(instant_of(row[name]) or claimed_at for name in ("sent_at", "heartbeat_at"))
    return Unbegun(
        since=since,
        claimed_at=claimed_at,
        options=_options(row),
        publish_attempts=row["publish_attempts"],
    )


def _options(row: Row) -> dict[str, Any]:
    try:
        found = json.loads(row["options"] or "null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _again(row: Row, retries: int) -> Again | None:
    """The message once more. None: it is none."""
    try:
        run = run_of(row)
    except RoutineError:
        return None
    claimed_at = instant_of(row["claimed_at"]) or run.scheduled_for
    return Again(at_once(run), claimed_at, retries=retries)


def _lost(row: Row, reason: str) -> Lost:
    return Lost(row["id"], row["routine_name"], row["task"], row["worker"], reason)


def _end(connection: Connection, claimer: Claimer, was: State, lost: Sequence[Lost]) -> None:
    values: dict[str, Any] = {"state": State.LOST.value, "finished_at": claimer.now()}
    if was is State.RETRYING:
        # The attempt that has not begun is the next one: no message of the last one begins it.
        values |= {"retries": _c.retries + 1, "attempt_id": None}
    _write(connection, was, lost, values)


def _send_again(connection: Connection, claimer: Claimer, was: State, lost: Sequence[Lost]) -> None:
    values = {
        "state": State.SENT.value,
        "sent_at": claimer.now(),
        "claimed_by": claimer.id,
        "publish_attempts": _c.publish_attempts + 1,
    }
    _write(connection, was, lost, values)


def _write(
    connection: Connection, was: State, lost: Sequence[Lost], values: Mapping[str, Any]
) -> None:
    if not lost:
        return
    mine = sa.and_(_c.id == sa.bindparam("key", type_=_c.id.type), in_states(was))
    statement = runs.update().where(mine).values({**values, "reason": sa.bindparam("why")})
    connection.execute(statement, [{"key": each.run_id, "why": each.reason} for each in lost])
