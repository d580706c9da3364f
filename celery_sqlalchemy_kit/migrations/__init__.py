"""Versions of the tables: made, upgraded in place, or verified where somebody else makes them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.schema import CreateSchema

from ..errors import SchemaError
from ..locks import alone
from ..tables import metadata, routines, schema_version
from . import triggers, upgrade

#: The version that this code works with.
CURRENT = 1


def is_current(engine: Engine) -> bool:
    """Whether `migrate` has nothing to do; waits for nobody."""
    with engine.connect().execution_options(reading=True) as connection:
        return _version(connection) == CURRENT


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
        _create_schema(connection)
        found = _version(connection)
        if found == CURRENT:
            return None
        if found is not None:
            raise SchemaError(
                f"the tables are of version {found}, this code works with {CURRENT}: upgrade "
                "celery-sqlalchemy-kit"
            )
        done = "created the tables"
        if sa.inspect(connection).has_table(routines.name):
            done = _upgrade(connection)
        metadata.create_all(connection)
        triggers.create(connection)
        connection.execute(schema_version.insert().values(version=CURRENT))
        return done


def _create_schema(connection: Connection) -> None:
    """The one that the engine was made for, unless it is there, as others may have made it."""
    schema = connection.get_execution_options().get("schema")
    if schema is None:
        return
    there = sa.select(sa.func.to_regnamespace(f'"{schema}"').is_not(None))
    if connection.execute(there).scalar():
        return
    try:
        connection.execute(CreateSchema(schema))
    except ProgrammingError as error:
        told = " ".join(str(error.orig).split())
        raise SchemaError(f"there is no schema {schema}, and none can be made: {told}") from error


def _upgrade(connection: Connection) -> str:
    try:
        upgraded = upgrade.from_nine_columns(connection)
    except (DataError, NotSupportedError, IntegrityError) as error:
        told = " ".join(str(error.orig).split())
        raise SchemaError(f"the table routines cannot be upgraded: {told}") from error
    return "upgraded the table routines" if upgraded else "completed the tables"


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


def _version(connection: Connection) -> int | None:
    if not sa.inspect(connection).has_table(schema_version.name):
        return None
    found = connection.execute(sa.select(schema_version.c.version)).scalar()
    if found is not None and not sa.inspect(connection).has_table(routines.name):
        return None
    return None if found is None else int(found)
