"""One at a time: transactions that must not run beside another of their kind."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from .errors import SchemaError

logger = logging.getLogger(__name__)

#: Seconds to wait for the other one on MySQL and MariaDB, where it may be a long migration, and
#: seconds between two words about it: below the deadline of a statement.
LONGEST, STEP = 3600, 10


@contextmanager
def alone(engine: Engine, name: str) -> Iterator[Connection]:
    """A transaction during which nobody else holds *name* in this database or schema.

    An advisory lock on PostgreSQL, ``GET_LOCK`` on MySQL and MariaDB (released after the
    COMMIT), and on SQLite the transaction itself, which begins IMMEDIATE.

    Raises:
        SchemaError: another process has been holding the name for an hour (MySQL, MariaDB).
    """
    with engine.connect() as connection:
        if connection.dialect.name == "mysql":
            _get(connection, name)
        try:
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    lock = sa.func.pg_advisory_xact_lock(*_key(name))
                    connection.execute(sa.select(lock))
                yield connection
        finally:
            if connection.dialect.name == "mysql" and not connection.invalidated:
                connection.execute(sa.select(sa.func.release_lock(_short(name))))


@contextmanager
def alone_at_once(engine: Engine, name: str) -> Iterator[Connection | None]:
    """As `alone`, but None if somebody else holds *name*: nothing is waited for.

    On SQLite the transaction itself is waited for, as any other.
    """
    with engine.connect() as connection:
        dialect, held = connection.dialect.name, True
        if dialect == "mysql":
            with connection.begin():
                lock = sa.select(sa.func.get_lock(_short(name), 0))
                held = connection.execute(lock).scalar() == 1
        try:
            with connection.begin():
                if dialect == "postgresql":
                    lock = sa.select(sa.func.pg_try_advisory_xact_lock(*_key(name)))
                    held = connection.execute(lock).scalar() is True
                yield connection if held else None
        finally:
            if dialect == "mysql" and held and not connection.invalidated:
                connection.execute(sa.select(sa.func.release_lock(_short(name))))


def _get(connection: Connection, name: str) -> None:
    for _ in range(LONGEST // STEP):
        with connection.begin():
            lock = sa.func.get_lock(_short(name), STEP)
            if connection.execute(sa.select(lock)).scalar() == 1:
                return
        logger.info("routines: another process is busy with %r, waiting for it", name)
    raise SchemaError(f"another process has been busy with {name!r} for {LONGEST} s")


def _key(name: str) -> tuple[int, sa.ColumnElement[int]]:
    # PostgreSQL's locks are one for all schemas of a database. None that exists yet is one, too.
    schema = sa.func.coalesce(sa.func.current_schema(), "")
    return zlib.crc32(name.encode()) >> 1, sa.func.hashtext(schema)


def _short(name: str) -> str:
    # MySQL takes 64 characters, and its locks are one for all databases of a server.
    return f"routines-{zlib.crc32(name.encode())}"
