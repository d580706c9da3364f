"""What the looking commands read by: one transaction, which locks nothing and makes nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from ..store.connections import STATEMENT_TIMEOUT
from ..store.desk import Desk
from ..store.health import engine_to_look

if TYPE_CHECKING:
    from ..client import Routines


@dataclass(frozen=True)
class Reading:
    """The database, as it is at *now*, its own present."""

    routines: Routines
    desk: Desk
    connection: Connection
    now: datetime


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which goes through all that is kept each time that some more
    has been read: a sixth of the time where there is much."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def reading(routines: Routines) -> Iterator[Reading]:
    """A connection of its own. Print when it is closed: as long as it reads, and whoever reads
    what is printed takes his time, nobody can commit on SQLite."""
    verbs = routines.verbs
    engine = engine_to_look(verbs.url(), verbs.settings.scheduler_db_schema, STATEMENT_TIMEOUT)
    try:
        with engine.connect().execution_options(reading=True) as connection:
            yield Reading(routines, verbs.desk, connection, verbs.desk.present(connection))
    finally:
        engine.dispose()
