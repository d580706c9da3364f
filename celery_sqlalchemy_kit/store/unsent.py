"""Runs that are claimed, or wait, and are not published: as values, and given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import instant_of, raw, read_instant
from ..errors import RoutineError
from ..rescue import Standing, Stranded, Verdict, stranded
from ..routines import COUNTED, Cause, Run, State
from ..tables import routines, runs
from .chunks import chunks
from .rows import json_column

Row = Mapping[str, Any]
#: The row of a run, and why it ends.
GivenUp = tuple[Row, Verdict]

#: What is read of such a run.
UNSENT = (
    runs.c.routine_name,
    runs.c.task,
    runs.c.cause,
    runs.c.publish_attempts,
    *(
        raw(runs.c[name]).label(name)
        for name in (
            "id",
            "routine_id",
            "args",
            "kwargs",
            "options",
            "scheduled_for",
            "claimed_at",
            "error",
        )
    ),
)


def standing_of(connection: Connection, keys: Iterable[str]) -> dict[str, Standing]:
    """How the routines of stranded runs stand now, by id."""
    c = routines.c
    words = (c.active, c.catch_up, c.overlap)
    columns = (raw(c.id), *words, raw(c.occurrence_at), raw(c.waiting_for))
    standing: dict[str, Standing] = {}
    for wanted in chunks(keys):
        for row in connection.execute(sa.select(*columns).where(c.id.in_(wanted))):
            key, active, catch_up, policy, pending, awaited = row
            pending = instant_of(pending)
            standing[key] = Standing(bool(active), catch_up, policy, pending, awaited)
    return standing


def run_of(row: Row) -> Run:
    """The run that a row of `UNSENT` is.

    Raises:
        RoutineError: it is none, as somebody has written into the ledger.
    """
    try:
        return Run(
            id=UUID(row["id"]),
            routine_id=UUID(row["routine_id"]),
            routine_name=row["routine_name"],
            task=row["task"],
            scheduled_for=read_instant(row["scheduled_for"]),
            cause=Cause(row["cause"]),
            args=tuple(json_column(row, "args", list)),
            kwargs=json_column(row, "kwargs", dict),
            options=json_column(row, "options", dict),
        )
    except (TypeError, ValueError) as fault:
        raise RoutineError(f"unreadable: {fault}") from None


def stranded_of(row: Row, run: Run, routine: Standing | None) -> Stranded:
    """What it is judged by; *routine*: how it stands, as `standing_of` has it."""
    return stranded(
        run,
        routine,
        claimed_at=instant_of(row["claimed_at"]),
        publish_attempts=row["publish_attempts"],
        fault=row["error"],
    )


def end_unsent(
    connection: Connection,
    given_up: Sequence[GivenUp],
    standing: Mapping[str, Standing],
    now: datetime,
    was: State = State.CLAIMED,
) -> list[tuple[str, State, str]]:
    """End runs unpublished, which have been *was*; those that counted count no longer.

    One whose routine somebody has locked is left for the next time.
    """
    counted = [row for row, _ in given_up if row["cause"] in COUNTED]
    there = [row["routine_id"] for row in counted if row["routine_id"] in standing]
    free = uncount(connection, there)
    ended = []
    for row, verdict in given_up:
        key = row["routine_id"]
        if row["cause"] in COUNTED and key in standing and key not in free:
            continue
        state = verdict.state or State.MISSED
        values = {"state": state.value, "reason": verdict.reason, "finished_at": now}
        unsent = sa.and_(runs.c.id == row["id"], runs.c.state == was.value)
        connection.execute(runs.update().where(unsent).values(values))
        ended.append((_title(row), state, verdict.reason or ""))
    return ended


def _title(row: Row) -> str:
    try:
        key: object = UUID(row["id"])
    except ValueError:
        key = row["id"]
    return f"{row['routine_name']}[{key}]"


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
