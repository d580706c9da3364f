"""For tests, ours and yours: a scheduler without processes, broker and waiting.

    clock = SettableClock(datetime(2026, 1, 1, tzinfo=timezone.utc))
    beat = ManualBeat(make_url("sqlite:///test.db"), clock, [Declared(...)])
    beat.start()
    runs = beat.advance(60)  # what was dispatched meanwhile, each at its time

It is the scheduler's own loop on a real database; only the clock and the publisher are replaced.
Triggers keep the database's own clock, so begin near the real present where edits matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.engine import URL

from .. import migrations
from ..clock import SettableClock
from ..config import Settings
from ..loop import Loop
from ..pipeline import NOTHING_AHEAD, Ahead
from ..routines import Declared, Run, State
from ..storage.values import Again, Begun, Claimed, Presence
from ..store.connections import make_engine
from ..store.ledger import Ledger
from ..store.store import Store

__all__ = ["ManualBeat", "SettableClock"]


class Recorder:
    """A publisher that keeps what it is given: ``sent``, and ``again`` what is sent once more.

    ``away``: the broker cannot be reached. ``fails``: tasks whose messages are at fault.
    ``not_before``: by the run's id, when a publisher would send it at the earliest.
    """

    def __init__(self) -> None:
        self.sent: list[Run] = []
        self.again: list[Again] = []
        self.away = False
        self.fails: set[str] = set()
        self.not_before: dict[UUID, float] = {}

    def ready(self) -> bool:
        return not self.away

    def publish(
        self,
        claimed: Sequence[Claimed],
        since: float,
        sent: list[UUID],
        *,
        not_before: float = 0.0,
    ) -> list[tuple[Run, str]]:
        faults = []
        for held in () if self.away else claimed:
            if held.run.task in self.fails:
                faults.append((held.run, "at fault"))
            elif isinstance(held, Again):
                self.again.append(held)
            else:
                self.sent.append(held.run)
                self.not_before[held.run.id] = not_before
                sent.append(held.run.id)
        return faults


class ManualBeat:
    """One scheduler, moved by hand.

    *declared* is what the code is taken to declare, *known_tasks* what it knows besides;
    *on_worker_lost* is what it knows of tasks that begin their runs: ``lost`` or ``again`` by name.
    *ahead*: what is done before its time, as a scheduler does on PostgreSQL. *settings* are those
    of `Settings`, by name.
    """

    def __init__(
        self,
        url: URL,
        clock: SettableClock,
        declared: Iterable[Declared] = (),
        *,
        known_tasks: Iterable[str] = (),
        on_worker_lost: Mapping[str, str] | None = None,
        timezone: str = "UTC",
        ahead: Ahead = NOTHING_AHEAD,
        **settings: Any,
    ) -> None:
        self.settings = Settings.load({"scheduler_db_uri": url, **settings}, {}, scheduler=True)
        self.clock = clock
        self.declared = list(declared)
        self.known_tasks = list(known_tasks)
        self.engine = make_engine(
            url, schema=self.settings.scheduler_db_schema, pool_size=1 + ahead.claims
        )
        me = Presence(uuid4(), self.settings.scheduler_namespace, "test", 0)
        self.store = Store(
            self.engine,
            me,
            timezone=timezone,
            clock=clock,
            allowed_tasks=self.settings.scheduler_allowed_tasks,
        )
        self.publisher = Recorder()
        tasks = dict(on_worker_lost or {})
        self.loop = Loop(
            self.store,
            self.publisher,
            self.settings,
            clock,
            self._register,
            tasks.get,
            ahead=ahead,
        )

    def _register(self) -> bool:
        plan = self.store.reconcile(
            self.declared,
            known_tasks=[*self.known_tasks, *(routine.task for routine in self.declared)],
            removal=self.settings.scheduler_removed_routines,
            merge=self.settings.scheduler_code_changes == "merge",
        )
        return bool(plan.held)

    def start(self) -> None:
        """Create or upgrade the tables, and reconcile."""
        migrations.migrate(self.engine)
        self.loop.begin()

    def run(self) -> list[Run]:
        """Do all there is to do now; returns the runs that were dispatched."""
        before = len(self.publisher.sent)
        while self.loop.turn() <= 0:
            pass
        return self.publisher.sent[before:]

    def advance(self, by: timedelta | float) -> list[Run]:
        """Let time pass as it does for a scheduler that always wakes when it should."""
        before = len(self.publisher.sent)
        left = by.total_seconds() if isinstance(by, timedelta) else float(by)
        while True:
            seconds = self.loop.turn()
            if seconds <= 0:
                continue
            if left <= 0:
                return self.publisher.sent[before:]
            # Less than a microsecond would not move the clock at all.
            step = max(min(seconds, left), 1e-6)
            self.clock.advance(step)
            left -= step

    def finish(self, run: Run, state: State = State.SUCCEEDED) -> bool:
        """Begin and end a dispatched run now, as a worker would; False: it has begun before."""
        ledger, attempt_id = Ledger(self.engine, self.clock), uuid4()
        begun = ledger.begin(run.id, attempt_id, retries=0, worker="test")
        return begun is Begun.BEGUN and ledger.end(run.id, attempt_id, state)

    def stop(self) -> None:
        """A clean stop."""
        self.store.leave()
        self.engine.dispose()

    def kill(self) -> None:
        """As if by ``kill -9``: nobody is told."""
        self.engine.dispose()
