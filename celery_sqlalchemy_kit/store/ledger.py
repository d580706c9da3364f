"""The worker's statements on ``routine_runs``: a run is begun once, and ended by who began it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError

from ..clock import DATABASE, Clock
from ..columns import Instant, utcnow
from ..routines import State
from ..tables import runs
from .connections import engine_for

#: Bytes of UTF-8 that are kept of an error.
ERROR_LIMIT = 4096

T = TypeVar("T")
_c = runs.c


class Begun(enum.Enum):
    """What became of the wish to begin a run."""

    BEGUN = enum.auto()
    #: Another message of the run was first, or the run is over.
    DUPLICATE = enum.auto()
    #: There is no such run: pruned, or in another database.
    UNKNOWN = enum.auto()


class Ledger:
    """One run after another, each method a transaction of its own.

    A statement that was cut off, or met a lock, is tried once more on a fresh connection; all of
    them may be repeated, as each names the states and the attempt that it moves from.
    """

    def __init__(self, engine: Engine, clock: Clock = DATABASE) -> None:
        self._engine = engine
        self._clock = clock

    @classmethod
    def at(cls, url: URL) -> Ledger:
        """The ledger at *url*, on this process's own connection; not to be kept across a fork."""
        return cls(engine_for(url, "ledger"))

    def begin(self, run_id: UUID, attempt_id: UUID, *, retries: int, worker: str) -> Begun:
        """Take the run for this attempt, if nobody has.

        *attempt_id* is random, and kept by the caller until the end. *retries* is the message's:
        0 at first.
        """
        now = self._now()
        taken = _one(run_id, _may_begin(retries)).values(
            state=State.RUNNING.value,
            attempt_id=attempt_id,
            attempts=_c.attempts + 1,
            retries=retries,
            worker=worker,
            started_at=now,
            heartbeat_at=now,
            finished_at=None,
            reason=None,
            error=None,
        )
        holder = sa.select(_c.attempt_id).where(_c.id == run_id)

        def begin(connection: Connection) -> Begun:
            if connection.execute(taken).rowcount:
                return Begun.BEGUN
            row = connection.execute(holder).one_or_none()
            if row is None:
                return Begun.UNKNOWN
            # It is mine already where the answer of the COMMIT was cut off.
            return Begun.BEGUN if row[0] == attempt_id else Begun.DUPLICATE

        return self._transact(begin)

    def end(
        self,
        run_id: UUID,
        attempt_id: UUID,
        state: State,
        *,
        reason: str | None = None,
        error: str | None = None,
    ) -> bool:
        """Record how an attempt ended; false if the run is no longer this attempt's.

        `State.SENT`, for a message that was put back, makes the run unstarted again. A run given
        up for lost is ended all the same by the attempt that it was lost in.
        """
        values: dict[str, Any] = {"state": state.value, "reason": reason, "error": cut(error)}
        values["finished_at"] = self._now()
        if state in (State.RETRYING, State.SENT):
            values["finished_at"] = None
        if state is State.SENT:
            values["attempt_id"] = None
        mine = _c.attempt_id == attempt_id
        ended = _one(run_id, mine, _in(State.RUNNING, State.LOST)).values(values)
        before = sa.select(_c.id).where(_c.id == run_id, mine, _c.state == state.value)

        def end(connection: Connection) -> bool:
            if connection.execute(ended).rowcount:
                return True
            return connection.execute(before).first() is not None

        return self._transact(end)

    def has_begun(self, run_id: UUID, *, retries: int = 0) -> bool:
        """Whether no message of the run, of that many retries, can begin any more.

        True too for a run that is not there: nothing would stop its message from coming again
        and again.
        """
        beginnable = sa.select(_c.id).where(_c.id == run_id, _may_begin(retries))
        return self._transact(lambda connection: connection.execute(beginnable).first() is None)

    def now(self) -> datetime:
        """The present, by the clock that the runs' instants are taken from."""
        present = self._clock.now()
        if present is not None:
            return present

        def read(connection: Connection) -> datetime:
            instant: datetime = connection.execute(sa.select(utcnow())).scalar_one()
            return instant

        return self._transact(read)

    def _now(self) -> sa.ColumnElement[datetime]:
        present = self._clock.now()
        return utcnow() if present is None else sa.literal(present, Instant())

    def _transact(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            if not _passing(error):
                raise
        with self._engine.begin() as connection:
            return work(connection)


def _one(run_id: UUID, *conditions: sa.ColumnElement[bool]) -> Any:
    return sa.update(runs).where(_c.id == run_id, *conditions)


def _in(*states: State) -> sa.ColumnElement[bool]:
    return _c.state.in_([state.value for state in states])


def _may_begin(retries: int) -> sa.ColumnElement[bool]:
    """`Task.retry` publishes before it raises: the next attempt may begin before the end of the
    last one is written. Its higher number proves that the last one is over."""
    unstarted = sa.or_(
        _in(State.CLAIMED, State.SENT),
        sa.and_(_in(State.LOST), _c.attempt_id.is_(None)),
    )
    again = sa.and_(_in(State.RETRYING, State.RUNNING), _c.retries < retries)
    return sa.or_(unstarted, again)


def _passing(error: DBAPIError) -> bool:
    """Whether the same statement may well succeed on another connection."""
    told = str(error.orig).lower()
    return error.connection_invalidated or "database is locked" in told or "deadlock" in told


def cut(text: str | None) -> str | None:
    """As much of *text* as is kept; PostgreSQL holds neither NUL nor half a surrogate pair."""
    if text is None:
        return None
    octets = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace")
    return octets[:ERROR_LIMIT].decode("utf-8", "ignore")
