"""What a database error means: try again at once, wait until the server is back, or a fault."""

from __future__ import annotations

import enum

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


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


def kind_of(error: BaseException) -> Fault:
    """What *error* means."""
    if isinstance(error, PoolTimeoutError):
        return Fault.TRANSIENT
    if not isinstance(error, DBAPIError):
        return Fault.OTHER
    if _is_transient(error.orig):
        return Fault.TRANSIENT
    unreachable = isinstance(error, (InterfaceError, OperationalError))
    if error.connection_invalidated or (unreachable and "no such" not in str(error.orig)):
        return Fault.AWAY
    return Fault.OTHER


def _is_transient(cause: BaseException | None) -> bool:
    state = getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)
    code = cause.args[0] if cause is not None and cause.args else None
    if state in _TRANSIENT_STATES or code in _TRANSIENT_NUMBERS:
        return True
    return isinstance(code, str) and "database is locked" in code
