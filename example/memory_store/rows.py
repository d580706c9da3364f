"""What is kept: frozen values, so that whoever has one has it for good."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.reconcile import FIELDS
from celery_sqlalchemy_kit.rescue import Standing
from celery_sqlalchemy_kit.routines import CatchUp, Origin, Overlap, Routine, Run, State


@dataclass(frozen=True)
class RoutineRow:
    """A routine.

    What people write freely, `FIELDS`, is kept as JSON text, and read when it is claimed: what
    cannot be read then is this routine's ``error``, and nobody else's. ``declared``: what of it
    was last taken from the code.
    """

    id: UUID
    namespace: str
    name: str
    task: str
    json: Mapping[str, str]
    declared: Mapping[str, str]
    origin: Origin = Origin.CODE
    active: bool = True
    error: str | None = None
    next_run_at: datetime | None = None
    occurrence_at: datetime | None = None
    last_run_at: datetime | None = None
    total_run_count: int = 0
    catch_up: CatchUp = CatchUp.LATEST
    overlap: Overlap = Overlap.ALLOW
    jitter_seconds: float = 0.0
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_runs: int | None = None
    edited_at: datetime | None = None
    paused_at: datetime | None = None
    waiting_for: UUID | str | None = None
    ended_at: datetime | None = None

    def read(self, timezone: str) -> Routine:
        """The routine that is decided about; *timezone*: of a schedule that names none.

        Raises:
            ScheduleError: its schedule is none.
        """
        return Routine(
            schedule=schedules.loads(self.json["schedule"], timezone),
            args=tuple(json.loads(self.json["args"])),
            kwargs=json.loads(self.json["kwargs"]),
            options=json.loads(self.json["options"]),
            **{name: getattr(self, name) for name in _SHARED},
        )

    @property
    def standing(self) -> Standing:
        return Standing(**{each.name: getattr(self, each.name) for each in fields(Standing)})


_SHARED = {each.name for each in fields(Routine)} & {each.name for each in fields(RoutineRow)}
#: What a routine is planned by.
_PLANNED = ("active", "jitter_seconds", "starts_at", "ends_at", "max_runs")


def edited(row: RoutineRow, now: datetime, **changes: Any) -> RoutineRow:
    """The row after a person, or the code, has changed it; `FIELDS` are given as JSON values.

    It is planned anew if what it is planned by has changed, and from now on: ``next_run_at`` is
    cleared, unless it was set as well.
    """
    texts = {field: json.dumps(changes.pop(field)) for field in FIELDS if field in changes}
    after = replace(row, **changes, json={**row.json, **texts}, error=None)
    if _planned_by(after) == _planned_by(row):
        return after
    if after.next_run_at == row.next_run_at:
        after = replace(after, next_run_at=None)
    if row.active and not after.active:
        after = replace(after, paused_at=row.paused_at or now)
    if '"after"' not in after.json["schedule"]:
        after = replace(after, waiting_for=None)
    return replace(after, edited_at=now)


def _planned_by(row: RoutineRow) -> tuple[Any, ...]:
    return row.json["schedule"], *(getattr(row, name) for name in _PLANNED)


@dataclass(frozen=True)
class RunRow:
    """A run, and how it stands; or, of *count*, occurrences up to *until* that did not run."""

    run: Run
    namespace: str
    state: State
    #: When it was claimed last, or began to wait. Of what did not run: when that was decided.
    claimed_at: datetime
    claimed_by: UUID | None = None
    publish_attempts: int = 0
    sent_at: datetime | None = None
    attempt_id: UUID | None = None
    retries: int = 0
    worker: str | None = None
    #: The worker's last sign of life. Of what is ``retrying``: when its next attempt is due.
    heartbeat_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    #: Of its worker; or why it cannot be published.
    error: str | None = None
    count: int = 1
    until: datetime | None = None

    @property
    def order(self) -> tuple[datetime, str]:
        """Who has waited longest comes first."""
        return self.claimed_at, str(self.run.id)


@dataclass(frozen=True)
class SchedulerRow:
    """A scheduler that is at work, and what it declares."""

    namespace: str
    names: frozenset[str]
    seen_at: datetime


@dataclass(frozen=True)
class Removed:
    """The last state of a routine that was removed."""

    row: RoutineRow
    removed_at: datetime
