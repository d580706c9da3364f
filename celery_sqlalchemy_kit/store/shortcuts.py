"""Single statements straight through the driver, for what is done with every run.

What SQLAlchemy does about each execution, and each transaction, takes several times what the driver
does; and PostgreSQL is asked twice more, to begin a transaction and to end it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from .transactions import tried


class Shortcut:
    """One statement that writes, each time in a transaction of its own.

    Deadlines, locks and connections that are cut off are treated as in `transactions.transact`.
    """

    def __init__(self, engine: Engine, statement: Any) -> None:
        self._engine, self._statement = engine, statement
        self._text: str | None = None
        self._names: list[str] | None = None
        self._values: dict[str, Any] = {}
        self._processors: dict[str, Callable[[Any], Any]] = {}

    def rows(self, values: Mapping[str, Any]) -> int:
        """How many rows it has changed, with *values* for its parameters of these names."""
        return tried(self._connected, lambda connection: self._execute(connection, values))

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection from the engine's pool, whose errors are SQLAlchemy's.

        Whatever was raised, it is not used again: nobody knows what it has left behind.
        """
        driver: Any = self._engine.dialect.dbapi
        connection: Any = None
        try:
            connection = self._engine.raw_connection()
            yield connection
        except driver.Error as error:
            cut_off = self._engine.dialect.is_disconnect(error, connection, None)
            raise DBAPIError.instance(
                self._text,
                None,
                error,
                driver.Error,
                connection_invalidated=cut_off,
                dialect=self._engine.dialect,
            ) from error
        else:
            connection.close()
            connection = None
        finally:
            if connection is not None:
                connection.invalidate()

    def _execute(self, connection: Any, values: Mapping[str, Any]) -> int:
        # After the first connection: SQLAlchemy knows the server then.
        text = self._text or self._compile()
        told = {**self._values, **values}
        for name, process in self._processors.items():
            told[name] = process(told[name])
        given = told if self._names is None else tuple(told[name] for name in self._names)
        dialect, driver = self._engine.dialect, connection.driver_connection
        commits_itself = dialect.name == "postgresql"
        if commits_itself:
            driver.autocommit = True
        cursor = connection.cursor()
        dialect.do_execute(cursor, text, given)
        rows: int = cursor.rowcount
        cursor.close()
        if commits_itself:
            driver.autocommit = False
        else:
            dialect.do_commit(connection)
        return rows

    def _compile(self) -> str:
        dialect = self._engine.dialect
        compiled = self._statement.compile(dialect=dialect)
        self._names = list(compiled.positiontup) if compiled.positional else None
        self._values = dict(compiled.params)
        for bind, name in compiled.bind_names.items():
            if process := _processor(bind.type, dialect):
                self._processors[name] = process
        self._text = text = str(compiled)
        return text


def _processor(type_: Any, dialect: Any) -> Callable[[Any], Any] | None:
    """What SQLAlchemy does to a value of that type before the driver gets it."""
    process: Callable[[Any], Any] | None
    process = type_.dialect_impl(dialect).bind_processor(dialect)
    return process
