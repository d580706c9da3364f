"""What is decided, about what, and the bounds that hold for every kind of schedule."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..clock import UTC
from ..routines import Cause, Routine, made, microseconds

MOMENT = timedelta(microseconds=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)


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

    ``over``: no occurrence can ever follow; the routine turns inactive. ``waits``: what follows is
    planned once a run has ended: the scheduled one among the occurrences, else the one that was
    waited for already. ``ended_at``: what counts as the end of the run before, if it is another
    than before; of a routine that runs once, its instant, once that has been.
    """

    occurrences: tuple[Occurrence, ...]
    missed: tuple[Missed, ...]
    occurrence_at: datetime | None
    next_run_at: datetime | None
    over: bool = False
    waits: bool = False
    ended_at: datetime | None = None

    def with_order(self, routine: Routine, now: datetime) -> Decision:
        """The same, and the run that somebody ordered by setting ``next_run_at``."""
        ordered = Occurrence(routine.next_run_at or now, Cause.MANUAL)
        return replace(self, occurrences=(*self.occurrences, ordered))


def is_ordered(routine: Routine) -> bool:
    """Whether somebody set ``next_run_at``: it does not stand for what is pending."""
    pending = routine.occurrence_at
    return pending is None or routine.next_run_at != due_at(routine, pending)


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


def is_late(routine: Routine, occurrence: datetime, now: datetime, limits: Limits) -> bool:
    """Whether an occurrence that is due is later than the grace."""
    present = min(now, limits.busy_since or now)
    return present - due_at(routine, occurrence) > limits.misfire_grace


def in_bounds(routine: Routine, occurrence: datetime) -> bool:
    """Whether the routine's bounds let an occurrence run."""
    return (
        (routine.starts_at is None or occurrence >= routine.starts_at)
        and (routine.ends_at is None or occurrence <= routine.ends_at)
        and runs_left(routine) != 0
    )


def runs_left(routine: Routine) -> int | None:
    """How many runs ``max_runs`` leaves; None: no end of them."""
    if routine.max_runs is None:
        return None
    return max(0, routine.max_runs - routine.total_run_count)


def leaving(
    routine: Routine,
    occurrences: tuple[Occurrence, ...],
    missed: tuple[Missed, ...],
    pending: datetime | None,
) -> Decision:
    """The decision that leaves *pending* to come; None: the routine is over."""
    if pending is None:
        return Decision(occurrences, missed, None, None, over=True)
    return made(
        Decision,
        occurrences=occurrences,
        missed=missed,
        occurrence_at=pending,
        next_run_at=due_at(routine, pending),
        over=False,
        waits=False,
        ended_at=None,
    )
