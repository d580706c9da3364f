"""What a database error means: try again at once, wait until the server is back, or a fault."""

from __future__ import annotations

import enum
import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ..errors import StoreAwayError, StoreBusyError


class Fault(enum.Enum):
    """The kinds of trouble with a database."""

    #: Deadlock, serialization failure, lock not had in time: the same again may well succeed.
    TRANSIENT = "transient"
    #: The server cannot be reached, or went away.
    AWAY = "away"
    #: Anything else: a fault of ours, of the tables or of the rights.
    OTHER = "other"


# PostgreSQL: serialization_failure, deadlock_detected, lock_not_available.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03"})
# MySQL and MariaDB: lock wait timeout, deadlock, record has changed since last read.
_TRANSIENT_NUMBERS = frozenset({1205, 1213, 1020})

# PostgreSQL: connection, resources, shutdown and start (not query_canceled), system errors.
_AWAY_STATES = ("08", "53", "57P", "58")
# MySQL and MariaDB: too many connections (also of a user, or by a limit); refused database, user,
# unknown database or host; node not ready, shutdown; network; connection killed, idle for long.
_AWAY_NUMBERS = frozenset(
    {1040, 1203, 1226, 1044, 1045, 1049, 1129, 1130, 1047, 1053, 1158, 1159, 1160, 1161, 1927, 4031}
)
# From here to 2999 MySQL's and MariaDB's errors are the client's: it cannot connect or was cut off.
_CLIENT_NUMBERS = range(2000, 3000)
# SQLite has no numbers in old versions of Python: the file cannot be had.
_AWAY_WORDS = ("unable to open", "disk i/o error", "is full")


def kind_of(error: BaseException) -> Fault:
    """What *error* means."""
    if isinstance(error, (PoolTimeoutError, StoreBusyError)):
        return Fault.TRANSIENT
    if isinstance(error, StoreAwayError):
        return Fault.AWAY
    if not isinstance(error, DBAPIError):
        return Fault.OTHER
    if _is_transient(error.orig):
        return Fault.TRANSIENT
    return Fault.AWAY if error.connection_invalidated or _is_away(error) else Fault.OTHER


def _is_transient(cause: BaseException | None) -> bool:
    code = _code(cause)
    if _state(cause) in _TRANSIENT_STATES or code in _TRANSIENT_NUMBERS:
        return True
    return isinstance(code, str) and "database is locked" in code


def _is_away(error: DBAPIError) -> bool:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return any(word in str(cause).lower() for word in _AWAY_WORDS)
    if not isinstance(error, OperationalError):
        return isinstance(error, InterfaceError)
    # Drivers also call operational what is wrong with a statement, the tables or the rights.
    code, state = _code(cause), _state(cause)
    if isinstance(code, int):
        return code in _AWAY_NUMBERS or code in _CLIENT_NUMBERS
    return state is None or state.startswith(_AWAY_STATES)


def _state(cause: BaseException | None) -> str | None:
    """PostgreSQL's five letters; psycopg2 and psycopg have none while they connect."""
    return getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)


def _code(cause: BaseException | None) -> object:
    """The number of MySQL's and MariaDB's errors; the message of others'."""
    return cause.args[0] if cause is not None and cause.args else None
