"""Routines whose occurrences are known beforehand: intervals, and what follows the calendar."""

from __future__ import annotations

from datetime import datetime

from ..routines import CatchUp, Cause, Routine
from .decision import (
    EARLIEST,
    MOMENT,
    Decision,
    Limits,
    Missed,
    Occurrence,
    due_at,
    in_bounds,
    is_late,
    is_ordered,
    leaving,
    runs_left,
)


def decide_series(routine: Routine, now: datetime, limits: Limits) -> Decision:
    """See `decide`."""
    if routine.next_run_at is None:
        return _plan(routine, now, limits)
    if routine.occurrence_at is None or is_ordered(routine):
        return _by_hand(routine, now, limits)
    return _backlog(routine, routine.occurrence_at, now, limits)


def _first_after(routine: Routine, after: datetime, anchor: datetime | None) -> datetime | None:
    """The routine's first occurrence after an instant, within its bounds; None: never."""
    if routine.starts_at is not None and after < routine.starts_at:
        after = routine.starts_at - MOMENT
        anchor = anchor or routine.starts_at
    found = routine.schedule.next_after(after, anchor=anchor or after)
    if found is None or (routine.ends_at is not None and found > routine.ends_at):
        return None
    return found


def _backlog(routine: Routine, oldest: datetime, now: datetime, limits: Limits) -> Decision:
    """The pending occurrence is due, and with it perhaps others that came since."""
    late = is_late(routine, oldest, now, limits)
    following = routine.schedule.next_after(oldest, anchor=oldest)
    alone = (following is None or following > now) and in_bounds(routine, oldest)
    if alone and not late:
        return _alone(routine, oldest, following)
    until = _newest_due(routine, oldest, now)
    cause = Cause.CATCH_UP if late else Cause.SCHEDULE
    most = _most(routine, limits) if late else limits.catch_up_limit
    if runs_left(routine) == 0:
        return leaving(routine, (), (), None)
    chosen = _newest(routine, oldest, until, most)
    missed = _before(routine, oldest, until, chosen, _reason(routine, late=late))
    # After the last run that is left to it the routine is over: what would follow never was.
    running = chosen[: runs_left(routine)]
    after = _pending_after(routine, until, oldest, len(running))
    occurrences = tuple(Occurrence(instant, cause) for instant in running)
    return leaving(routine, occurrences, missed, after)


def _alone(routine: Routine, oldest: datetime, following: datetime | None) -> Decision:
    """What `_backlog` comes to where nothing else has come since, as nearly always."""
    is_last = runs_left(routine) == 1 or (
        following is not None and routine.ends_at is not None and following > routine.ends_at
    )
    occurrence = Occurrence(oldest, Cause.SCHEDULE)
    return leaving(routine, (occurrence,), (), None if is_last else following)


def _newest_due(routine: Routine, oldest: datetime, now: datetime) -> datetime:
    """The newest instant up to which occurrences are due; jitter may put off the last one."""
    last = now if routine.ends_at is None else min(now, routine.ends_at)
    newest = routine.schedule.latest(last, after=oldest, anchor=oldest)
    if newest is None:
        return oldest
    if due_at(routine, newest) <= now:
        return newest
    return routine.schedule.latest(newest - MOMENT, after=oldest, anchor=oldest) or oldest


def _most(routine: Routine, limits: Limits) -> int:
    """How many occurrences of a late backlog run at most."""
    if routine.catch_up is CatchUp.LATEST:
        return 1
    return limits.catch_up_limit if routine.catch_up is CatchUp.ALL else 0


def _reason(routine: Routine, *, late: bool) -> str:
    if late and routine.catch_up is not CatchUp.ALL:
        return f"late: catch_up = {routine.catch_up.value}"
    return "more than the catch-up limit"


def _newest(routine: Routine, oldest: datetime, until: datetime, most: int) -> list[datetime]:
    """The newest occurrences from *oldest* to *until*, at most *most*, oldest first."""
    found: list[datetime] = []
    instant: datetime | None = until
    while instant is not None and len(found) < most:
        found.append(instant)
        if instant <= oldest:
            break
        before = routine.schedule.latest(instant - MOMENT, after=oldest, anchor=oldest)
        instant = before or oldest
    return found[::-1]


