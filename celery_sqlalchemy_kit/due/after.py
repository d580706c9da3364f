"""Routines that run a delay after their run before has ended.

While a run is out, ``waiting_for`` names it and nothing is planned. Whatever ends it writes
``ended_at``, from which the next occurrence is counted. There is never more than one that is
pending, so that nothing piles up.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ..routines import CatchUp, Cause, Routine
from ..schedules import After
from .decision import (
    EARLIEST,
    Decision,
    Limits,
    Missed,
    Occurrence,
    in_bounds,
    is_late,
    is_ordered,
    leaving,
    runs_left,
)


def decide_after(routine: Routine, after: After, now: datetime, limits: Limits) -> Decision:
    """See `decide`."""
    routine = _begun_by_hand(routine)
    waits = routine.waiting_for is not None
    if routine.next_run_at is not None and (waits or is_ordered(routine)):
        return _planned(routine, after, now).with_order(routine, now)
    pending = routine.occurrence_at
    if routine.next_run_at is None or pending is None:
        return _planned(routine, after, now)
    if runs_left(routine) == 0:
        return leaving(routine, (), (), None)
    late = is_late(routine, pending, now, limits)
    if late and routine.catch_up is CatchUp.SKIP:
        missed = Missed(pending, pending, 1, "late: catch_up = skip")
        following = _in_bounds(routine, after.next_after(now))
        return replace(leaving(routine, (), (missed,), following), ended_at=now)
    cause = Cause.CATCH_UP if late else Cause.SCHEDULE
    run = Occurrence(pending, cause)
    if runs_left(routine) == 1:
        return leaving(routine, (run,), (), None)
    return Decision((run,), (), pending, None, waits=True)


def _begun_by_hand(routine: Routine) -> Routine:
    """The routine; of one that was written with ``next_run_at``, that is its first occurrence.

    As an order besides the first, which is at once, it would make two runs at a time.
    """
    first = routine.next_run_at
    told = (routine.occurrence_at, routine.ended_at, routine.waiting_for)
    if first is None or any(each is not None for each in told) or not in_bounds(routine, first):
        return routine
    return replace(routine, occurrence_at=first, jitter_seconds=0.0)


def _planned(routine: Routine, after: After, now: datetime) -> Decision:
    if routine.waiting_for is not None:
        return Decision((), (), routine.occurrence_at, None, waits=True)
    return leaving(routine, (), (), _in_bounds(routine, _following(routine, after, now)))


def _following(routine: Routine, after: After, now: datetime) -> datetime | None:
    """What comes after the last end; after an edit, or switched on again, not before that."""
    earliest = max(routine.edited_at or now, routine.starts_at or EARLIEST)
    end = routine.ended_at
    following = earliest if end is None else after.next_after(end)
    if following is None:
        return None
    following = max(following, earliest)
    # One that has been claimed: somebody stopped the waiting, and nobody knows when its run ended.
    return now if following <= _claimed(routine) else following


def _claimed(routine: Routine) -> datetime:
    """The last occurrence that has been claimed, if it is known."""
    pending, ran = routine.occurrence_at, routine.last_run_at
    return pending if pending is not None and ran is not None and ran >= pending else EARLIEST


def _in_bounds(routine: Routine, occurrence: datetime | None) -> datetime | None:
    """*occurrence*, if the routine may still run by then."""
    if occurrence is None or runs_left(routine) == 0:
        return None
    ended = routine.ends_at is not None and occurrence > routine.ends_at
    return None if ended else occurrence
