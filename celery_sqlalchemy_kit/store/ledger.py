"""The worker's statements on ``routine_runs``: a run is begun once, and ended by who began it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from ..clock import DATABASE, Clock
from ..columns import Instant, utcnow
from ..routines import ERROR_LIMIT, State
from ..storage.values import Begun, Fate
from ..tables import runs
from .connections import engine_for
from .present import now_of
from .transactions import transact

#: Runs in one statement that beats for them; SQLite and PostgreSQL bound the parameters.
BEAT_CHUNK = 10_000

T = TypeVar("T")
_c = runs.c


class Ledger:
    """One run after another, each method a transaction of its own.

    All of them may be repeated, and are where `transact` says so, as each names the states and the
    attempt that it moves from.
    """

    def __init__(self, engine: Engine, clock: Clock = DATABASE) -> None:
        self._engine = engine
        self._clock = clock

    @classmethod
    def at(cls, url: URL, schema: str | None) -> Ledger:
        """The ledger at *url*, on this process's own connection; not to be kept across a fork."""
        return cls(engine_for(url, "ledger", schema=schema))

    def begin(
        self,
        run_id: UUID,
        attempt_id: UUID,
        *,
        retries: int,
        worker: str,
        again: bool = False,
        lost_after: timedelta | None = None,
        ago: float = 0.0,
    ) -> Begun:
        """Take the run for this attempt, if nobody has.

        *attempt_id* is random, and kept by the caller until the end. *retries* is the message's:
        0 at first. *again*: a run that is lost begins again. *lost_after*, for a message that may
        be the second of its run: how long an owner may be silent; of one that is silent for
        longer the run is taken over with *again*, and lost without. *ago*: seconds since it has
        begun in fact.
        """
        beginnable = _may_begin(retries)
        if again:
            beginnable = sa.or_(beginnable, sa.and_(_in(State.LOST), _c.retries <= retries))
        holder = sa.select(_c.state, _c.attempt_id, _c.retries, _c.worker).where(_c.id == run_id)

        def begin(connection: Connection) -> Begun:
            now = self._now()
            values = {
                "state": State.RUNNING.value,
                "attempt_id": attempt_id,
                "attempts": _c.attempts + 1,
                "retries": retries,
                "worker": worker,
                "started_at": self._before(connection, ago) if ago else now,
                "heartbeat_at": now,
                "finished_at": None,
                "reason": None,
                "error": None,
            }
            if connection.execute(_one(run_id, beginnable).values(values)).rowcount:
                return Begun.BEGUN
            row = connection.execute(holder).one_or_none()
            if row is None:
                return Begun.UNKNOWN
            runs_now = row.state == State.RUNNING.value
            if runs_now and row.attempt_id == attempt_id:
                return Begun.BEGUN  # where the answer of the COMMIT was cut off
            if not runs_now or lost_after is None or (again and retries < row.retries):
                return Begun.DUPLICATE
            owned = _one(run_id, _in(State.RUNNING), _c.attempt_id == row.attempt_id)
            return self._take_over(connection, owned, values if again else None, row, lost_after)

        return self._transact(begin)

    def _take_over(
        self,
        connection: Connection,
        owned: sa.sql.expression.Update,
        values: dict[str, Any] | None,
        owner: Any,
        lost_after: timedelta,
    ) -> Begun:
        """Take the run of *owner*, who is silent, for *values*; None: it is lost."""
        silent_since = self._before(connection, lost_after.total_seconds())
        silent = sa.or_(_c.heartbeat_at.is_(None), _c.heartbeat_at <= silent_since)
        if values is not None:
            taken_over = connection.execute(owned.where(silent).values(values)).rowcount
            return Begun.BEGUN if taken_over else Begun.OWNED
        lost = owned.where(silent).values(
            state=State.LOST.value,
            reason=f"no beat of worker {owner.worker} for {lost_after.total_seconds():g} s",
            finished_at=self._now(),
        )
        return Begun.LOST if connection.execute(lost).rowcount else Begun.DUPLICATE

    def end(
        self,
        run_id: UUID,
        attempt_id: UUID,
        state: State,
        *,
        reason: str | None = None,
        error: str | None = None,
        due: float | datetime | None = None,
        ago: float = 0.0,
    ) -> bool:
        """Record how an attempt ended; false if the run is no longer this attempt's.

        `State.SENT`, for a message that was put back, makes the run unstarted again. *due*, for
        `State.RETRYING`: when the next attempt is, as an instant or in seconds after the end.
        *ago*: seconds since the end. A run given up for lost, or sent again for that, is ended all
        the same by the attempt that it was lost in, while there is no other.
        """
        mine = _c.attempt_id == attempt_id
        ended = _one(run_id, mine, _in(State.RUNNING, State.LOST, State.SENT))
        before = sa.select(_c.id).where(_c.id == run_id, mine, _c.state == state.value)

        def end(connection: Connection) -> bool:
            values: dict[str, Any] = {"state": state.value, "reason": reason, "error": cut(error)}
            if state is State.RETRYING:
                values |= {"finished_at": None, "heartbeat_at": self._due(connection, due, ago)}
            elif state is State.SENT:
                values |= {"finished_at": None, "attempt_id": None}
            else:
                values["finished_at"] = self._before(connection, ago) if ago else self._now()
            if connection.execute(ended.values(values)).rowcount:
                return True
            return connection.execute(before).first() is not None

        return self._transact(end)

    def lose(
        self, run_id: UUID, attempt_id: UUID, *, retries: int, reason: str, again: bool = False
    ) -> Fate:
        """Record that the process which ran this attempt, if it had begun, is gone.

        *again*: the run is ``sent`` then, and not over: its routine is not free, as its message is
        about to come again.
        """
        mine = _c.attempt_id == attempt_id
        values = {"state": State.LOST.value, "finished_at": self._now()}
        if again:
            values = {"state": State.SENT.value, "sent_at": self._now()}
        lost = _one(run_id, mine, _in(State.RUNNING)).values(reason=reason, **values)
        recorded = sa.and_(mine, _c.state == values["state"], _c.reason == reason)
        fate = sa.case(
            (recorded, Fate.LOST.name),
            (_may_begin(retries), Fate.UNSTARTED.name),
            else_=Fate.OVER.name,
        )

        def lose(connection: Connection) -> Fate:
            if connection.execute(lost).rowcount:
                return Fate.LOST
            found = connection.execute(sa.select(fate).where(_c.id == run_id)).scalar()
            return Fate.OVER if found is None else Fate[found]

        return self._transact(lose)

    def drop(self, run_id: UUID, state: State, *, retries: int, reason: str) -> bool:
        """End a run, as *state*, whose message nobody will begin; false if it was not such a run.

        What was to be `State.SKIPPED`, but has begun before and waits for a retry, has failed.
        """
        ended: Any = state.value
        if state is State.SKIPPED:
            ended = sa.case((_in(State.RETRYING), State.FAILED.value), else_=state.value)
        unstarted = sa.or_(
            _in(State.CLAIMED, State.SENT), sa.and_(_in(State.RETRYING), _c.retries < retries)
        )
        if state is not State.LOST:
            unstarted = sa.or_(unstarted, _is_lost_unstarted())
        dropped = _one(run_id, unstarted).values(
            state=ended, reason=reason, finished_at=self._now()
        )
        return self._transact(lambda connection: connection.execute(dropped).rowcount > 0)

    def beat(self, active: Iterable[tuple[UUID, UUID | None]], worker: str) -> int:
        """Say that these runs' worker is alive; returns how many of them it is running.

        One statement for up to `BEAT_CHUNK` runs. Each with its attempt, if that is known: a
        worker that was started again under the same name must not beat for a dead one's.
        """
        pairs = list(active)

        def beat(connection: Connection) -> int:
            beaten = 0
            for start in range(0, len(pairs), BEAT_CHUNK):
                some = pairs[start : start + BEAT_CHUNK]
                attempts = [attempt for _, attempt in some if attempt is not None]
                unknown = [run_id for run_id, attempt in some if attempt is None]
                mine = sa.or_(
                    *([_c.attempt_id.in_(attempts)] if attempts else []),
                    *([_c.id.in_(unknown)] if unknown else []),
                )
                here = sa.and_(_c.id.in_([run_id for run_id, _ in some]), mine)
                alive = sa.update(runs).where(here, _in(State.RUNNING), _c.worker == worker)
                beaten += connection.execute(alive.values(heartbeat_at=self._now())).rowcount
            return beaten

        return self._transact(beat)

    def owner(self, run_id: UUID) -> tuple[str, str]:
        """The names of the run's routine and of its worker; empty if there is no such run."""
        wanted = sa.select(_c.routine_name, _c.worker).where(_c.id == run_id)
        row = self._transact(lambda connection: connection.execute(wanted).one_or_none())
        return ("", "") if row is None else (row.routine_name, row.worker or "")

    def now(self) -> datetime:
        """The present, by the clock that the runs' instants are taken from."""
        present = self._clock.now()
        return self._transact(self._present) if present is None else present

    def _present(self, connection: Connection) -> datetime:
        present = self._clock.now()
        if present is None:
            read: datetime = connection.execute(sa.select(utcnow())).scalar_one()
            return read
        return present

    def _before(self, connection: Connection, seconds: float) -> sa.ColumnElement[datetime]:
        return sa.literal(self._present(connection) - timedelta(seconds=seconds), Instant())

    def _due(
        self, connection: Connection, due: float | datetime | None, ago: float
    ) -> datetime | sa.ColumnElement[datetime]:
        return due if isinstance(due, datetime) else self._before(connection, ago - (due or 0.0))

    def _now(self) -> sa.ColumnElement[datetime]:
        return now_of(self._clock)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        return transact(self._engine, work)


def _one(run_id: UUID, *conditions: sa.ColumnElement[bool]) -> Any:
    return sa.update(runs).where(_c.id == run_id, *conditions)


def _in(*states: State) -> sa.ColumnElement[bool]:
    return _c.state.in_([state.value for state in states])


def _may_begin(retries: int) -> sa.ColumnElement[bool]:
    """`Task.retry` publishes before it raises: the next attempt may begin before the end of the
    last one is written. Its higher number proves that the last one is over; and a lower one, that
    the message is of an attempt that is."""
    unstarted = sa.and_(
        sa.or_(_in(State.CLAIMED, State.SENT), _is_lost_unstarted()), _c.retries <= retries
    )
    next_one = sa.and_(_in(State.RETRYING, State.RUNNING, State.LOST), _c.retries < retries)
    return sa.or_(unstarted, next_one)


def _is_lost_unstarted() -> sa.ColumnElement[bool]:
    return sa.and_(_in(State.LOST), _c.attempt_id.is_(None))


def cut(text: str | None) -> str | None:
    """As much of *text* as is kept; PostgreSQL holds neither NUL nor half a surrogate pair."""
    if text is None:
        return None
    octets = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace")
    return octets[:ERROR_LIMIT].decode("utf-8", "ignore")
