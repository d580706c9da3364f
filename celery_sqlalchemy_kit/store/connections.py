"""Engines: one a process and database, with the habits that each database needs."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from .watchdog import watch

#: Seconds until a connection attempt is given up.
CONNECT_TIMEOUT = 5
#: Seconds that a statement may take, or wait for a lock on SQLite.
STATEMENT_TIMEOUT = 30
#: The same for the statements on single runs, for which a task has to wait.
LEDGER_TIMEOUT = 10
#: Connections of a process for `Routines`, which any number of threads may call.
THREADS = 5
#: Seconds that the migration of a large table may take.
MIGRATION_TIMEOUT = 3600
#: PostgreSQL: by which either side notices within 25 s that the other is gone without a word.
_KEEPALIVES = {"idle": 10, "interval": 5, "count": 3}

_engines: dict[tuple[int, URL, str | None, str], Engine] = {}
_lock = threading.Lock()


def engine_for(
    url: URL, purpose: str, *, schema: str | None, pool_size: int = 1, **seconds: float
) -> Engine:
    """The engine of this process for *url*.

    Keyed by process, as a connection must not be shared across a fork; an engine inherited from
    the parent is kept but never used, so that nothing closes the parent's sockets. *purpose*
    keeps the connections of, say, the scheduler and the ledger apart; the others: `make_engine`.
    """
    if purpose == "ledger":
        seconds = {"statement_timeout": LEDGER_TIMEOUT, **seconds}
    if purpose == "client":
        pool_size = THREADS
    key = (os.getpid(), url, schema, purpose)
    with _lock:
        if key not in _engines:
            _engines[key] = make_engine(
                url, schema=schema, pool_size=pool_size, by_key=purpose == "scheduler", **seconds
            )
        return _engines[key]


def make_engine(
    url: URL,
    *,
    schema: str | None = None,
    lock_seconds: float = STATEMENT_TIMEOUT,
    statement_timeout: float = STATEMENT_TIMEOUT,
    longest_timeout: float | None = None,
    pool_size: int = 1,
    by_key: bool = False,
) -> Engine:
    """An engine of its own, with one connection, or *pool_size* of them.

    *schema*: PostgreSQL's, in which alone tables are looked for and made: one that lacks a table
    must not find it elsewhere. The execution option ``schema`` tells it.
    *lock_seconds*: how long SQLite waits for a lock, which it does in C, deaf to signals.
    *statement_timeout*: seconds after which a statement that other servers have not answered is
    given up, with its connection; where *longest_timeout* is more, they adapt to a slow server.
    *by_key*: PostgreSQL is to find rows by their keys, whatever it takes a table's size to be.

    MySQL and MariaDB run at READ COMMITTED: at REPEATABLE READ an open claim blocks bare
    inserts. On SQLite every transaction begins IMMEDIATE, unless its connection has the
    execution option ``reading``: one that reads first and writes later fails at once when
    somebody else wrote in between.
    """
    options: dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": STATEMENT_TIMEOUT,
        "future": True,
    }
    backend = url.get_backend_name()
    if backend == "sqlite":
        engine = sa.create_engine(
            url,
            connect_args={"timeout": lock_seconds, "check_same_thread": False},
            **options,
        )
        sa.event.listen(engine, "connect", _sqlite_leaves_begin_to_us)
        sa.event.listen(engine, "begin", _sqlite_begin)
        return engine
    options["connect_args"] = _connect_args(url, longest_timeout or statement_timeout)
    if backend == "mysql":
        options["isolation_level"] = "READ COMMITTED"
    engine = sa.create_engine(url, execution_options={"schema": schema}, **options)
    if backend == "postgresql":
        # Before SQLAlchemy asks for the schema that the tables are in.
        sa.event.listen(engine, "connect", _postgresql_session(schema, by_key=by_key), insert=True)
    watch(engine, statement_timeout, longest_timeout)
    if engine.dialect.driver == "pymysql" and "read_timeout" not in url.query:
        sa.event.listen(engine, "connect", _pymysql_is_watched, insert=True)
    return engine


def _connect_args(url: URL, statement_timeout: float) -> dict[str, Any]:
    wanted: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT}
    if url.drivername.endswith("pymysql"):
        # It waits for the server's greeting by this one.
        wanted["read_timeout"] = CONNECT_TIMEOUT
    if url.drivername.endswith("mysqldb"):
        wanted |= {"read_timeout": statement_timeout, "write_timeout": statement_timeout}
    if url.get_backend_name() == "postgresql":
        wanted["application_name"] = "celery-sqlalchemy-kit"
        # A server that is gone without a word is noticed, by who listens as well.
        wanted |= {f"keepalives_{name}": value for name, value in _KEEPALIVES.items()}
        wanted["tcp_user_timeout"] = 1000 * STATEMENT_TIMEOUT
    return {key: value for key, value in wanted.items() if key not in url.query}


def _postgresql_session(schema: str | None, *, by_key: bool) -> Callable[[Any, Any], None]:
    """What is set for a session, in one round trip.

    That the server notices within 25 s if our machine vanishes: what it had locked would stay so
    for two hours. And where it looks for tables.

    *by_key*: a batch is found by its keys, in time that does not depend on the table. The planner
    would read a table of 100,000 rows for 500 keys: it takes memory for a disk, and what it knows
    of tables that change by thousands a second is always old.
    """
    settings = [f"tcp_keepalives_{name} = {value}" for name, value in _KEEPALIVES.items()]
    if by_key:
        settings += ["enable_seqscan = off", "enable_hashjoin = off", "enable_mergejoin = off"]
        # Which would go through dead entries of an index each time, and mark none of them.
        settings.append("enable_bitmapscan = off")
        # Where there is no other way than a scan, it counts as so dear that it would be compiled.
        settings.append("jit = off")
    if schema is not None:
        settings.append(f'search_path = "{schema}"')

    def set_up(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("; ".join(f"SET {setting}" for setting in settings))
        connection.commit()

    return set_up


def _pymysql_is_watched(connection: Any, record: Any) -> None:
    connection._read_timeout = None  # noqa: SLF001  what it was given is for connecting


def reaches(url: URL) -> bool:
    """Whether the server answers a new connection within `CONNECT_TIMEOUT`."""
    engine = make_engine(url, lock_seconds=0, statement_timeout=CONNECT_TIMEOUT)
    try:
        with engine.connect().execution_options(reading=True) as connection:
            connection.exec_driver_sql("SELECT 1")
    except SQLAlchemyError:
        return False
    finally:
        engine.dispose()
    return True


def _sqlite_leaves_begin_to_us(connection: Any, record: Any) -> None:
    connection.isolation_level = None
    # Text that is no UTF-8 must not fail the rows beside it.
    connection.text_factory = partial(str, encoding="utf-8", errors="backslashreplace")


def _sqlite_begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def wait_in_python() -> None:
    """Make psycopg2 wait for its sockets in Python, for the whole process.

    libpq alone would sit out a server that never answers, deaf to SIGTERM.
    """
    try:
        from psycopg2 import extensions
    except ImportError:
        return
    extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    from psycopg2 import OperationalError, extensions

    # A connection that is made has its watchdog.
    until = math.inf
    if connection.status == extensions.STATUS_SETUP:
        until = time.monotonic() + CONNECT_TIMEOUT
    while (state := connection.poll()) != extensions.POLL_OK:
        left = until - time.monotonic()
        if left <= 0:
            raise OperationalError("the server did not answer in time")
        reading = [connection.fileno()] if state == extensions.POLL_READ else []
        writing = [connection.fileno()] if state == extensions.POLL_WRITE else []
        select.select(reading, writing, [], min(left, CONNECT_TIMEOUT))
