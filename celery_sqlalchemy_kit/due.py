"""What becomes of a routine at a given instant: pure, values in, values out.

Occurrences are nominal instants. ``occurrence_at`` is the one that is pending: all before it
have been dealt with, it has not. ``next_run_at`` is that instant plus its share of the jitter;
anything else stands for an order by hand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .clock import UTC
from .routines import CatchUp, Cause, Routine, microseconds

MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Limits:
    """What decides about lateness.

    ``busy_since`` is when the scheduler began to work through what is due without a pause:
    lateness that has come about since then is its own and no miss.
    """

    misfire_grace: timedelta = timedelta(seconds=60)
    catch_up_limit: int = 100
    busy_since: datetime | None = None


@dataclass(frozen=True)
class Occurrence:
    """One instant at which the routine is to run now, and why."""

    scheduled_for: datetime
    cause: Cause


@dataclass(frozen=True)
class Missed:
    """Occurrences that do not run: the oldest, the newest, how many, and why."""

    scheduled_for: datetime
    until: datetime
    count: int
    reason: str


@dataclass(frozen=True)
class Decision:
    """What runs now, oldest first, what is missed, and what is pending afterwards.

    ``over``: no occurrence can ever follow; the routine turns inactive.
    """

    occurrences: tuple[Occurrence, ...]
    missed: tuple[Missed, ...]
    occurrence_at: datetime | None
    next_run_at: datetime | None
    over: bool = False


def decide(routine: Routine, now: datetime, limits: Limits) -> Decision:
    """What becomes of *routine* at *now*: it is due, ordered by hand, or has to be planned."""
    if routine.next_run_at is None:
        return _plan(routine, now, limits)
    pending = routine.occurrence_at
    if pending is None or routine.next_run_at != due_at(routine, pending):
        return _by_hand(routine, now, limits)
    return _backlog(routine, pending, now, limits)


def due_at(routine: Routine, occurrence: datetime) -> datetime:
    """When an occurrence is due: its instant plus its share of the jitter.

    The share is the same whoever works it out, and never reaches the next occurrence.
    """
    if not routine.jitter_seconds:
        return occurrence
    span = timedelta(seconds=routine.jitter_seconds)
    following = routine.schedule.next_after(occurrence, anchor=occurrence)
    if following is not None:
        span = min(span, following - occurrence)
    seed = f"{routine.id}/{microseconds(occurrence)}".encode()
    fraction = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")
    try:
        return occurrence + MOMENT * ((span // MOMENT) * fraction >> 64)
    except OverflowError:  # past the year 9999
        return occurrence


def first_after(routine: Routine, after: datetime, anchor: datetime | None) -> datetime | None:
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
    until = _newest_due(routine, oldest, now)
    late = min(now, limits.busy_since or now) - due_at(routine, oldest) > limits.misfire_grace
    cause = Cause.CATCH_UP if late else Cause.SCHEDULE
    most = _most(routine, limits) if late else limits.catch_up_limit
    if _runs_left(routine) == 0:
        return _decision(routine, (), (), None)
    chosen = _newest(routine, oldest, until, most)
    missed = _before(routine, oldest, until, chosen, _reason(routine, late=late))
    # After the last run that is left to it the routine is over: what would follow never was.
    running = chosen[: _runs_left(routine)]
    after = _pending_after(routine, until, oldest, len(running))
    occurrences = tuple(Occurrence(instant, cause) for instant in running)
    return _decision(routine, occurrences, missed, after)


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
    ordered = (Occurrence(routine.next_run_at or now, Cause.MANUAL),)
    pending, off = routine.occurrence_at, routine.paused_at is not None
    if pending is None or (pending > now and not off):
        since = max(now, routine.last_run_at or _EARLIEST)
        after = _pending_after(routine, since, pending or _anchor(routine, since), 0)
        return _decision(routine, ordered, (), after)
    if not off and _stands(routine, pending):
        return _decision(routine, ordered, (), pending)
    planned = _plan(routine, now, limits)
    return replace(planned, occurrences=planned.occurrences + ordered)


def _plan(routine: Routine, now: datetime, limits: Limits) -> Decision:
    """New, edited or switched on again: the first occurrence since then.

    Counted from the edit and not from *now*, so that an occurrence which falls between the two
    is late, not lost.
    """
    edited = routine.edited_at or now
    since = max(edited, routine.last_run_at or _EARLIEST)
    pending = routine.occurrence_at
    if pending is not None and pending <= since and _stays(routine, pending, edited, now):
        return _decision(routine, (), (), pending)
    anchor = pending or _anchor(routine, since)
    settled, missed = _settle(routine, now, limits)
    after = _pending_after(routine, since, anchor, len(settled))
    return _decision(routine, settled, missed, after)


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
    late = min(now, limits.busy_since or now) - due_at(routine, pending)
    if late > limits.misfire_grace or not _in_bounds(routine, pending):
        return (), _record(routine, pending, until, "edited")
    following = routine.schedule.next_after(pending, anchor=pending)
    others = () if following is None else _record(routine, following, until, "edited")
    return (Occurrence(pending, Cause.SCHEDULE),), others


def _stands(routine: Routine, pending: datetime) -> bool:
    """Whether *pending* is an occurrence of the routine as it is now, after an edit perhaps."""
    before = pending - MOMENT
    return _in_bounds(routine, pending) and pending == routine.schedule.next_after(
        before, anchor=pending
    )


def _in_bounds(routine: Routine, occurrence: datetime) -> bool:
    """Whether the routine's bounds let an occurrence run."""
    return (
        (routine.starts_at is None or occurrence >= routine.starts_at)
        and (routine.ends_at is None or occurrence <= routine.ends_at)
        and _runs_left(routine) != 0
    )


def _runs_left(routine: Routine) -> int | None:
    """How many runs ``max_runs`` leaves; None: no end of them."""
    if routine.max_runs is None:
        return None
    return max(0, routine.max_runs - routine.total_run_count)


def _anchor(routine: Routine, otherwise: datetime) -> datetime:
    """Where the phase of intervals is counted from when no occurrence is pending."""
    return routine.last_run_at or routine.starts_at or otherwise


def _pending_after(
    routine: Routine, after: datetime, anchor: datetime, claimed: int
) -> datetime | None:
    left = _runs_left(routine)
    if left is not None and claimed >= left:
        return None
    return first_after(routine, after, anchor)


def _decision(
    routine: Routine,
    occurrences: tuple[Occurrence, ...],
    missed: tuple[Missed, ...],
    pending: datetime | None,
) -> Decision:
    if pending is None:
        return Decision(occurrences, missed, None, None, over=True)
    return Decision(occurrences, missed, pending, due_at(routine, pending))


_EARLIEST = datetime.min.replace(tzinfo=UTC)
