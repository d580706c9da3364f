"""What a claim does with one routine: pure, but for the random ids of what has none of its own.

A store holds the routine, tells which of its runs are unfinished, and writes the `Step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from uuid import UUID, uuid4

from . import overlap
from .due import Decision, Missed, Occurrence
from .due.decision import runs_left
from .overlap import Settled
from .routines import Cause, Overlap, Routine, Run, State, made, run_id


@dataclass(frozen=True)
class Unfinished:
    """A routine's unfinished runs, by id, as it stands there: any that is claimed, sent or begun,
    and the one that waits."""

    begun: UUID | str | None = None
    waiting: UUID | str | None = None

    @property
    def last(self) -> UUID | str | None:
        """The one that will be the last to end, as far as is known."""
        return self.waiting or self.begun


@dataclass(frozen=True)
class Record:
    """What does not run: one for all occurrences, up to *until*, that have state, cause and reason
    in common."""

    run: Run
    state: State
    reason: str
    count: int
    until: datetime


@dataclass(frozen=True)
class Step:
    """What is to be written: *runs* are claimed, the one that *waits* is ``waiting``, *records*
    have ended; and the routine's columns of these names.

    ``over``: it turns inactive, once this is written. ``spent``: it leaves the table instead.
    """

    runs: tuple[Run, ...]
    waits: Run | None
    records: tuple[Record, ...]
    occurrence_at: datetime | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    total_run_count: int
    waiting_for: UUID | str | None
    ended_at: datetime | None
    over: bool = False
    spent: bool = False


def step_of(
    routine: Routine,
    decide: Callable[[Routine, datetime], Decision],
    now: datetime,
    met: Unfinished,
) -> Step:
    """What becomes of a routine that is due or unplanned; *met* may be empty where its ``overlap``
    is ``allow``."""
    decision, settled = _settle(routine, decide, now, met)
    runs = tuple([_run_of(routine, occurrence) for occurrence in settled.runs])
    waits = None if settled.waits is None else _run_of(routine, settled.waits)
    taken = settled.taken
    happened = bool(taken or decision.missed)
    scheduled = [each for each in (*runs, waits) if each and each.cause is not Cause.MANUAL]
    return made(
        Step,
        runs=runs,
        waits=waits,
        records=_records_of(routine, decision.missed, settled),
        occurrence_at=decision.occurrence_at,
        next_run_at=decision.next_run_at,
        last_run_at=now if taken else routine.last_run_at,
        total_run_count=routine.total_run_count + len(scheduled),
        waiting_for=_awaited(routine, decision, scheduled, met) if decision.waits else None,
        ended_at=decision.ended_at or routine.ended_at,
        over=decision.over,
        spent=decision.over and routine.one_off and happened and waits is None,
    )


def _settle(
    routine: Routine,
    decide: Callable[[Routine, datetime], Decision],
    now: datetime,
    met: Unfinished,
) -> tuple[Decision, Settled[Occurrence]]:
    """What is decided, and what of it runs, waits or is skipped."""
    left = None if routine.overlap is Overlap.ALLOW else runs_left(routine)
    # What is skipped leaves its place to what follows: so `max_runs` is heeded here, not before.
    asked = replace(routine, max_runs=None) if left else routine
    decision = decide(asked, now)
    settled = overlap.settle(
        routine.overlap,
        decision.occurrences,
        unfinished=met.begun is not None,
        waiting=met.waiting is not None,
        left=left,
    )
    if left and settled.left == 0 and not decision.over:
        decision = replace(decision, occurrence_at=None, next_run_at=None, over=True, waits=False)
    return decision, settled


def _run_of(routine: Routine, occurrence: Occurrence) -> Run:
    by_hand = occurrence.cause is Cause.MANUAL
    return made(
        Run,
        id=uuid4() if by_hand else run_id(routine.id, occurrence.scheduled_for),
        routine_id=routine.id,
        routine_name=routine.name,
        task=routine.task,
        scheduled_for=occurrence.scheduled_for,
        cause=occurrence.cause,
        args=routine.args,
        kwargs=routine.kwargs,
        options=routine.options,
    )


def _records_of(
    routine: Routine, missed: Sequence[Missed], settled: Settled[Occurrence]
) -> tuple[Record, ...]:
    if not missed and not settled.skipped:
        return ()
    own = Cause.ONCE if routine.one_off else Cause.SCHEDULE
    records = [_record(routine, each, own, State.MISSED) for each in missed]
    for cause, alike in groupby(settled.skipped, attrgetter("cause")):
        instants = [occurrence.scheduled_for for occurrence in alike]
        reason = overlap.REASONS[routine.overlap]
        skipped = Missed(instants[0], instants[-1], len(instants), reason)
        records.append(_record(routine, skipped, cause, State.SKIPPED))
    return tuple(records)


def _record(routine: Routine, of: Missed, cause: Cause, state: State) -> Record:
    run = Run(uuid4(), routine.id, routine.name, routine.task, of.scheduled_for, cause)
    return Record(run, state, of.reason, of.count, of.until)


def _awaited(
    routine: Routine, decision: Decision, scheduled: Sequence[Run], met: Unfinished
) -> UUID | str | None:
    """The run after whose end the next occurrence is planned."""
    if scheduled:
        return scheduled[0].id
    skipped = any(occurrence.cause is not Cause.MANUAL for occurrence in decision.occurrences)
    # One that was skipped has no end: the run that it met is the one before the next.
    return met.last if skipped else routine.waiting_for
