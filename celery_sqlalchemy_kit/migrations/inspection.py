"""What there is of the tables in a database, for people to be told."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import family
from ..tables import schema_version
from .triggers import statements

_THERE = {
    "postgresql": (
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') "
        "AND tgrelid IN (to_regclass('routines'), to_regclass('routine_runs'))"
    ),
    "mysql": (
        "SELECT trigger_name FROM information_schema.triggers "
        "WHERE event_object_schema = database()"
    ),
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
}
_CREATED = re.compile(r"CREATE TRIGGER (\w+)")


def version(connection: Connection) -> int | None:
    """The version of the tables; None: they are not there, or were made by somebody else."""
    if not sa.inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(sa.select(schema_version.c.version)).scalar()


def missing_triggers(connection: Connection) -> list[str]:
    """The triggers that are not in force, or cannot be seen (MySQL shows them to few)."""
    dialect = family(connection.dialect)
    there = set(connection.exec_driver_sql(_THERE[dialect]).scalars())
    created = (_CREATED.search(statement) for statement in statements(dialect))
    return sorted({found[1] for found in created if found} - there)
