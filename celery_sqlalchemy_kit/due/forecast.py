"""When a routine is going to be due, as far as that is known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice, takewhile

from ..routines import Routine
from ..schedules import After, Once
from .decision import due_at, is_ordered, runs_left


def forecast(
    routine: Routine,
    planned: datetime | None,
    n: int,
    *,
    present: datetime,
    until: datetime | None = None,
) -> list[datetime]:
    """The next *n* instants at which it is due, up to *until*.

    *planned* is the first of them for a routine that is still to be planned: what `decide` says.
    What waits for the end of a run has none. One that is overdue at *present* comes first; of the
    occurrences between nobody knows which will run.
    """
    instants = _instants(routine, planned, present)
    if until is not None:
        instants = takewhile(until.__ge__, instants)
    return list(islice(instants, n))


def _instants(routine: Routine, planned: datetime | None, present: datetime) -> Iterator[datetime]:
    left = runs_left(routine)
    first = routine.next_run_at or planned
    if first is None or left == 0:
        return
    yield first
    occurrence = routine.occurrence_at if routine.next_run_at is not None else planned
    if occurrence is None or isinstance(routine.schedule, (After, Once)):
        return
    number = 1
    if routine.next_run_at is not None and is_ordered(routine):
        number = 0  # an order by hand comes beside them
        if first < (natural := due_at(routine, occurrence)):
            yield natural
            number = 1
    if occurrence < present:
        passed = routine.schedule.latest(present, after=occurrence, anchor=occurrence)
        occurrence = passed or occurrence
    while left is None or number < left:
        following = routine.schedule.next_after(occurrence, anchor=occurrence)
        if following is None or (routine.ends_at is not None and following > routine.ends_at):
            return
        occurrence, number = following, number + 1
        yield due_at(routine, following)
