"""One transaction, tried again where the same may well succeed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ..clock import pause
from ..tables import routines
from .faults import Fault, kind_of

#: How often a transaction is tried that meets a lock or a deadlock, and for how many seconds.
TRIES = 5
PATIENCE_SECONDS = 5.0
#: Seconds within which a connection that is cut off is taken for one that was gone before.
CUT_SECONDS = 1.0

T = TypeVar("T")
C = TypeVar("C")


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """What *work* returns, in a transaction of its own; *work* may be called several times.

    One that met a lock, a deadlock or a serialization failure is tried `TRIES` times, after
    short random pauses; one that was cut off once more, on a fresh connection.
    """
    return tried(engine.begin, work)


def look(engine: Engine, work: Callable[[Connection], T]) -> T:
    """What *work*, which writes nothing, returns; tried as in `transact`. On SQLite it waits for
    no writer, and none waits for it."""
    return tried(lambda: engine.connect().execution_options(reading=True), work)


def rehearse(engine: Engine, work: Callable[[Connection], T]) -> T:
    """What *work* returns, in a transaction that is rolled back; tried as in `transact`."""
    return tried(lambda: _undone(engine), work)


def lock_for_writing(connection: Connection) -> None:
    """Have what is read from here on be what is written upon: somebody else's transaction, which
    may not lock its rows.

    SQLite has no such locks, and its driver begins a transaction with the first statement that
    writes: what had been read before may be gone by then.
    """
    if connection.dialect.name == "sqlite":
        nothing = routines.update().where(sa.false()).values(active=routines.c.active)
        connection.execute(nothing)


@contextmanager
def _undone(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            yield connection
        finally:
            transaction.rollback()


def tried(begin: Callable[[], AbstractContextManager[C]], work: Callable[[C], T]) -> T:
    """What *work* returns with what *begin* opens, tried as `transact` is."""
    since, tries = time.monotonic(), 0
    while True:
        try:
            with begin() as connection:
                return work(connection)
        except (DBAPIError, PoolTimeoutError) as error:
            tries += 1
            if not _is_worth_another(error, tries, time.monotonic() - since):
                raise
        pause(random.uniform(0.01, 0.1) * tries)  # noqa: S311  spreads tries, no secret


def _is_worth_another(error: BaseException, tries: int, seconds: float) -> bool:
    if kind_of(error) is Fault.TRANSIENT:
        return tries < TRIES and seconds < PATIENCE_SECONDS
    # One that hung until its deadline would hang again.
    cut_off: bool = getattr(error, "connection_invalidated", False)
    return cut_off and tries == 1 and seconds < CUT_SECONDS
