"""Runs that people order: now, or for occurrences that have been.

They are written as runs that somebody has claimed and not published, so that any scheduler takes
them over, at once or at the time that they are spread over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..details import RoutineDetails
from ..errors import ConflictError, RoutineError
from ..routines import Cause, Overlap, State
from ..schedules import After, Once
from ..steps import Unfinished
from ..tables import routines, runs
from . import changes, fields, unfinished
from .bulk import insert_all
from .chunks import chunks
from .desk import Desk, may_be_stale, wake
from .routine_list import find
from .run_list import runs_of

#: Runs of one backfill, unless more are asked for.
MOST = 1000
#: States of a run that has done its work, or is going to.
_DONE = (State.SUCCEEDED, State.RUNNING, State.RETRYING, State.SENT, State.CLAIMED, State.WAITING)
_MOMENT = timedelta(microseconds=1)
_COLUMNS = (
    *("id", "routine_id", "routine_name", "namespace", "task", "args", "kwargs", "options"),
    *("scheduled_for", "cause", "state", "claimed_at", "publish_attempts"),
)


def run_now(
    connection: Connection,
    desk: Desk,
    key: str | UUID,
    given: Mapping[str, Any] | None = None,
    *,
    note: str | None = None,
) -> UUID:
    """Run a routine now, once, whether or not it is active; returns the run's id.

    *given*: ``args``, ``kwargs`` or ``options`` in place of the routine's.

    Raises:
        NotFoundError: there is no such routine.
        ConflictError: it does not overlap, a run is unfinished, and this one would be skipped.
        RoutineError, ScheduleError: what is given, or the routine itself, cannot be sent.
    """
    routine = _sendable(connection, desk, key)
    state = _state_of_order(connection, routine)
    present = desk.present(connection)
    ordered = _row(desk, routine, given, Cause.MANUAL, state)
    ordered |= {"scheduled_for": present, "claimed_at": present - desk.rescue_after}
    insert_all(connection, runs, _COLUMNS, [ordered])
    mine = routines.c.id == routine.id
    # What is due in a moment may have been claimed, as if it had come.
    last = routines.c.last_run_at
    later = sa.case((last > present, last), else_=sa.literal(present, last.type))
    connection.execute(routines.update().where(mine).values(last_run_at=later))
    wake(connection)
    changes.record(connection, desk, "run", [(routine.id, routine.name, {})], note)
    run: UUID = ordered["id"]
    return run


@dataclass(frozen=True)
class Span:
    """Occurrences from *since* to *until*, both included, at most *limit*.

    Those of which a run has succeeded or is under way are left out, unless *again*. *per_second*:
    so many begin a second; runs of a routine that does not overlap follow one another in any case.

    Raises:
        RoutineError: a value is not allowed.
    """

    since: datetime
    until: datetime
    limit: int = MOST
    per_second: float | None = None
    again: bool = False

    def __post_init__(self) -> None:
        if self.per_second is not None and not 0 < self.per_second <= 1_000_000:
            raise RoutineError(
                f"per_second = {self.per_second!r}: allowed is more than 0, up to 1000000"
            )
        for name in ("since", "until"):
            object.__setattr__(self, name, fields.instant(name, getattr(self, name)))


@dataclass(frozen=True)
class Backfill:
    """*occurrences* that run, or would; *left_out*: how many have run, or are about to."""

    occurrences: tuple[datetime, ...]
    left_out: int = 0
    run_ids: tuple[UUID, ...] = ()


def backfill(
    connection: Connection,
    desk: Desk,
    key: str | UUID,
    span: Span,
    *,
    dry_run: bool = False,
    note: str | None = None,
) -> Backfill:
    """Run a routine for the occurrences of *span*, oldest first; *dry_run*: change nothing.

    Raises:
        NotFoundError: there is no such routine.
        RoutineError: there are more occurrences than the limit, its schedule has none that are
            known beforehand, or the routine cannot be sent.
    """
    routine = _sendable(connection, desk, key)
    occurrences = _occurrences(routine, span)
    done = _done(connection, routine, span) if occurrences and not span.again else set()
    chosen = tuple(each for each in occurrences if each not in done)
    left_out = len(occurrences) - len(chosen)
    if dry_run or not chosen:
        return Backfill(chosen, left_out)
    rows = _spread(connection, desk, routine, chosen, span.per_second)
    for page in chunks(rows):
        insert_all(connection, runs, _COLUMNS, page)
    wake(connection)
    told = {"occurrences": (None, len(chosen)), "from": (None, chosen[0]), "to": (None, chosen[-1])}
    changes.record(connection, desk, "backfill", [(routine.id, routine.name, told)], note)
    return Backfill(chosen, left_out, tuple(row["id"] for row in rows))


def _done(connection: Connection, routine: RoutineDetails, span: Span) -> set[datetime]:
    bounds = {"since": span.since, "until": span.until}
    there = runs_of(connection, routine.id, states=_DONE, limit=None, **bounds)
    return {run.scheduled_for for run in there}


def _spread(
    connection: Connection,
    desk: Desk,
    routine: RoutineDetails,
    occurrences: Sequence[datetime],
    per_second: float | None,
) -> list[dict[str, Any]]:
    """The runs, each as if claimed so long ago that it is taken over when it is to begin."""
    waits = routine.overlap != Overlap.ALLOW.value
    row = _row(desk, routine, None, Cause.BACKFILL, State.WAITING if waits else State.CLAIMED)
    first = desk.present(connection) - desk.rescue_after
    step = timedelta(seconds=1 / per_second) if per_second else _MOMENT
    return [
        {**row, "id": uuid4(), "scheduled_for": occurrence, "claimed_at": first + n * step}
        for n, occurrence in enumerate(occurrences)
    ]


def _sendable(connection: Connection, desk: Desk, key: str | UUID) -> RoutineDetails:
    routine = find(connection, desk, key, lock=True)
    if routine.routine is None:
        raise RoutineError(f"{routine.name!r} cannot be run: {routine.error}")
    return routine


def _state_of_order(connection: Connection, routine: RoutineDetails) -> State:
    if routine.overlap == Overlap.ALLOW.value:
        return State.CLAIMED
    standing = unfinished.read(connection, [routine.id], lock=may_be_stale(connection))
    met = next(iter(standing.values()), Unfinished())
    if met.last is None:
        return State.CLAIMED
    if routine.overlap == Overlap.QUEUE.value and met.waiting is None:
        return State.WAITING
    why = "one waits already" if met.waiting else "the run before it is unfinished"
    raise ConflictError(f"{routine.name!r} is not run: overlap = {routine.overlap}, and {why}")


def _occurrences(routine: RoutineDetails, span: Span) -> list[datetime]:
    known = routine.routine
    if known is None or isinstance(known.schedule, (After, Once)):
        raise RoutineError(
            f"{routine.name!r} runs {routine.words}: a backfill needs a schedule that recurs by "
            "the clock"
        )
    found: list[datetime] = []
    anchor = known.occurrence_at or routine.created_at
    at = known.schedule.next_after(span.since - _MOMENT, anchor=anchor)
    while at is not None and at <= span.until:
        if len(found) >= span.limit:
            raise RoutineError(
                f"{routine.name!r} has more than {span.limit} occurrences from "
                f"{span.since.isoformat()} to {span.until.isoformat()}: a higher limit allows them"
            )
        found.append(at)
        at = known.schedule.next_after(at, anchor=anchor)
    return found


def _row(
    desk: Desk,
    routine: RoutineDetails,
    given: Mapping[str, Any] | None,
    cause: Cause,
    state: State,
) -> dict[str, Any]:
    said = {name: getattr(routine, name) for name in ("args", "kwargs", "options")}
    columns = fields.columns_of(desk, {**said, **(given or {})})
    fields.check(desk, columns, routine)
    return {
        "id": uuid4(),
        "routine_id": routine.id,
        "routine_name": routine.name,
        "namespace": desk.namespace,
        "task": routine.task,
        **columns,
        "cause": cause.value,
        "state": state.value,
        "publish_attempts": 0,
    }
