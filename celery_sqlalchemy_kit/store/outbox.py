"""Claimed runs on their way to the broker: confirmed, rescued, given up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import instant_of, raw, read_instant, utcnow
from ..errors import RoutineError
from ..rescue import Verdict
from ..routines import ENDED, State
from ..storage.values import Claimed, Judge, Passed, Rescued, View
from ..tables import routines, runs, schedulers
from .bulk import array, cast
from .candidates import behind, schedulable, to_plan, told_of
from .chunks import chunks
from .claimer import Claimer
from .error_text import cut
from .states import in_states
from .unfinished import may_go
from .unsent import UNSENT, GivenUp, end_unsent, run_of, standing_of, stranded_of

#: How many others are due with the next one, for it to be told.
MANY = 200


def look(connection: Connection, claimer: Claimer, after: Passed | None) -> View:
    """When to wake, and whether there is anything to do: one statement; and, while runs wait for
    others, one more, which PostgreSQL takes longer to plan than that one."""
    resumed = after is not None
    if claimer.clock.now() is None:
        statement = _looking(claimer.namespace, resumed=resumed)
    else:
        statement = _looking_at(claimer.now(), claimer.namespace, resumed=resumed)
    told = {} if after is None else told_of(after.position) | {"claimed_at": after.claimed_at}
    now, is_due, planning, next_run_at, further, oldest_claim_at, waits = connection.execute(
        statement, told
    ).one()
    to_release = waits is not None and connection.execute(_releasing(claimer.namespace)).scalar()
    return View(
        read_instant(now),
        is_due is not None or planning is not None,
        instant_of(next_run_at),
        instant_of(oldest_claim_at),
        waiting=waits is not None,
        to_release=bool(to_release),
        many_next=next_run_at is not None and further == next_run_at,
    )


def _looking_at(present: sa.ColumnElement[datetime], namespace: str, *, resumed: bool) -> Any:
    """The statement; if it is *resumed* behind what is done with, with parameters for that."""
    mine = schedulable(namespace)
    # The order says which index to use, whatever is known of its values.
    one = sa.select(sa.literal(1)).order_by(routines.c.next_run_at, routines.c.id).limit(1)
    due = one.where(mine, routines.c.next_run_at <= present)
    plan = one.where(mine, to_plan())
    # No min(), for which MySQL and MariaDB would read all that are to come.
    following = sa.select(routines.c.next_run_at).where(mine, routines.c.next_run_at > present)
    following = following.order_by(routines.c.next_run_at)
    claimed = sa.and_(runs.c.state == State.CLAIMED.value, runs.c.namespace == namespace)
    oldest = sa.select(sa.func.min(runs.c.claimed_at)).where(claimed)
    if resumed:
        due = due.where(behind())
        oldest = oldest.where(
            runs.c.claimed_at >= sa.bindparam("claimed_at", type_=runs.c.claimed_at.type)
        )
    waits = sa.select(sa.literal(1)).where(_waits(namespace)).limit(1)
    return sa.select(
        raw(present),
        due.scalar_subquery(),
        plan.scalar_subquery(),
        raw(following.limit(1).scalar_subquery()),
        raw(following.offset(MANY).limit(1).scalar_subquery()),
        raw(oldest.scalar_subquery()),
        waits.scalar_subquery(),
    )


def _waits(namespace: str) -> sa.ColumnElement[bool]:
    return sa.and_(runs.c.state == State.WAITING.value, runs.c.namespace == namespace)


@lru_cache(maxsize=16)
def _releasing(namespace: str) -> Any:
    """Whether a run that waits need no longer."""
    return sa.select(sa.func.max(sa.case((may_go(), 1), else_=0))).where(_waits(namespace))


@lru_cache(maxsize=16)
def _looking(namespace: str, *, resumed: bool) -> Any:
    """The same by the database's clock, which need not be built for every look."""
    return _looking_at(utcnow(), namespace, resumed=resumed)


def stopped(connection: Connection, routine_ids: Iterable[UUID], at: datetime) -> frozenset[UUID]:
    """Which of these routines are off, but for such as were over at that instant, or there no more;
    locks nothing."""
    asked = frozenset(routine_ids)
    if connection.dialect.name == "postgresql":
        told = {"keys": array(list(asked)), "at": at}
        return frozenset(connection.execute(_STOPPED, told).scalars())
    there: set[UUID] = set()
    for some in chunks(asked):
        runs_on = sa.select(routines.c.id).where(routines.c.id.in_(some), _RUNS_ON)
        there.update(connection.execute(runs_on, {"at": at}).scalars())
    return asked - there