def _before(
    routine: Routine, oldest: datetime, until: datetime, chosen: list[datetime], reason: str
) -> tuple[Missed, ...]:
    """The record of what of a backlog does not run: all of it before the first that does."""
    return _record(routine, oldest, chosen[0] - MOMENT if chosen else until, reason)


def _record(routine: Routine, oldest: datetime, last: datetime, reason: str) -> tuple[Missed, ...]:
    """The record of *oldest* and all that came after it, at or before *last*."""
    if last < oldest:
        return ()
    newest = routine.schedule.latest(last, after=oldest, anchor=oldest) or oldest
    count = 1 + routine.schedule.count(after=oldest, until=last, anchor=oldest)
    return (Missed(oldest, newest, count, reason),)


def _by_hand(routine: Routine, now: datetime, limits: Limits) -> Decision:
    """Somebody set ``next_run_at``: run once, and leave the routine's own rhythm as it is.

    If it was off or edited at the same time, that is settled with it.
    """
    pending, off = routine.occurrence_at, routine.paused_at is not None
    if pending is None or (pending > now and not off):
        since = max(now, routine.last_run_at or EARLIEST)
        after = _pending_after(routine, since, pending or _anchor(routine, since), 0)
        decision = leaving(routine, (), (), after)
    elif not off and _stands(routine, pending):
        decision = leaving(routine, (), (), pending)
    else:
        decision = _plan(routine, now, limits)
    return decision.with_order(routine, now)


def _plan(routine: Routine, now: datetime, limits: Limits) -> Decision:
    """New, edited or switched on again: the first occurrence since then.

    Counted from the edit and not from *now*, so that an occurrence which falls between the two
    is late, not lost.
    """
    edited = routine.edited_at or now
    since = max(edited, routine.last_run_at or EARLIEST)
    pending = routine.occurrence_at
    if pending is not None and pending <= since and _stays(routine, pending, edited, now):
        return leaving(routine, (), (), pending)
    anchor = pending or _anchor(routine, since)
    settled, missed = _settle(routine, now, limits)
    after = _pending_after(routine, since, anchor, len(settled))
    return leaving(routine, settled, missed, after)


def _stays(routine: Routine, pending: datetime, edited: datetime, now: datetime) -> bool:
    """Whether the edit leaves the pending occurrence what it is: to come, or put off by jitter."""
    to_come = pending > edited or due_at(routine, pending) > now
    return to_come and routine.paused_at is None and _stands(routine, pending)


def _settle(
    routine: Routine, now: datetime, limits: Limits
) -> tuple[tuple[Occurrence, ...], tuple[Missed, ...]]:
    """The occurrence that was pending before the edit, if it had come by then: it runs if it is
    within the grace, within the bounds and the routine was never off, else it is missed. Time
    off is nobody's.

    Others that had come as well are missed; they are counted by the schedule as it stands now,
    as the one before the edit is not known any more.
    """
    pending, until = routine.occurrence_at, routine.paused_at or routine.edited_at or now
    if pending is None or pending > until:
        return (), ()
    if routine.paused_at is not None:
        return (), _record(routine, pending, until, "paused")
    if is_late(routine, pending, now, limits) or not in_bounds(routine, pending):
        return (), _record(routine, pending, until, "edited")
    following = routine.schedule.next_after(pending, anchor=pending)
    others = () if following is None else _record(routine, following, until, "edited")
    return (Occurrence(pending, Cause.SCHEDULE),), others


def _stands(routine: Routine, pending: datetime) -> bool:
    """Whether *pending* is an occurrence of the routine as it is now, after an edit perhaps."""
    before = pending - MOMENT
    return in_bounds(routine, pending) and pending == routine.schedule.next_after(
        before, anchor=pending
    )


def _anchor(routine: Routine, otherwise: datetime) -> datetime:
    """Where the phase of intervals is counted from when no occurrence is pending."""
    return routine.last_run_at or routine.starts_at or otherwise


def _pending_after(
    routine: Routine, after: datetime, anchor: datetime, claimed: int
) -> datetime | None:
    left = runs_left(routine)
    if left is not None and claimed >= left:
        return None
    return _first_after(routine, after, anchor)
