"""Reading the tables of django-celery-beat, in whatever database they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, NoSuchTableError, SQLAlchemyError

from ..config import shown_url
from ..errors import SourceError
from ..exchange.definition import Found
from ..exchange.django_celery_beat import SCHEDULES, TASK, Row, Tables
from ..exchange.django_celery_beat import read as read_tables
from ..urls import Unreadable, database_url
from .connections import STATEMENT_TIMEOUT
from .health import engine_to_look

_PREFIX = "django_celery_beat_"


def read(
    source: URL | str | Connection, timezone: str = "UTC", *, instants_in: str = "UTC"
) -> Found:
    """What the tables define, and what of them cannot be taken over.

    *source* is a synchronous URL of PostgreSQL, MySQL, MariaDB or SQLite, or a connection to any
    database. For the zones see `exchange.django_celery_beat.read`. Nothing is written.

    Raises:
        SourceError: the database cannot be reached or read, or the tables are not there.
    """
    tables = _tables(source) if isinstance(source, Connection) else _tables_at(source)
    return read_tables(tables, timezone, instants_in=instants_in)


def _tables_at(source: URL | str) -> Tables:
    try:
        engine = engine_to_look(database_url(source), None, STATEMENT_TIMEOUT)
    except (Unreadable, ArgumentError) as allowed:
        raise SourceError(f"{shown_url(source)}: allowed is {allowed}") from None
    except ImportError as error:
        raise SourceError(f"the driver of {shown_url(source)} cannot be had: {error}") from None
    try:
        with engine.connect().execution_options(reading=True) as connection:
            return _tables(connection)
    except SQLAlchemyError as error:
        told = " ".join(str(getattr(error, "orig", None) or error).split())
        if shown_url(source).endswith("…"):
            told = "why is not told, as the password seems to hold an @, which has to be %40"
        raise SourceError(f"{shown_url(source)} cannot be read: {told}") from None
    finally:
        engine.dispose()


def _tables(connection: Connection) -> Tables:
    return Tables(
        tasks=_rows(connection, "periodictask", TASK),
        schedules={
            kind: {row["id"]: row for row in _rows(connection, f"{kind}schedule", columns)}
            for kind, columns in SCHEDULES.items()
        },
    )


def _rows(connection: Connection, name: str, wanted: Sequence[str]) -> list[Row]:
    """The rows of one table, with those of the *wanted* columns that it has."""
    table = sa.table(_PREFIX + name)
    try:
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    except NoSuchTableError:
        there = set()
    if "id" not in there:
        raise SourceError(
            f"the table {table.name} is missing: the URL names another database, or one in which "
            "django-celery-beat has not been migrated"
        )
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(each) for each in ("id", *wanted) if each in there
    ]
    rows = connection.execute(sa.select(*columns).select_from(table).order_by(columns[0]))
    return [dict(row) for row in rows.mappings()]
