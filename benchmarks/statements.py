"""What PostgreSQL has been asked, and how often; counted by its extension pg_stat_statements."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

_FRAME = ("BEGIN", "COMMIT", "ROLLBACK")


@dataclass(frozen=True)
class Asked:
    """Of one kind: its text, how often, and the milliseconds it took in all."""

    text: str
    calls: int
    milliseconds: float


class Uncounted(RuntimeError):
    """The server does not count: it needs ``shared_preload_libraries = 'pg_stat_statements'``."""


class Statements:
    """Counts from `reset` on, on a connection that is not counted itself."""

    def __init__(self, engine):
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
                connection.exec_driver_sql("SELECT count(*) FROM pg_stat_statements")
        except sa.exc.DBAPIError as error:
            raise Uncounted(str(error.orig).strip()) from error

    def reset(self):
        with self._engine.connect() as connection:
            connection.exec_driver_sql("SELECT pg_stat_statements_reset()")

    def asked(self):
        """The statements since then, those that took longest first."""
        chosen = sa.text(
            """
            SELECT query, calls, total_exec_time FROM pg_stat_statements
            WHERE toplevel AND dbid = (SELECT oid FROM pg_database
                                       WHERE datname = current_database())
            AND query NOT LIKE '%pg_stat_statements%' ORDER BY total_exec_time DESC"""
        )
        with self._engine.connect() as connection:
            return [
                Asked(" ".join(text.split()), *rest) for text, *rest in connection.execute(chosen)
            ]


def counted(asked):
    """How many statements, without those that begin and end transactions; and how many commits."""
    statements = sum(each.calls for each in asked if not each.text.startswith(_FRAME))
    return statements, sum(each.calls for each in asked if each.text.startswith("COMMIT"))


def calls(asked, start):
    """How often one was asked that begins so."""
    return sum(each.calls for each in asked if each.text.startswith(start))
