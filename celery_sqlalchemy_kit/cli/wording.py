"""Routines, runs and changes in a few words: pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from ..details import Change, RoutineDetails, RunDetails
from ..routines import State
from .tables import BAD, BUSY, FAINT, GOOD, ODD, Toned
from .times import about, duration, stamp

#: What stands where there is nothing to say.
NOTHING = "-"
_TONES = {
    State.SUCCEEDED.value: GOOD,
    State.FAILED.value: BAD,
    State.LOST.value: BAD,
    State.MISSED.value: ODD,
    State.SKIPPED.value: ODD,
}


def zone_of(routine: RoutineDetails) -> str:
    """The zone whose clocks its schedule follows, else UTC."""
    return str(getattr(routine.schedule, "zone", "UTC"))


def when(instant: datetime | None, now: datetime, zone: str = "UTC") -> str:
    """``2026-12-01 09:00 CET (in 3 min)``."""
    if instant is None:
        return NOTHING
    return f"{stamp(instant, zone)} ({about(instant, now)})"


def next_run(routine: RoutineDetails, now: datetime) -> str:
    """When it is due next, or why that is not known."""
    if not routine.active or routine.error is not None:
        return NOTHING
    if routine.next_run_at is not None:
        return when(routine.next_run_at, now, zone_of(routine))
    if routine.routine is not None and routine.routine.waiting_for is not None:
        return "after the run before"
    return "to be planned"


def last_run(routine: RoutineDetails, run: RunDetails | None, now: datetime) -> str:
    """``succeeded 2 h ago, 1.2 s``; *run* may have been pruned."""
    if run is None:
        sent = routine.last_run_at
        return "never" if sent is None else f"sent {about(sent, now)}"
    if run.state == State.RUNNING and run.started_at is not None:
        return Toned(f"running for {duration(now - run.started_at)}", BUSY)
    if run.state == State.RETRYING and run.heartbeat_at is not None:
        return Toned(f"retrying {about(run.heartbeat_at, now)}", BUSY)
    at = run.finished_at or run.sent_at or run.claimed_at or run.scheduled_for
    took = "" if run.duration is None else f", {duration(run.duration)}"
    return Toned(f"{state(run)} {about(at, now)}{took}", tone_of(run))


def state(run: RunDetails) -> str:
    """Its state; of a record that stands for several runs, how many they are."""
    return Toned(run.state + (f" x{run.count}" if run.count > 1 else ""), tone_of(run))


def tone_of(run: RunDetails) -> str:
    """The colour of its state."""
    return _TONES.get(run.state, BUSY)


def trouble(routine: RoutineDetails) -> str:
    """Its ``error`` and its ``alert``; empty if it has neither."""
    error = routine.error and f"error: {routine.error}"
    alert = routine.alert and f"alert: {routine.alert}"
    return "; ".join(filter(None, (error, alert)))


def remark(routine: RoutineDetails, note: Change | None, now: datetime) -> str:
    """What is wrong with a routine, and why it is off; empty if there is nothing to say."""
    if routine.active and routine.error is None and routine.alert is None:
        return ""
    wrong = trouble(routine)
    off = "" if routine.active or note is None else f"off: {noted(note, now)}"
    return Toned("; ".join(filter(None, (wrong, off))), BAD if wrong else FAINT)


def noted(change: Change, now: datetime) -> str:
    """A note, who made it and when."""
    return f"{change.note} ({change.changed_by}, {about(change.changed_at, now)})"


def why(run: RunDetails) -> str:
    """The first line of a run's error, and its reason."""
    error = (run.error or "").strip().partition("\n")[0]
    return Toned("; ".join(filter(None, (error, run.reason))), tone_of(run))


def value(found: Any) -> str:
    """A value of a column: text as it is, anything else as JSON."""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def fields(change: Change) -> str:
    """What was changed: ``active: true → false``; what was not set before as it is since."""
    return "; ".join(
        f"{name}: {value(after)}" if before is None else f"{name}: {value(before)} → {value(after)}"
        for name, (before, after) in change.changes.items()
    )