_NEXT = routines.c.occurrence_at
_OVER = sa.or_(_NEXT.is_(None), sa.bindparam("at", type_=_NEXT.type) >= _NEXT)
_RUNS_ON = sa.or_(routines.c.active, sa.and_(_OVER, routines.c.waiting_for.is_(None)))
#: PostgreSQL's, for which a thousand parameters take longer than it does to find the rows.
_KEYS = (
    sa.text(f"SELECT key FROM unnest({cast('keys', 'uuid[]')}) AS key")
    .columns(key=routines.c.id.type)
    .subquery()
)
_STOPPED = sa.select(_KEYS.c.key).where(
    ~sa.select(sa.literal(1)).where(routines.c.id == _KEYS.c.key, _RUNS_ON).exists()
)


def note_fault(connection: Connection, run_id: UUID, fault: str) -> None:
    """A message that cannot be made or sent, for its own sake: say so in its run."""
    unsent = sa.and_(runs.c.id == run_id, runs.c.state == State.CLAIMED.value)
    connection.execute(runs.update().where(unsent).values(error=cut(fault)))


def beat(connection: Connection, claimer: Claimer, lateness: timedelta) -> bool:
    """A scheduler is alive; false: it is not known."""
    return connection.execute(*_beat(claimer, lateness, looks=False)).rowcount > 0


def beat_and_look(
    connection: Connection, claimer: Claimer, lateness: timedelta
) -> tuple[bool, bool]:
    """`beat`, and whether there may be anything to `let_go`; one statement of PostgreSQL."""
    stuck = connection.execute(*_beat(claimer, lateness, looks=True)).scalar()
    return stuck is not None, stuck is not False


def _beat(claimer: Claimer, lateness: timedelta, *, looks: bool) -> tuple[Any, dict[str, Any]]:
    now = claimer.clock.now()
    told = {"key": claimer.id, "lateness": lateness.total_seconds()}
    told |= {} if now is None else {"at": now}
    return _beating(by_clock=now is not None, looks=looks), told


@lru_cache(maxsize=4)
def _beating(*, by_clock: bool, looks: bool) -> Any:
    at = sa.bindparam("at", type_=schedulers.c.seen_at.type) if by_clock else utcnow()
    beating = schedulers.update().where(
        schedulers.c.id == sa.bindparam("key", type_=schedulers.c.id.type)
    )
    beating = beating.values(seen_at=at, lateness_seconds=sa.bindparam("lateness"))
    return beating.returning(_stuck(sa.literal(1)).exists()) if looks else beating


def _stuck(*columns: Any) -> Any:
    """Routines that wait for a run which has ended, or is there no more."""
    awaited = routines.c.waiting_for
    return (
        sa.select(*columns)
        .select_from(routines.outerjoin(runs, runs.c.id == awaited))
        .where(awaited.is_not(None), sa.or_(runs.c.id.is_(None), in_states(*ENDED)))
    )


def let_go(connection: Connection, claimer: Claimer) -> None:
    """Let go routines that wait for a run which has ended, or is there no more.

    Read as text, as people may have written anything. A row that somebody has locked is left to
    the next time: it must not hold up the scheduler.
    """
    c = routines.c
    pair = (raw(c.id), raw(c.waiting_for))
    stuck = _stuck(*pair)
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


def rescue(
    connection: Connection, claimer: Claimer, judge: Judge, *, age: timedelta, limit: int
) -> Rescued:
    """Take over runs that were claimed at least *age* ago and are unpublished; oldest first."""
    present = read_instant(connection.execute(sa.select(raw(claimer.now()))).scalar_one())
    c = runs.c
    locked = connection.execute(
        sa.select(*UNSENT)
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
    standing = standing_of(connection, {row["routine_id"] for row in rows})
    again: list[Claimed] = []
    given_up: list[GivenUp] = []
    for row in rows:
        try:
            run = run_of(row)
        except RoutineError as fault:
            given_up.append((row, Verdict(State.MISSED, str(fault))))
            continue
        verdict = judge(stranded_of(row, run, standing.get(row["routine_id"])), present)
        if verdict.state is None:
            again.append(Claimed(run, present))
        else:
            given_up.append((row, verdict))
    ended = end_unsent(connection, given_up, standing, present)
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
