"""What the database tells of itself and of its routines, for ``celery routines check``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from .. import migrations
from ..clock import here
from ..columns import family, raw, read_instant, utcnow
from ..errors import SchemaError
from ..migrations import hashes, inspection
from ..tables import routines

#: Rows with an error that are told by name.
TOLD = 10
#: Questions for the time, of which the quickest answer counts.
ASKED = 3

_c = routines.c


@dataclass(frozen=True)
class Tables:
    """*version*: None if they bear none. *lacking*: what is missing, in words; None: nothing."""

    version: int | None
    lacking: str | None = None
    missing_triggers: tuple[str, ...] = ()
    #: Two columns stand in for triggers; see `migrations.hashes`.
    stand_in: bool = False


@dataclass(frozen=True)
class Rows:
    """*tasks*: how many active routines name each. *faulty*: names of those with an ``error``, at
    most `TOLD` of *faults*."""

    tasks: Mapping[str, int]
    faulty: Mapping[str, str]
    faults: int = 0


def server(engine: Engine) -> str:
    """The name and version of the database: ``PostgreSQL 16.2``."""
    with _reading(engine) as connection:
        dialect = connection.dialect
        names = {"postgresql": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}
        name = "MariaDB" if getattr(dialect, "is_mariadb", False) else names[family(dialect)]
        return f"{name} {'.'.join(map(str, dialect.server_version_info or ()))}".strip()


def tables(engine: Engine) -> Tables:
    """What there is of the tables."""
    with _reading(engine) as connection:
        version = inspection.version(connection)
    try:
        migrations.verify(engine)
    except SchemaError as error:
        return Tables(version, str(error))
    with _reading(engine) as connection:
        missing = tuple(inspection.missing_triggers(connection))
        return Tables(version, None, missing, hashes.stand_in(connection))


def rows(engine: Engine, namespace: str) -> Rows:
    """The tasks and the faults of active routines."""
    mine = sa.and_(_c.namespace == namespace, _c.active)
    faulty = sa.and_(mine, _c.error.is_not(None))
    counted = sa.select(_c.task, sa.func.count().label("routines")).where(mine).group_by(_c.task)
    named = sa.select(_c.name, _c.error).where(faulty).order_by(_c.name).limit(TOLD)
    with _reading(engine) as connection:
        tasks = {row.task: row.routines for row in connection.execute(counted)}
        faults = {row.name: row.error for row in connection.execute(named)}
        number = connection.execute(sa.select(sa.func.count()).where(faulty)).scalar_one()
    return Rows(tasks, faults, number)


def offset(engine: Engine, now: Callable[[], datetime] = here) -> timedelta:
    """By how much the database's clock is before this host's; exact to half an answer's time."""
    found = []
    with _reading(engine) as connection:
        for _ in range(ASKED):
            asked = now()
            text = connection.execute(sa.select(raw(utcnow()))).scalar_one()
            took = now() - asked
            found.append((took, read_instant(text) - asked - took / 2))
    return min(found)[1]


def _reading(engine: Engine) -> Connection:
    return engine.connect().execution_options(reading=True)
