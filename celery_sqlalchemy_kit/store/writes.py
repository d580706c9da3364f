"""What a claim writes, gathered row by row and written in few statements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import INSTANT_FORMAT
from ..migrations.triggers import QUIET
from ..routines import Run, State
from ..steps import Step
from ..tables import routines, runs
from .bulk import array, by_column, cast, insert_all, inserting
from .chunks import chunks
from .rows import Fetched

_LONGEST_FAULT = 2000
#: What an integer column holds.
_LARGEST = 2**31 - 1

_STEP = (
    routines.update()
    .where(routines.c.id == sa.bindparam("key", type_=routines.c.id.type))
    .values(
        occurrence_at=sa.bindparam("pending"),
        next_run_at=sa.bindparam("due"),
        last_run_at=sa.bindparam("ran"),
        total_run_count=sa.bindparam("total"),
        waiting_for=sa.bindparam("waits"),
        ended_at=sa.bindparam("ended"),
        paused_at=None,
    )
)

_STEP_COLUMNS = {
    "pending": ("occurrence_at", "timestamptz"),
    "due": ("next_run_at", "timestamptz"),
    "ran": ("last_run_at", "timestamptz"),
    "total": ("total_run_count", "integer"),
    "waits": ("waiting_for", "uuid"),
    "ended": ("ended_at", "timestamptz"),
}


def _stepping(shared: frozenset[str]) -> str:
    """PostgreSQL's: the steps of the whole batch, behind what makes them quiet."""
    own = {"key": "uuid", **{n: kind for n, (_, kind) in _STEP_COLUMNS.items() if n not in shared}}
    arrays = ", ".join(cast(name, f"{kind}[]") for name, kind in own.items())
    moved = ", ".join(
        f"{column} = " + (cast(name, kind) if name in shared else f"step.{name}")
        for name, (column, kind) in _STEP_COLUMNS.items()
    )
    return f"""
        step AS MATERIALIZED (
            SELECT step.* FROM quiet, unnest({arrays}) AS step ({", ".join(own)})),
        moved AS (
            UPDATE routines SET {moved}, paused_at = NULL FROM step WHERE routines.id = step.key)"""


_SPENDING = f"""
        spent AS MATERIALIZED (SELECT unnest({cast("spent", "uuid[]")}) AS key),
        gone AS (DELETE FROM routines USING spent WHERE routines.id = spent.key)"""


@lru_cache(maxsize=512)
def _moving(
    of_steps: frozenset[str] | None, of_runs: frozenset[str] | None, *, spending: bool
) -> sa.TextClause:
    """PostgreSQL's one statement for steps, one-offs that leave and runs, as each statement is a
    round trip. What all have in common of steps and of runs; None: there are none. Quiet: it keeps
    the triggers from waking all."""
    parts = [f"quiet AS MATERIALIZED (SELECT set_config('{QUIET}', 'on', true))"]
    if of_steps is not None:
        parts.append(_stepping(of_steps))
    if spending:
        parts.append(_SPENDING)
    last = "SELECT 1" if of_runs is None else inserting(runs, _RUN_COLUMNS, of_runs)
    return sa.text(f"WITH {', '.join(parts)} {last}")


# As many statements as rows would be as many round trips. MySQL 8 and MariaDB 10.6 have it, whose
# SKIP LOCKED the claim needs as well. In this order and by this index, as any other way of joining
# would wait for rows that somebody else has locked.
_STEP_MYSQL = sa.text(
    """
    UPDATE JSON_TABLE(:steps, '$[*]' COLUMNS (
        id VARCHAR(32) PATH '$.key', pending VARCHAR(26) PATH '$.pending',
        due VARCHAR(26) PATH '$.due', ran VARCHAR(26) PATH '$.ran', total INT PATH '$.total',
        waits VARCHAR(32) PATH '$.waits', ended VARCHAR(26) PATH '$.ended'
    )) AS step STRAIGHT_JOIN routines FORCE INDEX (PRIMARY)
    ON routines.id = CONVERT(step.id USING ascii) COLLATE ascii_bin
    SET occurrence_at = CAST(step.pending AS DATETIME(6)),
        next_run_at = CAST(step.due AS DATETIME(6)),
        last_run_at = CAST(step.ran AS DATETIME(6)),
        total_run_count = step.total, paused_at = NULL,
        waiting_for = CONVERT(step.waits USING ascii) COLLATE ascii_bin,
        ended_at = CAST(step.ended AS DATETIME(6))"""
)

_RUN_COLUMNS = (
    "id",
    "routine_id",
    "routine_name",
    "namespace",
    "task",
    "args",
    "kwargs",
    "options",
    "scheduled_for",
    "cause",
    "state",
    "reason",
    "count",
    "until",
    "claimed_by",
    "claimed_at",
    "publish_attempts",
    "finished_at",
)


