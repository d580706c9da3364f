"""Versions of the tables: made, upgraded in place, or verified where somebody else makes them.

`upgrade` and `downgrade` are for Alembic migrations of your own, `sql` for other tools.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError, ProgrammingError

from ..errors import SchemaError
from ..locks import alone
from ..tables import metadata, schema_version
from .autogenerate import include_object, render_item
from .operations import downgrade, upgrade
from .scripts import sql
from .versions import CURRENT, bring, create_schema

__all__ = [
    "CURRENT",
    "downgrade",
    "include_object",
    "is_current",
    "migrate",
    "render_item",
    "sql",
    "upgrade",
    "verify",
]


#: Without the catalogue, which takes longer to ask; fails where one of the two tables is missing.
_VERSION = sa.text(
    "SELECT version FROM routine_schema WHERE NOT EXISTS (SELECT 1 FROM routines WHERE 1 = 0)"
)
#: By what it fails, where that is not ProgrammingError.
_ABSENT = {"sqlite": OperationalError}


def is_current(engine: Engine) -> bool:
    """Whether `migrate` has nothing to do; waits for nobody."""
    try:
        with engine.connect().execution_options(reading=True) as connection:
            return bool(connection.execute(_VERSION).scalar() == CURRENT)
    except _ABSENT.get(engine.dialect.name, ProgrammingError):
        return False


def migrate(engine: Engine) -> str | None:
    """Create the tables, or upgrade them; says what was done, None if nothing was left to do.

    Safe to call from several processes at once. PostgreSQL and SQLite do it in one transaction;
    on MySQL and MariaDB, where DDL commits by itself, an interrupted upgrade goes on where it
    stopped.

    Raises:
        SchemaError: ``routines`` is neither ours nor the earlier package's, holds a name twice,
            or is newer than this code; or its schema is not there and cannot be made. Nothing has
            been changed.
    """
    with alone(engine, "routines schema") as connection:
        schema = connection.get_execution_options().get("schema")
        if schema is not None:
            create_schema(connection, schema)
        return bring(connection)


def verify(engine: Engine) -> None:
    """Check that the tables are there, for those who create them by migrations of their own.

    Raises:
        SchemaError: names the tables or columns that are missing.
    """
    with engine.connect().execution_options(reading=True) as connection:
        inspector = sa.inspect(connection)
        for table in metadata.sorted_tables:
            if table is schema_version:
                continue
            if not inspector.has_table(table.name):
                raise SchemaError(
                    f"the table {table.name} is missing: set create_table to true, or create it"
                )
            there = {column["name"] for column in inspector.get_columns(table.name)}
            missing = [column.name for column in table.columns if column.name not in there]
            if missing:
                raise SchemaError(f"the table {table.name} lacks {', '.join(missing)}")
