"""Which routine somebody should look at: pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from .routines import State

#: The ends that are told; what was skipped says nothing about how a routine fares.
BAD = (State.FAILED, State.LOST, State.MISSED)
TOLD = (State.SUCCEEDED, *BAD)


class Alert(str, enum.Enum):
    """What is wrong with a routine."""

    OVERDUE = "overdue"
    FAILED = "failed"


@dataclass(frozen=True)
class Ended:
    """The end of a run."""

    state: State
    finished_at: datetime | None


@dataclass(frozen=True)
class Health:
    """How a routine fares.

    ``last`` is its newest run, by occurrence, that has ended in one of `TOLD`. ``paused_at``: when
    it was switched off, which is what it is then, by somebody or because it is over. ``edited_at``:
    when somebody last changed what it is planned by.
    """

    alert: Alert | None
    active: bool
    faulty: bool
    overdue: bool
    last: Ended | None
    paused_at: datetime | None = None
    edited_at: datetime | None = None


def judge(routine: Health) -> Alert | None:
    """The alert that the routine should have.

    Overdue goes before failed. What has failed stays so until a run has succeeded; what was
    overdue does not once it is dispatched. Switching a routine off clears its alert: it is how
    one says that one knows. A run that ends later than that, as the last one of a routine that
    is over does, is told all the same; and what has failed before it was switched on again is not.
    A row that cannot be scheduled keeps what it has.
    """
    if not routine.active:
        last, paused_at = routine.last, routine.paused_at
        if last is None or last.state not in BAD or paused_at is None or last.finished_at is None:
            return None
        return Alert.FAILED if last.finished_at >= paused_at else None
    if routine.faulty:
        return routine.alert
    if routine.overdue:
        return Alert.OVERDUE
    if routine.last is not None:
        known = routine.alert is None and _is_before(routine.last.finished_at, routine.edited_at)
        return Alert.FAILED if routine.last.state in BAD and not known else None
    return None if routine.alert is Alert.OVERDUE else routine.alert


def _is_before(instant: datetime | None, other: datetime | None) -> bool:
    return instant is not None and other is not None and instant <= other
