"""The engines that commands use: one for each kind of work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.engine import URL, Connection, Engine

from ..config import MISSING_URL, Settings
from ..errors import SettingsError
from ..store.connections import MIGRATION_TIMEOUT, make_engine
from ..store.health import engine_to_look
from ..store.transactions import rehearse, transact

T = TypeVar("T")
Work = Callable[[Connection], T]

#: Seconds within which a database that is only looked at has to answer.
PATIENCE = 15.0


def together(routines: Any, work: Work[T]) -> T:
    """What *work* returns; the verbs that it passes its connection to are one transaction."""
    return transact(client(routines), work)


def rehearsed(routines: Any, work: Work[T]) -> T:
    """What *work* returns, and nothing else of what it does."""
    return rehearse(client(routines), work)


def present(routines: Any) -> datetime:
    """The present, as the database has it."""
    now: datetime = transact(client(routines), routines.verbs.desk.present)
    return now


def client(routines: Any) -> Engine:
    """The one that the app's `Routines` use."""
    engine: Engine = routines.verbs.engine()
    return engine


def to_migrate(settings: Settings) -> Engine:
    """One that has time for large tables."""
    url, schema = database(settings), settings.scheduler_db_schema
    return make_engine(url, schema=schema, statement_timeout=MIGRATION_TIMEOUT)


def to_look(settings: Settings) -> Engine:
    """One that makes no file, and gives up soon."""
    return engine_to_look(database(settings), settings.scheduler_db_schema, PATIENCE)


def database(settings: Settings) -> URL:
    """Where `Routines` work.

    Raises:
        SettingsError: nothing says so.
    """
    if settings.scheduler_db_uri is None:
        raise SettingsError([MISSING_URL])
    return settings.scheduler_db_uri
