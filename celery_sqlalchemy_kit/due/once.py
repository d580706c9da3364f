"""Routines that run once.

One that has not been claimed yet runs however late it is, unless it is not to be caught up:
``once`` at the present, which is past when it is claimed, is how an outbox works. ``ended_at`` of
one that has been, or was missed, is its instant: switching it on again does nothing, and another
instant is another occurrence. No other column tells that: runs by hand move ``last_run_at``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ..routines import CatchUp, Cause, Routine
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
    if decision.over:
        decision = replace(decision, occurrence_at=once.at)
    # Who writes its own instant into ``next_run_at`` as well says the same twice.
    own = (None, once.at, due_at(routine, once.at))
    if routine.next_run_at not in own and is_ordered(routine):
        return decision.with_order(routine, now)
    return decision


def _decide(routine: Routine, at: datetime, now: datetime, limits: Limits) -> Decision:
    if routine.ended_at == at or not in_bounds(routine, at):
        return leaving(routine, (), (), None)
    if due_at(routine, at) > now:
        return leaving(routine, (), (), at)
    late = is_late(routine, at, now, limits)
    if late and routine.catch_up is CatchUp.SKIP:
        missed = Missed(at, at, 1, "late: catch_up = skip")
        return replace(leaving(routine, (), (missed,), None), ended_at=at)
    cause = Cause.CATCH_UP if late else Cause.SCHEDULE
    if routine.one_off:
        cause = Cause.ONCE
    return replace(leaving(routine, (Occurrence(at, cause),), (), None), ended_at=at)
