"""Routines that run once.

One that has not been claimed yet runs however late it is, unless it is not to be caught up:
``once`` at the present, which is past when it is claimed, is how an outbox works. ``ended_at`` of
one that has been, or was missed, is its instant: switching it on again does nothing, and another
instant is another occurrence. No other column tells that: runs by hand move ``last_run_at``.
"""

from __future__ import annotations

from datetime import datetime

from ..routines import CatchUp, Cause, Routine, made
from ..schedules import Once
from .decision import (
    Decision,
    Limits,
    Missed,
    Occurrence,
    due_at,
    in_bounds,
    is_late,
    is_ordered,
    leaving,
)


def decide_once(routine: Routine, once: Once, now: datetime, limits: Limits) -> Decision:
    """See `decide`."""
    decision = _decide(routine, once.at, now, limits)
    # Who writes its own instant into ``next_run_at`` as well says the same twice.
    if routine.next_run_at is None or routine.next_run_at == once.at:
        return decision
    if routine.next_run_at != due_at(routine, once.at) and is_ordered(routine):
        return decision.with_order(routine, now)
    return decision


def _decide(routine: Routine, at: datetime, now: datetime, limits: Limits) -> Decision:
    if routine.ended_at == at or not in_bounds(routine, at):
        return _over(at)
    if due_at(routine, at) > now:
        return leaving(routine, (), (), at)
    late = is_late(routine, at, now, limits)
    if late and routine.catch_up is CatchUp.SKIP:
        return _over(at, missed=(Missed(at, at, 1, "late: catch_up = skip"),), ended_at=at)
    cause = Cause.CATCH_UP if late else Cause.SCHEDULE
    if routine.one_off:
        cause = Cause.ONCE
    return _over(at, (Occurrence(at, cause),), ended_at=at)


def _over(
    at: datetime,
    occurrences: tuple[Occurrence, ...] = (),
    missed: tuple[Missed, ...] = (),
    ended_at: datetime | None = None,
) -> Decision:
    return made(
        Decision,
        occurrences=occurrences,
        missed=missed,
        occurrence_at=at,
        next_run_at=None,
        over=True,
        waits=False,
        ended_at=ended_at,
    )