class Writes:
    """The runs, steps and faults of one claim, in the order of its rows."""

    def __init__(self, namespace: str, now: datetime) -> None:
        self.now = now
        self.over: list[str] = []
        #: One-offs, which leave the table.
        self.spent: list[str] = []
        #: Rows whose schedule is to be kept in the form of this kit: key and JSON.
        self.rewritten: list[tuple[str, str]] = []
        self.told: list[tuple[str, str]] = []
        self._namespace = namespace
        self._runs: list[dict[str, Any]] = []
        self._steps: list[dict[str, Any]] = []
        self._faults: list[tuple[str, str]] = []

    def fault(self, row: Fetched) -> None:
        """The row cannot be scheduled: its ``error`` is going to say why."""
        fault = (row.fault or "")[:_LONGEST_FAULT]
        self._faults.append((row.key, fault))
        self.told.append((row.text["name"] or "", fault))

    def run(
        self,
        run: Run,
        text: Mapping[str, str | None],
        state: State,
        *,
        claimed_by: UUID | None = None,
        reason: str | None = None,
        count: int = 1,
        until: datetime | None = None,
    ) -> None:
        """A run: one that is claimed or waits takes along from the routine's row what it sends."""
        sends = state in (State.CLAIMED, State.WAITING)
        self._runs.append(
            {
                "id": run.id,
                # As the row has it: SQLite lets people spell an id in other ways than we do.
                "routine_id": text["id"],
                "routine_name": run.routine_name,
                "namespace": self._namespace,
                "task": run.task,
                "args": text["args"] if sends else None,
                "kwargs": text["kwargs"] if sends else None,
                "options": text["options"] if sends else None,
                "scheduled_for": run.scheduled_for,
                "cause": run.cause.value,
                "state": state.value,
                "reason": reason,
                "count": min(count, _LARGEST),
                "until": until,
                "claimed_by": claimed_by,
                "claimed_at": self.now if sends else None,
                "publish_attempts": int(state is State.CLAIMED),
                "finished_at": None if sends else self.now,
            }
        )

    def step(self, key: str, step: Step) -> None:
        """A routine moves on."""
        self._steps.append(
            {
                "key": key,
                "pending": step.occurrence_at,
                "due": step.next_run_at,
                "ran": step.last_run_at,
                "total": min(step.total_run_count, _LARGEST),
                "waits": step.waiting_for,
                "ended": step.ended_at,
            }
        )

    def drop_repeated(self, connection: Connection) -> frozenset[UUID]:
        """Leave out runs whose id is in the ledger already; returns their ids."""
        there = frozenset(
            found
            for ids in chunks(row["id"] for row in self._runs)
            for found in connection.execute(
                sa.select(runs.c.id).where(runs.c.id.in_(ids))
            ).scalars()
        )
        self._runs = [row for row in self._runs if row["id"] not in there]
        return there

    def execute(self, connection: Connection) -> None:
        """Write all of it.

        Raises:
            sqlalchemy.exc.IntegrityError: a run's id is in the ledger already.
        """
        if self.rewritten:
            # Before the steps: to the triggers it is an edit, which clears next_run_at.
            self._rewrite(connection)
        if connection.dialect.name == "postgresql":
            self._move(connection)
        else:
            insert_all(connection, runs, _RUN_COLUMNS, self._runs)
            self._step(connection)
            for keys in chunks(self.spent):
                connection.execute(routines.delete().where(routines.c.id.in_(keys)))
        if self.over:
            over = routines.c.id.in_(self.over)
            # First: the triggers keep it, and would set it later than what this claim has ended.
            connection.execute(routines.update().where(over).values(paused_at=self.now))
            connection.execute(routines.update().where(over).values(active=False))
        self._write_faults(connection)

    def _move(self, connection: Connection) -> None:
        of_steps = of_runs = None
        told: dict[str, str | None] = {}
        if self._steps:
            shared, own = by_column(("key", *_STEP_COLUMNS), self._steps)
            of_steps, told = frozenset(shared), {**shared, **own}
        if self._runs:
            shared, own = by_column(_RUN_COLUMNS, self._runs)
            of_runs = frozenset(shared)
            told |= {**shared, **own}
        if self.spent:
            told["spent"] = array(self.spent)
        if told:
            spending = bool(self.spent)
            connection.execute(_moving(of_steps, of_runs, spending=spending), told)

    def _step(self, connection: Connection) -> None:
        if self._steps and connection.dialect.name == "mysql":
            connection.execute(_STEP_MYSQL, {"steps": json.dumps(self._steps, default=_for_mysql)})
        elif self._steps:
            connection.execute(_STEP, self._steps)

    def _rewrite(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.set_config(QUIET, "on", sa.true())))
        for key, text in self.rewritten:
            mine = routines.c.id == key
            connection.execute(routines.update().where(mine).values(schedule=text))

    def _write_faults(self, connection: Connection) -> None:
        for key, fault in self._faults:
            faulty = routines.c.id == key
            connection.execute(routines.update().where(faulty).values(error=fault))


def _for_mysql(value: datetime | UUID) -> str:
    return value.hex if isinstance(value, UUID) else value.strftime(INSTANT_FORMAT)
