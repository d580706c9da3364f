"""Database sessions for tasks, on one engine for each app and process, made at first use.

A connection goes back into the engine's pool with the end of its transaction. A pool whose
connections are all in use makes others wait. Neither engine is the kit's own: what tasks do cannot
hold up the ledger of runs.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from celery import Celery, signals
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from sqlalchemy.pool.base import _ConnectionRecord

from .aio.resources import Resource, here
from .config import Settings, shown_url
from .errors import SettingsError
from .urls import asynchronous, is_installed, missing_driver

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

#: Seconds that a session waits for a connection. Not for ever: tasks that each hold one connection
#: and wait for another would never end.
POOL_TIMEOUT = 3600.0
#: Seconds that SQLite waits for a lock.
SQLITE_TIMEOUT = 30


@contextmanager
def session(app: Celery) -> Iterator[Session]:
    """A session on the database of `scheduler_db_uri`: see `SyncTask.session`."""
    from sqlalchemy.orm import Session

    with Session(_here.engine_of(app), expire_on_commit=False, future=True) as opened:
        try:
            yield opened
            opened.commit()
        except SoftTimeLimitExceeded:
            # Its signal may have struck in the middle of a statement.
            opened.invalidate()
            raise


def async_session(app: Celery) -> AbstractAsyncContextManager[AsyncSession]:
    """A session on the database of `worker_async_db_uri`: see `AsyncTask.session`.

    Raises:
        RuntimeError: called elsewhere than in a coroutine of an async task.
        SettingsError: there is no such database, or no driver for it.
    """
    here("session()")
    if app not in _async_engines:
        _async_engines[app] = _async_engine(app)
    return _session_on(_async_engines[app])


@asynccontextmanager
async def _session_on(engine: Resource[AsyncEngine]) -> AsyncIterator[AsyncSession]:
    bind = await engine()
    from sqlalchemy.ext.asyncio import AsyncSession

    async with AsyncSession(bind, expire_on_commit=False) as opened:
        yield opened
        await opened.commit()


#: Used on the event loop's thread alone. They know nothing of a loop, nor of a process.
_async_engines: WeakKeyDictionary[Celery, Resource[AsyncEngine]] = WeakKeyDictionary()


def _async_engine(app: Celery) -> Resource[AsyncEngine]:
    settings = Settings.load(app.conf, scheduler=False)
    arguments: dict[str, Any] = {}
    if (url := settings.worker_async_db_uri) is None:
        if settings.scheduler_db_uri is None:
            raise SettingsError([MISSING_ASYNC_URL])
        url, arguments = asynchronous(settings.scheduler_db_uri)
    if not is_installed("greenlet"):
        raise missing_driver(url, ["greenlet"])
    options = _options(url, settings.worker_async_db_engine_options, _AsyncPool, arguments)
    return Resource(f"engine of {shown_url(url)}", partial(_open, url, options))


MISSING_ASYNC_URL = (
    "there is no database for session(): set worker_async_db_uri to an asynchronous SQLAlchemy URL "
    "such as postgresql+asyncpg://user:password@host/database, or scheduler_db_uri"
)
MISSING_URL = "there is no database for session(): scheduler_db_uri is not set"


@asynccontextmanager
async def _open(url: URL, options: dict[str, Any]) -> AsyncIterator[AsyncEngine]:
    # In a thread, as what is imported for it takes a while.
    engine = await asyncio.to_thread(_make_async_engine, url, options)
    try:
        yield engine
    finally:
        await engine.dispose()


def _make_async_engine(url: URL, options: dict[str, Any]) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine

    with _told("worker_async_db_engine_options", url):
        return create_async_engine(url, **options)


class _Engines:
    """The engines of this process. A forked one has its own, and leaves its parent's alone."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._engines: WeakKeyDictionary[Celery, Engine] = WeakKeyDictionary()
        self._inherited: list[Any] = []

    def engine_of(self, app: Celery) -> Engine:
        with self._making:
            if app not in self._engines:
                self._engines[app] = _engine(app)
            return self._engines[app]

    def close(self) -> None:
        with self._making:
            engines = list(self._engines.values())
            self._engines.clear()
        for engine in engines:
            engine.dispose()

    def after_fork_in_child(self) -> None:
        """Kept, unused: once collected, they would close connections of the parent's."""
        self._inherited.append(self._engines)
        self._making, self._engines = threading.Lock(), WeakKeyDictionary()


_here = _Engines()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_here.after_fork_in_child)


def _engine(app: Celery) -> Engine:
    settings = Settings.load(app.conf, scheduler=False)
    url = settings.scheduler_db_uri
    if url is None:
        raise SettingsError([MISSING_URL])
    options = _options(url, settings.worker_db_engine_options, _Pool, {})
    with _told("worker_db_engine_options", url):
        return sa.create_engine(url, future=True, **options)


def _options(
    url: URL, own: dict[str, Any], pool: type[QueuePool], arguments: dict[str, Any]
) -> dict[str, Any]:
    """What an engine is made with: *own* go before ours, and those of the driver beside them."""
    options: dict[str, Any] = {"pool_pre_ping": True}
    if "poolclass" not in own:
        options |= {"poolclass": pool, "pool_timeout": POOL_TIMEOUT}
    if url.get_backend_name() == "sqlite":
        if "timeout" not in url.query:
            arguments = {"timeout": SQLITE_TIMEOUT, **arguments}
        arguments = {"check_same_thread": False, **arguments}
        if "poolclass" not in own and url.database in (None, "", ":memory:"):
            options |= {"pool_size": 1, "max_overflow": 0}  # one database, not one a connection
    return {**options, **own, "connect_args": {**arguments, **own.get("connect_args", {})}}


@contextmanager
def _told(setting: str, url: URL) -> Iterator[None]:
    """Say of what keeps SQLAlchemy from making an engine how it can be mended."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_driver(url, [error.name or url.get_driver_name()]) from error
    except (ArgumentError, TypeError) as error:
        raise SettingsError([f"{setting} does not suit {shown_url(url)}: {error}"]) from error


class _Pool(QueuePool):
    """A pool that connects as it hands out, not as it makes room for one connection more.

    One that fails is thus handed to the next who waits, who tries again. SQLAlchemy's own would
    leave the others waiting for a connection that nobody has, until ``pool_timeout``.
    """

    #: Else it would log beside SQLAlchemy's loggers, and their levels.
    _sqla_logger_namespace = "sqlalchemy.pool.QueuePool"

    def _create_connection(self) -> _ConnectionRecord:
        return _ConnectionRecord(self, connect=False)


class _AsyncPool(_Pool, AsyncAdaptedQueuePool):
    """The same for coroutines."""


def close() -> None:
    """Close the connections of synchronous sessions; a later session makes others."""
    _here.close()


def _on_shutdown(**_: Any) -> None:
    close()


signals.worker_process_shutdown.connect(_on_shutdown, weak=False, dispatch_uid=__name__)
signals.worker_shutdown.connect(_on_shutdown, weak=False, dispatch_uid=__name__)
