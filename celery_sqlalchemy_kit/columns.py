"""Column types and defaults that mean the same on every database, offline and live.

SQLAlchemy's own differ where it hurts: ``Uuid`` compiles to another type offline than on a live
MariaDB, ``DateTime`` drops fractions of a second on MySQL and the zone on PostgreSQL, and the
default collation of MySQL takes ``a`` for ``A``.

The kit's own engines call MariaDB ``mysql``; those of others may call it ``mariadb``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from .clock import UTC, as_utc

INSTANT_FORMAT = "%Y-%m-%d %H:%M:%S.%f"


def family(dialect: sa.Dialect) -> str:
    """``postgresql``, ``mysql`` (also for MariaDB) or ``sqlite``."""
    return "mysql" if dialect.name == "mariadb" else dialect.name


def on_mysql(type_: Any, instead: Any) -> Any:
    """*type_*, which is *instead* on MySQL and MariaDB."""
    return type_.with_variant(instead, "mysql").with_variant(instead, "mariadb")


class Id(TypeDecorator[UUID]):
    """``uuid`` on PostgreSQL, 32 hex digits elsewhere.

    Takes a UUID, or text as it was read from the same column: SQLite lets people store the form
    with dashes, and a row must be found again by what it holds.
    """

    impl = sa.CHAR(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        if family(dialect) == "mysql":
            return dialect.type_descriptor(mysql.CHAR(32, charset="ascii", collation="ascii_bin"))
        return dialect.type_descriptor(sa.CHAR(32))

    def process_bind_param(self, value: UUID | str | None, dialect: sa.Dialect) -> str | None:
        if isinstance(value, UUID):
            return str(value) if dialect.name == "postgresql" else value.hex
        return value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> UUID | None:
        return None if value is None else UUID(str(value))


class Instant(TypeDecorator[datetime]):
    """An instant in UTC: Python sees aware UTC only, whatever the session's time zone.

    ``timestamptz`` on PostgreSQL, ``DATETIME(6)`` on MySQL and MariaDB, text
    ``YYYY-MM-DD HH:MM:SS.ffffff`` on SQLite, which sorts as time does.
    """

    impl = sa.String(26)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.TIMESTAMP(timezone=True))
        if family(dialect) == "mysql":
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.String(26))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        instant = as_utc(value)
        if dialect.name == "postgresql":
            return instant
        naive = instant.replace(tzinfo=None)
        return naive if family(dialect) == "mysql" else naive.strftime(INSTANT_FORMAT)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if not isinstance(value, datetime):
            return read_instant(str(value))
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class JsonText(TypeDecorator[str]):
    """``json``, of which Python sees the text.

    Encoding and decoding is the store's: a value that is copied from table to table needs
    neither, and one that cannot be decoded must not fail the rows beside it.
    """

    impl = sa.JSON
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> None:
        return None


class MappedId(Id):
    """`Id` for mapped classes: what is no UUID is shown as the text that stands there.

    SQLite lets people store anything, and one bad value must not fail the rows beside it.
    """

    cache_ok = True

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        try:
            return super().process_result_value(value, dialect)
        except ValueError:
            return value


class MappedInstant(Instant):
    """`Instant` for mapped classes: what is no instant is shown as the text that stands there."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        try:
            return super().process_result_value(value, dialect)
        except ValueError:
            return value


class MappedJson(TypeDecorator[Any]):
    """``json`` for mapped classes, of which Python sees the value; None is SQL's null.

    What is no JSON is shown as the text that stands there.
    """

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self.impl.coerce_compared_value(op, value)  # for ``Routine.kwargs["a"]``

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        decode = super().result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            try:
                return value if decode is None else decode(value)
            except (ValueError, RecursionError):
                return value

        return read


def read_instant(text: str) -> datetime:
    """An instant from the text form ``YYYY-MM-DD HH:MM:SS[.ffffff]``: UTC, if it says no offset.

    Raises:
        ValueError: it is something else.
    """
    try:
        # As the kit writes them: at once in UTC, which takes a fifth of the time.
        return datetime.fromisoformat(f"{text}+00:00")
    except ValueError:
        instant = datetime.fromisoformat(text.strip())
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def instant_of(text: str | None) -> datetime | None:
    """The same; None too for what is no instant, as people may have written anything."""
    try:
        return None if text is None else read_instant(text)
    except ValueError:
        return None


def name_type() -> sa.types.TypeEngine[str]:
    """A name of at most 255 characters; ``a`` is not ``A`` on any database."""
    exact = mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin")
    type_: sa.types.TypeEngine[str] = on_mysql(sa.String(255), exact)
    return type_


class utcnow(FunctionElement[datetime]):
    """The database's present in UTC; fixed within a statement, so that an index serves it."""

    type = Instant()
    inherit_cache = True


@compiles(utcnow, "postgresql")
def _utcnow_postgresql(element: utcnow, compiler: Any, **kw: Any) -> str:
    return "statement_timestamp()"


@compiles(utcnow, "mysql", "mariadb")
def _utcnow_mysql(element: utcnow, compiler: Any, **kw: Any) -> str:
    return "(utc_timestamp(6))"


@compiles(utcnow, "sqlite")
def _utcnow_sqlite(element: utcnow, compiler: Any, **kw: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


class new_id(FunctionElement[UUID]):
    """A random id, made by the database."""

    type = Id()
    inherit_cache = True


@compiles(new_id, "postgresql")
def _new_id_postgresql(element: new_id, compiler: Any, **kw: Any) -> str:
    return "gen_random_uuid()"


@compiles(new_id, "mysql", "mariadb")
def _new_id_mysql(element: new_id, compiler: Any, **kw: Any) -> str:
    return "(replace(uuid(), '-', ''))"


@compiles(new_id, "sqlite")
def _new_id_sqlite(element: new_id, compiler: Any, **kw: Any) -> str:
    return "(lower(hex(randomblob(16))))"


class raw(FunctionElement[str]):
    """A column as text, so that a value which cannot be decoded fails its own row only.

    SQLAlchemy decodes while it fetches: one bad JSON value would fail the whole result.
    """

    type = sa.Text()
    inherit_cache = True
    name = "raw"

    def __init__(self, column: sa.ColumnElement[Any]) -> None:
        self.of = column.type
        super().__init__(column)


@compiles(raw, "postgresql")
def _raw_postgresql(element: raw, compiler: Any, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    if isinstance(element.of, Instant):
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    return f"CAST({column} AS text)"


@compiles(raw, "mysql", "mariadb")
def _raw_mysql(element: raw, compiler: Any, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS char)"


@compiles(raw, "sqlite")
def _raw_sqlite(element: raw, compiler: Any, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS text)"
