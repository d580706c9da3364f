"""Who looks after routines by hand, and whose: what `Routines` and the command line work with.

The functions of these modules (`routine_list`, `run_list`, `edits`, `one_offs`, `orders`,
`changes`) take a connection that somebody else has opened, and neither commit nor roll back: they
take part in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..clock import DATABASE, Clock
from ..columns import raw, read_instant
from ..migrations.triggers import CHANNEL
from .present import now_of


@dataclass(frozen=True)
class Desk:
    """*who* is written into ``routine_changes``; *rescue_after* is that of the schedulers."""

    namespace: str = ""
    timezone: str = "UTC"
    who: str = ""
    allowed_tasks: Sequence[str] | None = None
    rescue_after: timedelta = timedelta(seconds=10)
    clock: Clock = DATABASE

    def now(self) -> sa.ColumnElement[Any]:
        """The present, as an expression."""
        return now_of(self.clock)

    def present(self, connection: Connection) -> datetime:
        """The present, asked of the database."""
        return read_instant(connection.execute(sa.select(raw(self.now()))).scalar_one())


def may_be_stale(connection: Connection) -> bool:
    """Whether what is read without a lock may be older than what a lock was had for: in the
    caller's transaction on MySQL, which is at REPEATABLE READ unless somebody says otherwise."""
    return connection.dialect.name == "mysql"


def wake(connection: Connection) -> None:
    """Have schedulers look once this is committed; where they do not hear, they look by the
    second, or see the file change (SQLite)."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))
