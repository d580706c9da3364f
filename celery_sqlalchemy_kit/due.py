"""What becomes of a routine at a given instant: pure, values in, values out.

Occurrences are nominal instants. ``occurrence_at`` is the one that is pending: all before it
have been dealt with, it has not. ``next_run_at`` is that instant plus its share of the jitter;
anything else stands for an order by hand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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
        return _by_hand(routine, now)
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
    return occurrence + MOMENT * ((span // MOMENT) * fraction >> 64)


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
    if routine.max_runs is not None:
        most = min(most, max(0, routine.max_runs - routine.total_run_count))
    running = _newest(routine, oldest, until, most)
    missed = _before(routine, oldest, until, running, _reason(routine, late=late))
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
    return f"late: catch_up = {routine.catch_up.value}" if late else "more than the catch-up limit"


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
    routine: Routine, oldest: datetime, until: datetime, running: list[datetime], reason: str
) -> tuple[Missed, ...]:
    """The record of what of a backlog does not run: all of it before the first that does."""
    last = running[0] - MOMENT if running else until
    if last < oldest:
        return ()
    newest = routine.schedule.latest(last, after=oldest, anchor=oldest) or oldest
    count = 1 + routine.schedule.count(after=oldest, until=last, anchor=oldest)
    return (Missed(oldest, newest, count, reason),)


def _by_hand(routine: Routine, now: datetime) -> Decision:
    """Somebody set ``next_run_at``: run once, and leave the routine's own rhythm as it is."""
    ordered = routine.next_run_at or now
    pending = routine.occurrence_at
    if pending is None or pending > now:
        pending = first_after(routine, now, pending or _anchor(routine, now))
    return _decision(routine, (Occurrence(ordered, Cause.MANUAL),), (), pending)


def _plan(routine: Routine, now: datetime, limits: Limits) -> Decision:
    """New, edited or switched on again: the first occurrence since then.

    Counted from the edit and not from *now*, so that an occurrence which falls between the two
    is late, not lost.
    """
    since = max(routine.edited_at or now, routine.last_run_at or _EARLIEST)
    pending = routine.occurrence_at
    anchor = pending or _anchor(routine, since)
    settled, missed = _settle(routine, now, limits)
    after = _pending_after(routine, since, anchor, len(settled))
    return _decision(routine, settled, missed, after)


def _settle(
    routine: Routine, now: datetime, limits: Limits
) -> tuple[tuple[Occurrence, ...], tuple[Missed, ...]]:
    """The occurrence that was pending before the edit, if it had come by then: it runs if it is
    within the grace and the routine was never off, else it is missed. Time off is nobody's."""
    pending, edited = routine.occurrence_at, routine.edited_at or now
    if pending is None or pending > (routine.paused_at or edited):
        return (), ()
    if routine.paused_at is not None:
        return (), (Missed(pending, pending, 1, "paused"),)
    if min(now, limits.busy_since or now) - pending > limits.misfire_grace:
        return (), (Missed(pending, pending, 1, "edited"),)
    return (Occurrence(pending, Cause.SCHEDULE),), ()


def _anchor(routine: Routine, otherwise: datetime) -> datetime:
    """Where the phase of intervals is counted from when no occurrence is pending."""
    return routine.last_run_at or routine.starts_at or otherwise


def _pending_after(
    routine: Routine, after: datetime, anchor: datetime, claimed: int
) -> datetime | None:
    if routine.max_runs is not None and routine.total_run_count + claimed >= routine.max_runs:
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
