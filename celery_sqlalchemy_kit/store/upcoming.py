"""What is going to be due, of all routines."""

from __future__ import annotations

from datetime import datetime
from heapq import nsmallest

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .. import due
from ..details import RoutineDetails
from ..routines import Routine
from ..tables import routines
from .candidates import schedulable, to_plan
from .desk import Desk
from .routine_list import read

_c = routines.c


def upcoming(
    connection: Connection, desk: Desk, until: datetime, *, limit: int = 1000
) -> list[tuple[datetime, RoutineDetails]]:
    """The first *limit* instants up to *until* at which routines are due, in order."""
    present = desk.present(connection)
    mine = schedulable(desk.namespace)
    planned = sa.and_(mine, _c.next_run_at <= until)
    found = read(connection, desk, planned, _c.next_run_at, limit)
    if len(found) == limit:  # what comes after the last of them is not known
        until = min(until, found[-1].next_run_at or until)
    found += read(connection, desk, sa.and_(mine, to_plan()), _c.id, limit)
    instants = (
        (at, routine)
        for routine in found
        if routine.routine is not None
        for at in forecast(routine.routine, present, limit, until)
    )
    return nsmallest(limit, instants, key=lambda each: each[0])


def forecast(
    routine: Routine, present: datetime, n: int, until: datetime | None = None
) -> list[datetime]:
    """See `due.forecast`; a routine that is still to be planned is planned as of *present*."""
    planned = None
    if routine.next_run_at is None and routine.waiting_for is None:
        planned = due.decide(routine, present, due.Limits()).next_run_at
    return due.forecast(routine, planned, n, present=present, until=until)
