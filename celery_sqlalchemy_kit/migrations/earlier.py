"""From the nine columns that the earlier package of this name made to the table of today.

Every row and every value stays. That package removed rows whose task had gone from the code, so
its rows are marked ``origin = 'code'``. Its ``last_run_at`` was naive UTC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn, CreateTable

from ..columns import family
from ..errors import SchemaError
from ..tables import routines

NINE = (
    "id",
    "name",
    "task",
    "schedule",
    "last_run_at",
    "total_run_count",
    "active",
    "kwargs",
    "options",
)
_OLD_INDEXES = ("ix_routines_name", "ix_routines_last_run_at")
_MOST_NAMES_SHOWN = 20
_NAME_LENGTH = 255


def from_nine_columns(connection: Connection) -> bool:
    """Upgrade in place; False: it is not that table, as none of today's columns was missing.

    Such a table was made by somebody's own metadata, or an upgrade on MySQL or MariaDB was cut
    short; it may still lack indexes.

    Raises:
        SchemaError: the table is another one, or a name stands in it twice: the names are
            listed, and nothing has been changed.
    """
    there = {column["name"]: column for column in sa.inspect(connection).get_columns("routines")}
    missing = [name for name in NINE if name not in there]
    if missing:
        raise SchemaError(
            f"there is a table routines without {', '.join(missing)}: it belongs to something "
            "else; keep it in another schema or database"
        )
    _refuse_duplicates(connection)
    upgrades = bool(_new_columns(there))
    if upgrades:
        steps = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}
        steps[family(connection.dialect)](connection, there)
    _indexes(connection)
    if family(connection.dialect) == "mysql":
        connection.exec_driver_sql("ALTER TABLE routines ALTER COLUMN origin SET DEFAULT NULL")
    elif upgrades:
        unmarked = routines.c.origin.is_(None)
        connection.execute(routines.update().where(unmarked).values(origin="code"))
    return upgrades


def _refuse_duplicates(connection: Connection) -> None:
    # MySQL's default collation would take 'a' and 'A' for one name; the upgraded column does not.
    name: Any = sa.column("name", sa.String)
    if family(connection.dialect) == "mysql":
        name = sa.cast(name, sa.LargeBinary)
    rows: Sequence[Any] = connection.execute(
        sa.select(sa.func.min(sa.column("name")), sa.func.count())
        .select_from(sa.table("routines"))
        .group_by(name)
        .having(sa.func.count() > 1)
        .order_by(sa.func.min(sa.column("name")))
    ).all()
    if rows:
        shown = ", ".join(f"{name!r} ({count} rows)" for name, count in rows[:_MOST_NAMES_SHOWN])
        more = f" and {len(rows) - _MOST_NAMES_SHOWN} more" if len(rows) > _MOST_NAMES_SHOWN else ""
        raise SchemaError(
            f"the table routines holds {len(rows)} name(s) more than once: {shown}{more}. A name "
            "must be unique: rename or delete the superfluous rows and start again. Nothing has "
            "been changed"
        )


def _new_columns(there: dict[str, Any]) -> list[sa.Column[Any]]:
    return [column for column in routines.columns if column.name not in there]


def _ddl(connection: Connection, column: sa.Column[Any]) -> str:
    return str(CreateColumn(column).compile(dialect=connection.dialect))


def _postgresql(connection: Connection, there: dict[str, Any]) -> None:
    # A column that is wide enough is left alone: PostgreSQL alters none that a view uses.
    narrow = [name for name in ("name", "task") if _width(there[name]) < _NAME_LENGTH]
    changes = [
        *(f"ALTER COLUMN {name} TYPE varchar(255)" for name in narrow),
        "ALTER COLUMN id SET DEFAULT gen_random_uuid()",
        "ALTER COLUMN total_run_count SET DEFAULT 0",
        "ALTER COLUMN active SET DEFAULT true",
    ]
    if not getattr(there["last_run_at"]["type"], "timezone", False):
        changes.append(
            "ALTER COLUMN last_run_at TYPE timestamptz USING last_run_at AT TIME ZONE 'UTC'"
        )
    changes += _primary_key(connection)
    changes += [f"ADD COLUMN {_ddl(connection, column)}" for column in _new_columns(there)]
    connection.exec_driver_sql(f"ALTER TABLE routines {', '.join(changes)}")


def _width(column: Any) -> float:
    length = getattr(column["type"], "length", None)
    return math.inf if length is None else float(length)


def _mysql(connection: Connection, there: dict[str, Any]) -> None:
    id_length = getattr(there["id"]["type"], "length", None)
    if id_length != 32:  # MariaDB's own uuid type, or text with dashes
        connection.exec_driver_sql("ALTER TABLE routines MODIFY id CHAR(36) NOT NULL")
        connection.exec_driver_sql("UPDATE routines SET id = replace(id, '-', '')")
    kept = [column for column in routines.columns if column.name in NINE]
    changes = [f"MODIFY {_ddl(connection, column)}" for column in kept]
    changes += _primary_key(connection)
    for column in _new_columns(there):
        # A default marks the rows in the same statement, so that no interruption comes between.
        marked = " DEFAULT 'code'" if column is routines.c.origin else ""
        changes.append(f"ADD COLUMN {_ddl(connection, column)}{marked}")
    connection.exec_driver_sql(f"ALTER TABLE routines {', '.join(changes)}")


def _sqlite(connection: Connection, there: dict[str, Any]) -> None:
    """SQLite cannot add a column with a default that is worked out: the table is copied.

    In the order that SQLite's documentation gives (lang_altertable, "Making Other Kinds Of Table
    Schema Changes"), so that views and foreign keys of others still mean this table.
    """
    if connection.exec_driver_sql("PRAGMA foreign_keys").scalar():
        # It cannot be switched off in a transaction, and dropping a table would delete its rows.
        raise SchemaError(
            "the table routines cannot be upgraded with PRAGMA foreign_keys = ON: rows that "
            "refer to it would go with it. Leave that out for this upgrade"
        )
    kept = _sqlite_definitions(connection)
    copy = routines.to_metadata(sa.MetaData(), name="routines_upgraded")
    copy.indexes.clear()
    connection.execute(CreateTable(copy))
    for name in there.keys() - routines.columns.keys():
        declared = there[name]["type"].compile(connection.dialect)
        connection.exec_driver_sql(f'ALTER TABLE routines_upgraded ADD COLUMN "{name}" {declared}')
    read = {
        "last_run_at": "coalesce(strftime('%Y-%m-%d %H:%M:%f000', last_run_at), last_run_at)",
        "active": "coalesce(active, 1)",
    }
    names = ", ".join(f'"{name}"' for name in there)
    values = ", ".join(read.get(name, f'"{name}"') for name in there)
    connection.exec_driver_sql(
        f"INSERT INTO routines_upgraded ({names}) SELECT {values} FROM routines"
    )
    connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    connection.exec_driver_sql("DROP TABLE routines")
    connection.exec_driver_sql("ALTER TABLE routines_upgraded RENAME TO routines")
    connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
    for definition in kept:
        connection.exec_driver_sql(definition)


def _sqlite_definitions(connection: Connection) -> list[str]:
    """The DDL of indexes and triggers that somebody else has made on the table."""
    found = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'routines' AND sql IS NOT NULL "
        "AND type IN ('index', 'trigger')"
    )
    return [sql for name, sql in found.all() if name not in _OLD_INDEXES]


def _primary_key(connection: Connection) -> list[str]:
    found = sa.inspect(connection).get_pk_constraint("routines")
    return [] if found["constrained_columns"] else ["ADD PRIMARY KEY (id)"]


def _existing_indexes(connection: Connection) -> list[str]:
    found = sa.inspect(connection).get_indexes("routines")
    return [str(index["name"]) for index in found if index["name"]]


def _indexes(connection: Connection) -> None:
    there = _existing_indexes(connection)
    on = " ON routines" if family(connection.dialect) == "mysql" else ""
    for name in _OLD_INDEXES:
        if name in there:
            connection.exec_driver_sql(f"DROP INDEX {name}{on}")
    for index in routines.indexes:
        if index.name not in there:
            index.create(connection)
