"""The scheduler's door to the statements.

A method is a verb of the domain: it takes and gives values, and opens and ends a transaction of
its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from .. import reconcile
from ..clock import DATABASE, Clock
from ..columns import raw, read_instant
from ..locks import alone, alone_at_once
from ..migrations import hashes
from ..routines import Declared
from ..storage.values import (
    Batch,
    Change,
    Decide,
    Found,
    Judge,
    JudgeUnbegun,
    OnWorkerLost,
    Passed,
    Position,
    Presence,
    Rescued,
    Since,
    Survey,
    Swept,
    View,
    Walk,
)
from ..tables import schedulers
from . import alerts, claims, outbox, registry, retention, sweeps, waiting
from .candidates import Reach
from .claimer import Claimer
from .sent import confirm
from .survey import survey

T = TypeVar("T")


class Store:
    """The tables, as one scheduler sees them: its namespace, its default zone, its clock."""

    def __init__(
        self,
        engine: Engine,
        me: Presence,
        *,
        timezone: str = "UTC",
        clock: Clock = DATABASE,
        allowed_tasks: Sequence[str] | None = None,
    ) -> None:
        self.engine = engine
        self._me = me
        self._adopts_edits: bool | None = None
        self._claimer = Claimer(me.id, me.namespace, timezone, clock, allowed_tasks)

    def look(self, *, after: Passed | None = None) -> View:
        """What there is to do and when; locks nothing, but where there are no triggers.

        *after*: what need not be looked through again; heeded as by `claim`.
        """
        if self._adopts_edits is None:
            self._adopts_edits = hashes.stand_in(self.engine)
        if self._adopts_edits:
            with self.engine.begin() as connection:
                hashes.adopt(connection, self._me.namespace)
        with self._for_one_statement() as connection:
            return outbox.look(connection, self._claimer, self._heeded(after))

    def claim(
        self,
        decide: Decide,
        *,
        limit: int,
        after: Position | None = None,
        published: Iterable[UUID] = (),
        until: datetime | None = None,
    ) -> Batch:
        """Confirm what was *published*, then take what is due; one transaction.

        *decide* is called under the lock of the row. *after*: where the batch before ended;
        only PostgreSQL, whose dead index entries it skips, heeds it. So it does *until*, an
        instant that is about to come.
        """
        sent = tuple(published)  # it may be claimed for twice
        reach = Reach(limit, self._heeded(after), until)
        for again in (False, True):
            try:
                with self.engine.begin() as connection:
                    return claims.claim(
                        connection,
                        self._claimer,
                        decide,
                        reach,
                        published=sent,
                        again=again,
                    )
            except IntegrityError:
                if again:
                    raise
        raise AssertionError

    def stopped(self, routine_ids: Iterable[UUID], *, at: datetime) -> frozenset[UUID]:
        """Which of these routines, claimed for an instant, are off, or there no more."""
        with self._for_one_statement() as connection:
            return outbox.stopped(connection, routine_ids, at)

    def confirm(self, published: Iterable[UUID]) -> None:
        """What was published is ``sent``."""
        with self.engine.begin() as connection:
            confirm(connection, self._claimer, published)

    def note_fault(self, run_id: UUID, fault: str) -> None:
        """Write into a claimed run why its message cannot be published."""
        with self.engine.begin() as connection:
            outbox.note_fault(connection, run_id, fault)

    def rescue(self, judge: Judge, *, age: timedelta, limit: int) -> Rescued:
        """Take over what was claimed at least *age* ago and never published."""
        with self.engine.begin() as connection:
            return outbox.rescue(connection, self._claimer, judge, age=age, limit=limit)

    def release(self, *, limit: int) -> Rescued:
        """Take over runs that waited for the end of the run before them, and need no longer."""
        with self.engine.begin() as connection:
            return waiting.release(connection, self._claimer, limit=limit)

    def survey(self, since: Since) -> Survey:
        """What there is to tidy up; locks nothing."""
        with self._for_one_statement() as connection:
            return survey(connection, self._me.namespace, since)

    def sweep(
        self,
        on_worker_lost: OnWorkerLost,
        *,
        now: datetime,
        lost_after: timedelta,
        limit: int,
        may_send: bool,
    ) -> Swept:
        """Find the runs whose worker has died: they are lost, or to be sent again."""
        with self.engine.begin() as connection:
            return sweeps.sweep(
                connection,
                self._claimer,
                on_worker_lost,
                now=now,
                lost_after=lost_after,
                limit=limit,
                may_send=may_send,
            )

    def redeliver(self, judge: JudgeUnbegun, walk: Walk, *, limit: int) -> Swept:
        """Find the runs that nobody begins: they are to be sent again, or lost."""
        with self.engine.begin() as connection:
            return sweeps.redeliver(connection, self._claimer, judge, walk, limit=limit)

    def alert(
        self,
        *,
        overdue_before: datetime,
        tells_overdue: bool,
        failed_since: datetime,
        alerted_after: str | None,
        limit: int,
    ) -> tuple[Found, tuple[Change, ...]]:
        """Give routines the alerts that they should have; what has changed is to be told."""
        with self.engine.begin() as connection:
            found = alerts.find(
                connection,
                self._claimer,
                overdue_before=overdue_before if tells_overdue else None,
                failed_since=failed_since,
                alerted_after=alerted_after,
                limit=limit,
            )
            settled = alerts.settle(
                connection,
                found.keys,
                overdue_before=overdue_before,
                tells_overdue=tells_overdue,
            )
        return found, settled

    def prune(self, before: datetime, changes_before: datetime, *, limit: int) -> int:
        """Delete some of the runs that ended before *before*, and of the changes that were made
        before *changes_before*, unless another scheduler does; returns how many runs."""
        with alone_at_once(self.engine, f"routines prune {self._me.namespace}") as connection:
            if connection is None:
                return 0
            retention.prune_changes(connection, self._me.namespace, changes_before, limit)
            return retention.prune(connection, retention.old(self._me.namespace, before), limit)

    def surplus(self, routine_id: UUID, *, keep: int) -> datetime | None:
        """The newest occurrence of a routine that *keep* ended runs have come after."""
        with self._for_one_statement() as connection:
            return retention.surplus_before(connection, routine_id, keep)

    def prune_surplus(self, routine_id: UUID, until: datetime, *, limit: int) -> int:
        """Delete some of a routine's ended runs up to *until*, unless another scheduler does."""
        with alone_at_once(self.engine, f"routines prune {self._me.namespace}") as connection:
            if connection is None:
                return 0
            return retention.prune(connection, retention.surplus(routine_id, until), limit)

    def reconcile(
        self,
        declared: Iterable[Declared],
        *,
        known_tasks: Iterable[str],
        removal: str,
        merge: bool,
    ) -> reconcile.Plan:
        """Compare the code with the table and carry out the plan; also announces this scheduler.

        One transaction; schedulers that start at once do it one after another.
        """
        code = registry.Code(tuple(declared), frozenset(known_tasks), removal, merge)
        with alone(self.engine, f"routines {self._me.namespace}") as connection:
            now = read_instant(connection.execute(sa.select(raw(self._claimer.now()))).scalar_one())
            plan = registry.planned(connection, self._me.namespace, code, now, self._me.id)
            registry.apply(connection, self._me.namespace, plan, now)
            registry.announce(connection, self._me, code.names, now)
        return plan

    def beat(self, lateness: timedelta) -> bool:
        """Tell the others that this scheduler is alive; False: its row is gone.

        Also lets go routines that wait for the end of a run that has ended or gone, where no
        trigger has; on PostgreSQL in a transaction of its own, if there are any.
        """
        if self.engine.dialect.name == "postgresql":
            with self._for_one_statement() as connection:
                known, stuck = outbox.beat_and_look(connection, self._claimer, lateness)
            if stuck:
                with self.engine.begin() as connection:
                    outbox.let_go(connection, self._claimer)
            return known
        with self.engine.begin() as connection:
            outbox.let_go(connection, self._claimer)
            return outbox.beat(connection, self._claimer, lateness)

    def leave(self, published: Iterable[UUID] = ()) -> None:
        """A clean stop: this scheduler counts no longer, at once; what it *published* is sent."""
        with self.engine.begin() as connection:
            confirm(connection, self._claimer, published)
            connection.execute(schedulers.delete().where(schedulers.c.id == self._me.id))

    def _heeded(self, after: T | None) -> T | None:
        return after if self.engine.dialect.name == "postgresql" else None

    @contextmanager
    def _for_one_statement(self) -> Iterator[Connection]:
        """A connection for what only reads, or is one statement: on PostgreSQL each statement is a
        transaction by itself, as BEGIN and ROLLBACK would be round trips of their own."""
        with self.engine.connect().execution_options(reading=True) as connection:
            if connection.dialect.name != "postgresql":
                yield connection
                return
            # Not by SQLAlchemy's isolation level, for which psycopg2 sends a statement each time.
            driver: Any = connection.connection.driver_connection
            try:
                driver.autocommit = True
                yield connection
                driver.autocommit = False
            except BaseException:
                connection.invalidate()  # it may be in any state
                raise
