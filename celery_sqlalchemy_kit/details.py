"""Routines, runs and changes as people look at them: frozen values, whatever stands in the rows.

A row that cannot be scheduled is shown all the same: what cannot be read of it is shown as its
text, and ``error`` says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from .routines import Routine
from .schedules import Schedule


class _Shown:
    """What all of them can do."""

    def to_json(self) -> dict[str, Any]:
        """Every field by its name: instants as ISO 8601 in UTC, ids as text, durations as seconds,
        a schedule as it stands in the table."""
        own, kind = vars(self), cast("Any", type(self))
        return {
            name: value if type(value := own[name]) in _PLAIN else plain(value)
            for name in _shown(kind)
        }


@lru_cache
def _shown(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if each.repr)


@dataclass(frozen=True)
class RunDetails(_Shown):
    """One row of ``routine_runs``; see ``docs/tables.md`` for what each column means."""

    id: UUID
    routine_id: UUID
    routine_name: str
    namespace: str
    task: str
    args: Any
    kwargs: Any
    options: Any
    scheduled_for: datetime
    cause: str
    state: str
    reason: str | None = None
    count: int = 1
    until: datetime | None = None
    claimed_at: datetime | None = None
    publish_attempts: int = 0
    sent_at: datetime | None = None
    attempts: int = 0
    retries: int = 0
    worker: str | None = None
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None

    @property
    def lateness(self) -> timedelta | None:
        """From the occurrence to the beginning of the task's body; None: it has not begun."""
        return None if self.started_at is None else self.started_at - self.scheduled_for

    @property
    def duration(self) -> timedelta | None:
        """From the beginning to the end; None while it has not both."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    def to_json(self) -> dict[str, Any]:
        """Also ``lateness`` and ``duration``, in seconds."""
        own = {"lateness": plain(self.lateness), "duration": plain(self.duration)}
        return {**super().to_json(), **own}


@dataclass(frozen=True)
class RoutineDetails(_Shown):
    """One row of ``routines``; see ``docs/tables.md`` for what each column means."""

    id: UUID
    name: str
    namespace: str
    task: str
    #: None if it cannot be read; `schedule_json` is what stands in the row.
    schedule: Schedule | None
    schedule_text: str | None = field(repr=False)
    active: bool = True
    args: Any = ()
    kwargs: Any = field(default_factory=dict)
    options: Any = field(default_factory=dict)
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    total_run_count: int = 0
    catch_up: str = "latest"
    overlap: str = "allow"
    jitter: float = 0.0
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_runs: int | None = None
    description: str | None = None
    origin: str | None = None
    error: str | None = None
    alert: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    #: What schedulers see in the row; None where they see what `error` says.
    routine: Routine | None = field(default=None, repr=False, compare=False)

    @property
    def schedule_json(self) -> Any:
        """What stands in the row: decoded, or its text if it is no JSON."""
        return json_of(self.schedule_text)

    @property
    def words(self) -> str:
        """The schedule as a person reads it: ``every 15 s``."""
        return "unreadable" if self.schedule is None else self.schedule.words()

    def to_json(self) -> dict[str, Any]:
        """Also ``words``; ``schedule`` as it stands in the table."""
        return {**super().to_json(), "schedule": plain(self.schedule_json), "words": self.words}


@dataclass(frozen=True)
class Change(_Shown):
    """What somebody did to a routine by the command line or the Python API.

    ``changes`` maps each field to what it was and what it is since; ``action`` is the verb.
    """

    routine_id: UUID
    routine_name: str
    changed_at: datetime
    changed_by: str
    action: str
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    note: str | None = None


def json_of(text: str | None) -> Any:
    """A JSON column as it is shown: decoded, or its text if it cannot be."""
    if text in _EMPTY:
        return _EMPTY[text]()
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text


_EMPTY: Mapping[str | None, Callable[[], Any]] = {"{}": dict, "[]": list}


def plain(value: Any) -> Any:
    """*value* for JSON."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _TOLD:  # by its very type, as there may be hundreds of thousands
        return _TOLD[kind](value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    to_json = getattr(value, "to_json", None)
    return value if to_json is None else to_json()


_PLAIN = frozenset({str, int, float, bool, type(None)})
_TOLD: Mapping[type, Callable[[Any], Any]] = {
    datetime: datetime.isoformat,
    timedelta: timedelta.total_seconds,
    UUID: str,
}
