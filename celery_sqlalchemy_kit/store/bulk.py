"""Many rows in few statements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection


def insert_all(
    connection: Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Insert *rows*, each of which has all of *columns*.

    On PostgreSQL as one JSON parameter: a fifth of the time of as many parameters.

    Raises:
        sqlalchemy.exc.IntegrityError: a row is there already.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        statement = _from_json(table, columns)
        connection.execute(statement, {"rows": json.dumps(rows, default=str)})
    else:
        connection.execute(table.insert(), list(rows))


@lru_cache(maxsize=16)
def _from_json(table: sa.Table, columns: tuple[str, ...]) -> sa.TextClause:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = {name: table.c[name].type.compile(dialect) for name in columns}
    read = ", ".join(f'"{n}" {"text" if t == "JSON" else t}' for n, t in types.items())
    chosen = ", ".join(f'line."{n}"' + ("::json" if t == "JSON" else "") for n, t in types.items())
    names = ", ".join(f'"{name}"' for name in columns)
    statement = (
        f"INSERT INTO {table.name} ({names}) SELECT {chosen} "
        f"FROM json_to_recordset(CAST(:rows AS json)) AS line ({read})"
    )
    return sa.text(statement.replace("::", r"\:\:"))
