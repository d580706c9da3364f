"""The worker's statements on ``routine_runs``: a run is begun once, and ended by who began it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from ..clock import DATABASE, Clock
from ..columns import utcnow
from ..routines import State
from ..storage.values import Begun, Fate
from ..tables import runs
from . import attempts
from .attempts import is_lost_unstarted, may_begin, one
from .connections import engine_for
from .error_text import cut
from .present import now_of
from .shortcuts import Shortcut
from .states import in_states
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
        self._begin = {again: Shortcut(engine, begin) for again, begin in attempts.BEGIN.items()}
        self._end = {state: Shortcut(engine, end) for state, end in attempts.END.items()}

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
        told: dict[str, Any] = {"run_id": run_id, "attempt": attempt_id, "tried": retries}
        told["by"] = worker

        def begin(connection: Connection) -> Begun:
            now = self._clock.now()
            told["now"] = now
            told["at"] = self._before(connection, ago) if ago else now
            if connection.execute(attempts.BEGIN[again], told).rowcount:
                return Begun.BEGUN
            holder = sa.select(_c.state, _c.attempt_id, _c.retries, _c.worker)
            row = connection.execute(holder.where(_c.id == run_id)).one_or_none()
            if row is None:
                return Begun.UNKNOWN
            runs_now = row.state == State.RUNNING.value
            if runs_now and row.attempt_id == attempt_id:
                return Begun.BEGUN  # where the answer of the COMMIT was cut off
            if not runs_now or lost_after is None or (again and retries < row.retries):
                return Begun.DUPLICATE
            silent = self._is_silent(connection, row.attempt_id, lost_after)
            if again:
                taken_over = one(attempts.KEY, silent).values(attempts.BEGUN)
                return Begun.BEGUN if connection.execute(taken_over, told).rowcount else Begun.OWNED
            lost = one(run_id, silent).values(
                state=State.LOST.value,
                reason=f"no beat of worker {row.worker} for {lost_after.total_seconds():g} s",
                finished_at=self._now(),
            )
            return Begun.LOST if connection.execute(lost).rowcount else Begun.DUPLICATE

        present = self._clock.now()
        if not ago and self._begin[again].rows({**told, "now": present, "at": present}):
            return Begun.BEGUN
        return self._transact(begin)

    def _is_silent(
        self, connection: Connection, owner: UUID | None, lost_after: timedelta
    ) -> sa.ColumnElement[bool]:
        """The run is that attempt's, of which nothing has been heard for so long."""
        since = self._before(connection, lost_after.total_seconds())
        silent = sa.or_(_c.heartbeat_at.is_(None), _c.heartbeat_at <= since)
        return sa.and_(in_states(State.RUNNING), _c.attempt_id == owner, silent)

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
        told: dict[str, Any] = {"run_id": run_id, "attempt": attempt_id}
        told |= {"ended": state.value, "why": reason, "fault": cut(error)}

        def end(connection: Connection) -> bool:
            if state is State.RETRYING:
                told["at"] = self._due(connection, due, ago)
            elif state is not State.SENT:
                told["at"] = self._before(connection, ago) if ago else self._clock.now()
            if connection.execute(attempts.END[state], told).rowcount:
                return True
            mine = sa.and_(_c.id == run_id, _c.attempt_id == attempt_id, _c.state == state.value)
            before = sa.select(_c.id).where(mine)
            return connection.execute(before).first() is not None

        at = due if state is State.RETRYING else self._clock.now()
        is_known = not ago and (state is not State.RETRYING or isinstance(due, datetime))
        if is_known and self._end[state].rows({**told, "at": at}):
            return True
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
        lost = one(run_id, mine, in_states(State.RUNNING)).values(reason=reason, **values)
        recorded = sa.and_(mine, _c.state == values["state"], _c.reason == reason)
        fate = sa.case(
            (recorded, Fate.LOST.name),
            (may_begin(retries), Fate.UNSTARTED.name),
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
            ended = sa.case((in_states(State.RETRYING), State.FAILED.value), else_=state.value)
        unstarted = sa.or_(
            in_states(State.CLAIMED, State.SENT),
            sa.and_(in_states(State.RETRYING), _c.retries < retries),
        )
        if state is not State.LOST:
            unstarted = sa.or_(unstarted, is_lost_unstarted())
        dropped = one(run_id, unstarted).values(state=ended, reason=reason, finished_at=self._now())
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
                alive = sa.update(runs).where(here, in_states(State.RUNNING), _c.worker == worker)
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

    def _before(self, connection: Connection, seconds: float) -> datetime:
        return self._present(connection) - timedelta(seconds=seconds)

    def _due(self, connection: Connection, due: float | datetime | None, ago: float) -> datetime:
        return due if isinstance(due, datetime) else self._before(connection, ago - (due or 0.0))

    def _now(self) -> sa.ColumnElement[datetime]:
        return now_of(self._clock)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        return transact(self._engine, work)
