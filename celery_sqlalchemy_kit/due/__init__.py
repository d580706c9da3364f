"""What becomes of a routine at a given instant: pure, values in, values out.

Occurrences are nominal instants. ``occurrence_at`` is the one that is pending: all before it
have been dealt with, it has not. ``next_run_at`` is that instant plus its share of the jitter;
anything else stands for an order by hand.
"""

from __future__ import annotations

from datetime import datetime

from ..routines import Routine
from ..schedules import After, Once
from .after import decide_after
from .decision import Decision, Limits, Missed, Occurrence, due_at
from .forecast import forecast
from .once import decide_once
from .series import decide_series

__all__ = ["Decision", "Limits", "Missed", "Occurrence", "decide", "due_at", "forecast"]


def decide(routine: Routine, now: datetime, limits: Limits) -> Decision:
    """What becomes of *routine* at *now*: it is due, ordered by hand, or has to be planned."""
    if isinstance(routine.schedule, Once):
        return decide_once(routine, routine.schedule, now, limits)
    if isinstance(routine.schedule, After):
        return decide_after(routine, routine.schedule, now, limits)
    return decide_series(routine, now, limits)
