"""The tables as SQL, for tools that take text, and for Alembic's ``--sql``.

It comes to what `migrate` makes of an empty database. Dialects are SQLAlchemy's plain ones, so
that the text does not depend on drivers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.schema import CreateIndex, CreateTable

from ..config import schema_name, shown_url
from ..errors import SchemaError
from ..tables import metadata, schema_version
from ..urls import Unreadable, database_url
from . import triggers
from .versions import CURRENT, schema_ddl

NAMES = ("postgresql", "mysql", "mariadb", "sqlite")
_PATH = "routines.search_path"


def sql(database: str | URL, *, schema: str | None = None) -> str:
    """The script that makes the tables in an empty database; it ends with a line feed.

    *database*: ``postgresql``, ``mysql``, ``mariadb`` or ``sqlite``, or the URL of one.
    *schema*: PostgreSQL's, made if it is missing; the script's session looks where it did before.

    The script begins no transaction: ``psql --single-transaction`` does. For MySQL and MariaDB it
    says DELIMITER, as their clients understand.

    Raises:
        SchemaError: there are no such tables for *database*, or no such *schema*.
    """
    try:
        url = database_url(f"{database}://" if database in NAMES else database)
    except Unreadable as allowed:
        shown = database if str(database).isalnum() else shown_url(database)
        what = ", ".join(NAMES)
        raise SchemaError(f"{shown!r}: allowed is one of {what}, or {allowed}") from None
    family = url.get_backend_name()
    check_schema(schema, family)
    title = f"-- The tables of celery-sqlalchemy-kit, version {CURRENT}."
    before, after = around(schema)
    statements = script(family, [*before, *creation(family), *after])
    return "\n\n".join([title, *statements]) + "\n"


def creation(family: str, without: Collection[str] = ()) -> Iterator[str]:
    """Tables but for those of the names *without*, indexes, triggers and version."""
    dialect_class: Any = make_url(f"{family}://").get_dialect()
    # Others would double a percent sign.
    dialect = dialect_class(paramstyle="named")
    for table in metadata.sorted_tables:
        if table.name not in without:
            yield str(CreateTable(table).compile(dialect=dialect))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                yield str(CreateIndex(index).compile(dialect=dialect))
    yield from triggers.statements(family)
    yield f"INSERT INTO {schema_version.name} (version) VALUES ({CURRENT})"


def removal(family: str, without: Collection[str] = ()) -> Iterator[str]:
    """The reverse; tables of the names *without* stay, and lose their triggers."""
    drops = triggers.removal(family)
    if without:
        yield from (drop for drop in drops if "TRIGGER" in drop)
    for table in reversed(metadata.sorted_tables):
        if table.name not in without:
            yield f"DROP TABLE IF EXISTS {table.name}"
    # They go when no trigger calls them any more.
    yield from (drop for drop in drops if "FUNCTION" in drop)
    if schema_version.name in without:
        yield f"DELETE FROM {schema_version.name}"


def around(schema: str | None) -> tuple[list[str], list[str]]:
    """What comes before and after statements that are to be carried out in PostgreSQL's *schema*.

    The session looks elsewhere for what is not the kit's, such as Alembic's own table.
    """
    if schema is None:
        return [], []
    return (
        [
            schema_ddl(schema),
            f"SELECT set_config('{_PATH}', current_setting('search_path'), false)",
            f'SET search_path = "{schema}"',
        ],
        [f"SELECT set_config('search_path', current_setting('{_PATH}'), false)"],
    )


def script(family: str, statements: Iterable[str]) -> Iterator[str]:
    """Each statement as it stands in a file, ended."""
    for statement in statements:
        text = statement.strip()
        if family == "mysql" and ";" in text:
            yield f"DELIMITER //\n{text}//\nDELIMITER ;"
        else:
            yield f"{text};"


def check_schema(schema: str | None, family: str) -> None:
    """Whether the tables may be in *schema* of a database of that *family*.

    Raises:
        SchemaError: they may not.
    """
    if schema is None:
        return
    try:
        schema_name(schema)
    except Unreadable as allowed:
        raise SchemaError(f"schema = {schema!r}: allowed is {allowed}") from None
    if family != "postgresql":
        raise SchemaError(f"schema = {schema!r}: allowed with PostgreSQL only")
