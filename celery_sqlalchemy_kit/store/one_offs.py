"""Runs that happen once: rows of ``routines`` that leave the table when they are claimed.

What is pending is such a row, of origin ``once``; what has been claimed is a run, whose id follows
from the row's and the instant. Both name the row's id, by which people know it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..clock import as_utc
from ..errors import ConflictError, NotFoundError, RoutineError
from ..routines import Cause, OneOff, Origin, State, run_id
from ..schedules import Once
from ..tables import routines, runs
from . import changes, fields
from .bulk import insert_all
from .desk import Desk, may_be_stale
from .rows import check_options, check_task
from .states import in_states

_c = routines.c
#: Rows that are inserted by one statement, where the database takes so many.
PAGE = 5000
_COLUMNS = (
    *("id", "name", "task", "schedule", "args", "kwargs", "options", "namespace"),
    *("next_run_at", "occurrence_at", "origin"),
)
CANCELLED = "cancelled"


def once(connection: Connection, desk: Desk, wanted: Iterable[OneOff]) -> list[UUID]:
    """Have each task run once; returns the ids, in the same order.

    Raises:
        RoutineError: names the field, its value and what is allowed; nothing has been written of
            the page of `PAGE` that it is in.
        ConflictError: a name is taken.
    """
    present = desk.present(connection)
    made: list[UUID] = []
    pending = iter(wanted)
    while page := list(islice(pending, PAGE)):
        rows = [_row(desk, each, present) for each in page]
        try:
            insert_all(connection, routines, _COLUMNS, rows)
        except IntegrityError as error:
            raise ConflictError(f"a one-off's name is taken: {error.orig}") from error
        made += [row["id"] for row in rows]
    return made


def _row(desk: Desk, wanted: OneOff, present: datetime) -> dict[str, Any]:
    key, at = uuid4(), instant(wanted.at, wanted.in_, present)
    said = {"args": wanted.args, "kwargs": wanted.kwargs, "options": wanted.options}
    name = f"once {key}" if wanted.name is None else wanted.name
    columns = fields.columns_of(desk, {"name": name, "task": wanted.task, **said})
    # All that could be wrong with such a row: to have it read by the scheduler's rules, as others
    # are, would take twice as long.
    check_options(wanted.options)
    if desk.allowed_tasks is not None:
        check_task(wanted.task, desk.allowed_tasks)
    columns["schedule"] = json.dumps(Once(at).to_json())
    when = {"next_run_at": at, "occurrence_at": at}
    return {"id": key, "namespace": desk.namespace, "origin": Origin.ONCE.value, **columns, **when}


def instant(at: datetime | None, in_: timedelta | float | None, present: datetime) -> datetime:
    """When it is to be: *at*, or a while after the present; the present if neither is said.

    Raises:
        RoutineError: both are said, or what is said is no instant.
    """
    if at is not None and in_ is not None:
        raise RoutineError("at and in_ exclude each other")
    try:
        if at is not None:
            return as_utc(at)
        return present + (in_ if isinstance(in_, timedelta) else timedelta(seconds=in_ or 0))
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise RoutineError(
            f"at = {at!r}, in_ = {in_!r}: allowed is a datetime with a time zone, or a timedelta "
            "or a number of seconds"
        ) from None


def reschedule(
    connection: Connection,
    desk: Desk,
    key: UUID,
    at: datetime | None = None,
    in_: timedelta | float | None = None,
    *,
    note: str | None = None,
) -> datetime:
    """Have a pending one-off run at another time; returns that.

    Raises:
        NotFoundError: there is no such one-off.
        ConflictError: it has been claimed meanwhile: it runs, or has run.
    """
    if at is None and in_ is None:
        raise RoutineError("at or in_ is needed: when it is to run")
    row = _pending(connection, desk, key)
    if row is None:
        run = _run_of(connection, desk, key)
        raise ConflictError(f"the one-off {key} cannot be put off: its run is {run.state}")
    then = instant(at, in_, desk.present(connection))
    values: dict[str, Any] = {"schedule": json.dumps(Once(then).to_json())}
    values |= {"next_run_at": then, "occurrence_at": then}
    connection.execute(routines.update().where(_c.id == key).values(values))
    told = {"schedule": (row.next_run_at, then)}
    changes.record(connection, desk, "reschedule", [(key, row.name, told)], note)
    return then


def cancel(connection: Connection, desk: Desk, key: UUID, *, note: str | None = None) -> bool:
    """Have a one-off not run; false: too late, it has begun, or is over.

    One whose message has been sent is cancelled if its task is built on the kit's, whose workers
    drop it; another task's worker runs it all the same.

    Raises:
        NotFoundError: there is no such one-off.
    """
    row = _pending(connection, desk, key)
    present = desk.present(connection)
    if row is not None:
        connection.execute(routines.delete().where(_c.id == key))
        connection.execute(runs.insert().values(_cancelled(desk, row, key, present)))
        changes.record(connection, desk, "cancel", [(key, row.name, {})], note)
        return True
    run = _run_of(connection, desk, key)
    unbegun = in_states(State.WAITING, State.CLAIMED, State.SENT)
    ended = {"state": State.SKIPPED.value, "reason": CANCELLED, "finished_at": present}
    # By its id, as schedulers find it: by another index, MySQL's locks would meet crosswise.
    stopped = runs.update().where(runs.c.id == run.id, unbegun, runs.c.attempts == 0)
    if not connection.execute(stopped.values(ended)).rowcount:
        return False
    changes.record(connection, desk, "cancel", [(key, run.routine_name, {})], note)
    return True


def _pending(connection: Connection, desk: Desk, key: UUID) -> Any:
    """The row of a one-off that has not been claimed, locked; None: there is none."""
    mine = sa.and_(_c.id == key, _c.namespace == desk.namespace, _c.origin == Origin.ONCE.value)
    columns = (_c.name, _c.task, _c.next_run_at, _c.occurrence_at)
    return connection.execute(sa.select(*columns).where(mine).with_for_update()).first()


def _run_of(connection: Connection, desk: Desk, key: UUID) -> Any:
    one_off = runs.c.cause == Cause.ONCE.value
    mine = sa.and_(runs.c.routine_id == key, runs.c.namespace == desk.namespace, one_off)
    chosen = sa.select(runs.c.id, runs.c.routine_name, runs.c.state).where(mine).limit(1)
    run = connection.execute(chosen).first()
    if run is None and may_be_stale(connection):
        run = connection.execute(chosen.with_for_update()).first()
    if run is None:
        raise NotFoundError(f"there is no one-off {key}: it never was, or was pruned")
    return run


def _cancelled(desk: Desk, row: Any, key: UUID, present: datetime) -> dict[str, Any]:
    at = row.occurrence_at or row.next_run_at or present
    return {
        "id": run_id(key, at),
        "routine_id": key,
        "routine_name": row.name,
        "namespace": desk.namespace,
        "task": row.task,
        "scheduled_for": at,
        "cause": Cause.ONCE.value,
        "state": State.SKIPPED.value,
        "reason": CANCELLED,
        "finished_at": present,
    }
