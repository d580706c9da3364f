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
from ..reconcile import Plan
from ..rescue import Unbegun, Verdict
from ..routines import Declared, Routine, State
from ..storage import RunLedger, SchedulerStore
from ..storage.values import (
    Batch,
    Begun,
    Decide,
    JudgeUnbegun,
    Place,
    Rescued,
    Since,
    Survey,
    Swept,
    Walk,
)
from ..store.faults import Fault, kind_of

T = TypeVar("T")

SECOND = timedelta(seconds=1)
#: Of all routines here, but where something else is said.
EVERY = 10 * SECOND
RESCUED_AFTER, LOST_AFTER = 10 * SECOND, 90 * SECOND
#: Schedulers, or workers, side by side; and routines, or runs, that they fight for.
SIDE_BY_SIDE, FOUGHT_FOR = 4, 40
#: How often a lost race is run again, and how many claims may be needed in a row.
MOST_RACES, MOST_CLAIMS = 200, 500


class Bench(Protocol):
    """One empty storage, and what the suite needs besides the stores on it."""

    #: Every store and ledger here takes the present from it.
    clock: SettableClock

    def store(self, namespace: str = "") -> SchedulerStore:
        """A new scheduler's, with an identity and connections of its own."""

    def ledger(self) -> RunLedger:
        """A new worker's, with connections of its own."""

    def edit(self, name: str, **fields: Any) -> None:
        """What a person does to a routine of the empty namespace: sets what a column of
        ``routines`` of that name says.

        It is ``active``, ``overlap`` (a word), ``schedule`` (a JSON value, which may be none of a
        schedule), ``max_runs``, or ``next_run_at`` (an instant).
        """

    def routines(self) -> Collection[str]:
        """The names of the routines there are, of all namespaces."""

    def runs(self) -> Mapping[UUID, State]:
        """All runs there are, and the records of what did not run, and how they stand."""


def decide(routine: Routine, now: datetime) -> Decision:
    return due.decide(routine, now, Limits())


def code(name: str, every: timedelta = EVERY, **fields: Any) -> Declared:
    """A routine as the code declares it."""
    return Declared(name, **{"task": f"task.{name}", "schedule": schedules.parse(every), **fields})


def register(
    store: SchedulerStore, *declared: Declared, removal: str = "delete", merge: bool = False
) -> Plan:
    tasks = [routine.task for routine in declared]
    return store.reconcile(declared, known_tasks=tasks, removal=removal, merge=merge)


def reconcile(store: SchedulerStore, *declared: str) -> Plan:
    return register(store, *map(code, declared))


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
    store: SchedulerStore,
    decides: Decide = decide,
    *,
    limit: int = 100,
    published: Any = (),
    until: datetime | None = None,
) -> Batch:
    return store.claim(decides, limit=limit, published=published, until=until)


def all_claimed(store: SchedulerStore) -> list[UUID]:
    """All that this scheduler gets, until there is nothing left for anybody."""
    found: list[UUID] = []
    for _ in range(MOST_CLAIMS):
        if not patiently(store.look).to_claim:
            return found
        batch = patiently(lambda: claim(store, limit=5))
        found += ids(batch)
        if not batch.rows:
            pause(0.01)  # somebody else is at it
    raise AssertionError(f"after {MOST_CLAIMS} claims there is still something to claim")


def rescued(store: SchedulerStore) -> list[UUID]:
    found = store.rescue(
        lambda run, now: rescue.judge(run, now, 60 * SECOND), age=RESCUED_AFTER, limit=100
    )
    return [held.run.id for held in found.claimed]


def given_up(store: SchedulerStore) -> Rescued:
    """Everything that is claimed, and is not worth publishing any more."""
    verdict = Verdict(State.MISSED, "given up")
    return store.rescue(lambda run, now: verdict, age=timedelta(0), limit=100)


def released(store: SchedulerStore) -> list[UUID]:
    return [held.run.id for held in store.release(limit=100).claimed]


def sweep(
    store: SchedulerStore, bench: Bench, fate: str = "lost", *, limit: int = 100, sends: bool = True
) -> Swept:
    return store.sweep(
        lambda task: fate,
        now=bench.clock.now(),
        lost_after=LOST_AFTER,
        limit=limit,
        may_send=sends,
    )


def swept(store: SchedulerStore, bench: Bench) -> list[UUID]:
    return [UUID(lost.run_id) for lost in sweep(store, bench).lost]


def redeliver(
    store: SchedulerStore,
    bench: Bench,
    judge: JudgeUnbegun,
    state: State = State.SENT,
    *,
    after: Place | None = None,
    looks_at: int = 100,
    limit: int = 100,
) -> Swept:
    return store.redeliver(judge, Walk(state, bench.clock.now(), after, looks_at), limit=limit)


def gives_up(task: str, run: Unbegun) -> Verdict:
    return Verdict(State.LOST, "nobody began it")


def sends_again(task: str, run: Unbegun) -> Verdict:
    return Verdict()


def survey(store: SchedulerStore, bench: Bench) -> Survey:
    now = bench.clock.now()
    ago = now - LOST_AFTER
    return store.survey(Since(silent=ago, unbegun=ago, ended=ago, overdue=None, failed=now))


def begin(
    ledger: RunLedger, run: UUID, attempt_id: UUID | None = None, *, retries: int = 0, **more: Any
) -> Begun:
    return ledger.begin(run, attempt_id or uuid4(), retries=retries, worker="worker", **more)


def in_state(bench: Bench, state: State, *, begun: bool = True) -> tuple[UUID, UUID]:
    """A run that stands so, and the attempt that began it; *begun*: false for a run that is lost
    before anybody has begun it."""
    store, (run,) = claimed(bench, "a")
    ledger, mine = bench.ledger(), uuid4()
    unbegun = state in _UNBEGUN or not begun
    if unbegun and state is not State.CLAIMED:
        store.confirm([run])
    if not unbegun:
        begin(ledger, run, mine)
    if state is State.LOST and begun:
        bench.clock.advance(LOST_AFTER + SECOND)
        swept(store, bench)
    elif state is State.LOST:
        redeliver(store, bench, gives_up)
    elif state in _DROPPED:
        ledger.drop(run, state, retries=0, reason="dropped")
    elif not unbegun and state is not State.RUNNING:
        ledger.end(run, mine, state)
    assert {run: state} == bench.runs()
    return run, mine


_DROPPED = (State.MISSED, State.SKIPPED)
_UNBEGUN = (State.CLAIMED, State.SENT, *_DROPPED)


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
