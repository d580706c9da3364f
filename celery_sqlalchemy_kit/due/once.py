"""Routines that run once.

One that has not been claimed yet runs however late it is, unless it is not to be caught up:
``once`` at the present, which is past when it is claimed, is how an outbox works. ``occurrence_at``
of one that has been keeps its instant, so that switching it on again does nothing, and another
instant is another occurrence.
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
    if routine.next_run_at is not None and is_ordered(routine):
        return decision.with_order(routine, now)
    return decision


def _decide(routine: Routine, at: datetime, now: datetime, limits: Limits) -> Decision:
    if _is_spent(routine, at) or not in_bounds(routine, at):
        return leaving(routine, (), (), None)
    if due_at(routine, at) > now:
        return leaving(routine, (), (), at)
    late = is_late(routine, at, now, limits)
    if late and routine.catch_up is CatchUp.SKIP:
        return leaving(routine, (), (Missed(at, at, 1, "late: catch_up = skip"),), None)
    cause = Cause.CATCH_UP if late else Cause.SCHEDULE
    return leaving(routine, (Occurrence(at, cause),), (), None)


def _is_spent(routine: Routine, at: datetime) -> bool:
    ran = routine.last_run_at
    return routine.occurrence_at == at and ran is not None and ran >= at
