"""What a version of the tables is, and how a database comes by it."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError, NotSupportedError, ProgrammingError

from ..errors import SchemaError
from ..tables import metadata, routines, schema_version
from . import earlier, triggers

#: The version that this code works with.
CURRENT = 1


def version_of(connection: Connection) -> int | None:
    """None: the tables have no version, are not complete, or are not there."""
    if not sa.inspect(connection).has_table(schema_version.name):
        return None
    found = connection.execute(sa.select(schema_version.c.version)).scalar()
    if found is not None and not sa.inspect(connection).has_table(routines.name):
        return None
    return None if found is None else int(found)


def bring(connection: Connection, without: Collection[str] = ()) -> str | None:
    """See `migrate`, which it is without its lock. Tables of the names *without* are not made."""
    found = version_of(connection)
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
    made = [table for table in metadata.sorted_tables if table.name not in without]
    metadata.create_all(connection, tables=made)
    triggers.create(connection)
    connection.execute(schema_version.insert().values(version=CURRENT))
    return done


def _upgrade(connection: Connection) -> str:
    try:
        upgraded = earlier.from_nine_columns(connection)
    except (DataError, NotSupportedError, IntegrityError) as error:
        told = " ".join(str(error.orig).split())
        raise SchemaError(f"the table routines cannot be upgraded: {told}") from error
    return "upgraded the table routines" if upgraded else "completed the tables"


def create_schema(connection: Connection, schema: str) -> None:
    """Make PostgreSQL's *schema*, unless it is there, as others may have made it."""
    try:
        connection.exec_driver_sql(schema_ddl(schema))
    except ProgrammingError as error:
        told = str(error.orig).partition("\n")[0]
        raise SchemaError(f"there is no schema {schema}, and none can be made: {told}") from error


def schema_ddl(schema: str) -> str:
    """CREATE SCHEMA IF NOT EXISTS would ask for the right to make one that is there."""
    return (
        f"""DO $$ BEGIN IF to_regnamespace('"{schema}"') IS NULL THEN """
        f"""CREATE SCHEMA "{schema}"; END IF; END $$"""
    )
