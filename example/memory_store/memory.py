"""How it stays whole: one lock, and nobody sees what is not finished."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from celery_sqlalchemy_kit.clock import DATABASE, Clock, here
from celery_sqlalchemy_kit.errors import StoreBusyError
from celery_sqlalchemy_kit.routines import ENDED, State

from .rows import Removed, RoutineRow, RunRow, SchedulerRow, edited

#: Seconds that a call waits for another one. A scheduler has one thread, and SIGTERM to obey.
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Tables:
    """All there is. A call changes a copy of its own."""

    routines: dict[UUID, RoutineRow] = field(default_factory=dict)
    runs: dict[UUID, RunRow] = field(default_factory=dict)
    schedulers: dict[UUID, SchedulerRow] = field(default_factory=dict)
    removed: dict[tuple[str, str], Removed] = field(default_factory=dict)

    def copy(self) -> Tables:
        return Tables(
            dict(self.routines), dict(self.runs), dict(self.schedulers), dict(self.removed)
        )

    def runs_in(self, namespace: str, *states: State) -> list[RunRow]:
        """Its runs in these states; who has waited longest comes first."""
        found = (row for row in self.runs.values() if row.namespace == namespace)
        return sorted((row for row in found if row.state in states), key=lambda row: row.order)

    def runs_of(self, routine_id: UUID, *states: State) -> list[RunRow]:
        """The same, of one routine."""
        found = (row for row in self.runs.values() if row.run.routine_id == routine_id)
        return sorted((row for row in found if row.state in states), key=lambda row: row.order)


class Memory:
    """The tables of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables = Tables()

    def read(self) -> Tables:
        """The tables as the last call left them; not to be changed.

        Nobody changes them any more, so that they are whole, and no lock is needed.
        """
        return self._tables

    @contextmanager
    def change(self, clock: Clock) -> Iterator[tuple[Tables, datetime]]:
        """The tables, to be changed by nobody else meanwhile, and the present.

        All of it is there for the others once the block ends. If it raises, none is.
        """
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            raise StoreBusyError(f"another call took longer than {PATIENCE_SECONDS:g} s")
        try:
            # The present under the lock: who comes later is later.
            tables, now = self._tables.copy(), present(clock)
            yield tables, now
            _let_go(tables, now)
            self._tables = tables
        finally:
            self._lock.release()

    def edit(
        self, name: str, *, namespace: str = "", clock: Clock = DATABASE, **fields: Any
    ) -> None:
        """What a person does to a routine: there is no SQL here, so this is the door."""
        with self.change(clock) as (tables, now):
            for key, row in tables.routines.items():
                if (row.namespace, row.name) == (namespace, name):
                    tables.routines[key] = edited(row, now, **fields)


def present(clock: Clock) -> datetime:
    """A test's, or this host's: that is where the memory is."""
    return clock.now() or here()


def _let_go(tables: Tables, now: datetime) -> None:
    """Whatever ended a run, or removed it: a routine waits for it no longer."""
    for key, row in tables.routines.items():
        if row.waiting_for is None:
            continue
        awaited = tables.runs.get(UUID(str(row.waiting_for)))
        if awaited is None or awaited.state in ENDED:
            ended_at = (awaited and awaited.finished_at) or now
            tables.routines[key] = replace(row, waiting_for=None, ended_at=ended_at)
