"""What the suite works on, and how: a storage to be proven, and the verbs of its tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid4

from .. import due, rescue, schedules
from ..clock import SettableClock, pause
from ..due import Decision, Limits
from ..routines import Declared, Routine, State
from ..storage import RunLedger, SchedulerStore
from ..storage.values import Batch, Begun, Decide, Since
from ..store.faults import Fault, kind_of

T = TypeVar("T")

SECOND = timedelta(seconds=1)
#: Of all routines here, but where something else is said.
EVERY = 10 * SECOND
RESCUED_AFTER, LOST_AFTER = 10 * SECOND, 90 * SECOND
#: Schedulers, or workers, side by side; and routines, or runs, that they fight for.
SIDE_BY_SIDE, FOUGHT_FOR = 4, 40
#: How often a lost race is run again.
MOST_RACES = 200


class Bench(Protocol):
    """One empty storage, and what the suite needs besides the stores on it."""

    #: Every store and ledger here takes the present from it.
    clock: SettableClock

    def store(self) -> SchedulerStore:
        """A new scheduler's, with an identity and connections of its own."""

    def ledger(self) -> RunLedger:
        """A new worker's, with connections of its own."""

    def edit(self, name: str, **fields: Any) -> None:
        """What a person does to a routine: sets ``active``, ``overlap`` or ``schedule`` (a JSON
        value), as a column of ``routines`` of that name."""

    def routines(self) -> Collection[str]:
        """The names of the routines there are."""

    def runs(self) -> Mapping[UUID, State]:
        """All runs there are, and how they stand."""


def decide(routine: Routine, now: datetime) -> Decision:
    return due.decide(routine, now, Limits())


def reconcile(store: SchedulerStore, *declared: str) -> Any:
    schedule = schedules.parse(EVERY)
    code = [Declared(name, f"task.{name}", schedule) for name in declared]
    tasks = [routine.task for routine in code]
    return store.reconcile(code, known_tasks=tasks, removal="delete", merge=False)


def planned(bench: Bench, *declared: str) -> SchedulerStore:
    """A scheduler that has planned what it declares, and claimed nothing."""
    store = bench.store()
    reconcile(store, *declared)
    claim(store)
    return store


def claimed(bench: Bench, *declared: str) -> tuple[SchedulerStore, list[UUID]]:
    """A scheduler that has claimed a run of each that it declares, in this order."""
    store = planned(bench, *declared)
    bench.clock.advance(EVERY)
    runs = {held.run.routine_name: held.run.id for held in claim(store).claimed}
    return store, [runs[name] for name in declared]


def claim(
    store: SchedulerStore, decides: Decide = decide, *, limit: int = 100, published: Any = ()
) -> Batch:
    return store.claim(decides, limit=limit, published=published)


def all_claimed(store: SchedulerStore) -> list[UUID]:
    """All that this scheduler gets, until there is nothing left for anybody."""
    found: list[UUID] = []
    while patiently(store.look).to_claim:
        found += ids(patiently(lambda: claim(store, limit=5)))
    return found


def rescued(store: SchedulerStore) -> list[UUID]:
    found = store.rescue(
        lambda run, now: rescue.judge(run, now, 60 * SECOND), age=RESCUED_AFTER, limit=100
    )
    return [held.run.id for held in found.claimed]


def released(store: SchedulerStore) -> list[UUID]:
    return [held.run.id for held in store.release(limit=100).claimed]


def swept(store: SchedulerStore, bench: Bench) -> list[UUID]:
    found = store.sweep(
        lambda task: "lost",
        now=bench.clock.now(),
        lost_after=LOST_AFTER,
        limit=100,
        may_send=True,
    )
    return [UUID(lost.run_id) for lost in found.lost]


def survey(store: SchedulerStore, bench: Bench) -> Any:
    now = bench.clock.now()
    ago = now - LOST_AFTER
    return store.survey(Since(silent=ago, unbegun=ago, ended=ago, overdue=None, failed=now))


def begin(
    ledger: RunLedger, run: UUID, attempt_id: UUID | None = None, *, retries: int = 0
) -> Begun:
    return ledger.begin(run, attempt_id or uuid4(), retries=retries, worker="worker")


def ids(batch: Batch) -> list[UUID]:
    return [held.run.id for held in batch.claimed]


def names(batch: Batch) -> list[str]:
    return [held.run.routine_name for held in batch.claimed]


def at_once(works: list[Callable[[], T]]) -> list[T]:
    """Each in a thread of its own, all begun at one moment."""
    ready = threading.Barrier(len(works), timeout=30)

    def work(each: Callable[[], T]) -> T:
        ready.wait()
        return patiently(each)

    with ThreadPoolExecutor(len(works)) as threads:
        return [each.result() for each in [threads.submit(work, each) for each in works]]


def patiently(work: Callable[[], T]) -> T:
    """Again, where a race was lost, as a scheduler does."""
    for _ in range(MOST_RACES):
        try:
            return work()
        except Exception as error:
            if kind_of(error) is not Fault.TRANSIENT:
                raise
            pause(0.01)
    raise AssertionError(f"{MOST_RACES} races in a row were lost")
