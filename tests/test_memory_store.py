"""The example of another store: proven by the suite, and at work under a real scheduler."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from servers import wait_for

import example.memory_store
from celery_sqlalchemy_kit import RoutineScheduler, SyncTask, due, schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import Declared, Overlap, State
from celery_sqlalchemy_kit.storage.values import Begun, Presence
from celery_sqlalchemy_kit.testing import SettableClock, StoreConformance
from example.memory_store import Memory, MemoryLedger, MemoryStore, claims


class MemoryBench:
    """One `Memory`, as `Bench` has it; *store*, *ledger*: the classes that are put to the proof."""

    def __init__(self, store=MemoryStore, ledger=MemoryLedger):
        self.store_class, self.ledger_class = store, ledger
        self.clock = SettableClock(datetime(2026, 12, 1, 12, tzinfo=UTC))
        self.memory = Memory()

    def store(self, namespace=""):
        me = Presence(uuid4(), namespace, "test", 0)
        return self.store_class(self.memory, me, clock=self.clock)

    def ledger(self):
        return self.ledger_class(self.memory, self.clock)

    def edit(self, name, **fields):
        if "overlap" in fields:
            fields["overlap"] = Overlap(fields["overlap"])
        self.memory.edit(name, clock=self.clock, **fields)

    def routines(self):
        return [row.name for row in self.memory.read().routines.values()]

    def runs(self):
        return {key: row.state for key, row in self.memory.read().runs.items()}


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def bench(self):
        return MemoryBench()


def test_a_task_that_the_settings_do_not_allow_is_not_run():
    bench = MemoryBench()
    me = Presence(uuid4(), "", "test", 0)
    store = MemoryStore(bench.memory, me, clock=bench.clock, allowed_tasks=["shop.*"])
    declared = [
        Declared(name, f"{name}.task", schedules.parse(10)) for name in ("shop", "elsewhere")
    ]
    store.reconcile(declared, known_tasks=[], removal="delete", merge=False)

    batch = store.claim(lambda *of: due.decide(*of, due.Limits()), limit=10)

    assert ["elsewhere"] == [name for name, _ in batch.faults]
    assert 2 == batch.rows


# -- it finds what is wrong -------------------------------------------------------------------


class ForgetsWhatWasMissed(MemoryStore):
    def claim(self, decide, **kwargs):
        return super().claim(lambda *of: replace(decide(*of), missed=()), **kwargs)


class TellsNoFaults(MemoryStore):
    def claim(self, *args, **kwargs):
        return replace(super().claim(*args, **kwargs), faults=())


class ClaimsAll(MemoryStore):
    def claim(self, *args, limit, **kwargs):
        return super().claim(*args, **kwargs, limit=1000)


class SeesAllNamespaces(MemoryStore):
    def look(self, **kwargs):
        views = [
            claims.look(self._memory.read(), row.namespace, self._clock.now())
            for row in self._memory.read().routines.values()
        ]
        return max(views, key=lambda view: view.to_claim, default=super().look(**kwargs))


class SeesNoFurther(MemoryStore):
    def look(self, *, after=None):
        view = super().look()
        return view if after is None else replace(view, to_claim=False)


class SendsWithoutABroker(MemoryStore):
    def sweep(self, *args, may_send, **kwargs):
        return super().sweep(*args, **kwargs, may_send=True)


class WalksFromTheBeginning(MemoryStore):
    def redeliver(self, judge, walk, *, limit):
        return super().redeliver(judge, replace(walk, after=None), limit=limit)


class BeginsLateMessages(MemoryLedger):
    def begin(self, *args, retries, **kwargs):
        return super().begin(*args, **kwargs, retries=max(1, retries))


class TakesOverFromTheLiving(MemoryLedger):
    def begin(self, *args, lost_after=None, **kwargs):
        no_time = None if lost_after is None else timedelta(0)
        return super().begin(*args, **kwargs, lost_after=no_time)


class EndsAtOnce(MemoryLedger):
    def end(self, *args, ago=0.0, **kwargs):
        return super().end(*args, **kwargs)


class BeatsForTheDead(MemoryLedger):
    def beat(self, active, worker):
        return super().beat([(run_id, None) for run_id, _ in active], worker)


BROKEN = [
    (ForgetsWhatWasMissed, "test_what_is_missed_is_recorded"),
    (TellsNoFaults, "test_a_routine_that_cannot_be_read_says_so_and_keeps_no_other"),
    (ClaimsAll, "test_no_more_rows_are_looked_at_than_asked_for"),
    (SeesAllNamespaces, "test_a_namespace_is_claimed_and_rescued_by_its_own"),
    (SeesNoFurther, "test_a_look_may_leave_out_nothing_but_what_was_done_with"),
    (SendsWithoutABroker, "test_what_is_to_begin_again_waits_for_the_broker"),
    (WalksFromTheBeginning, "test_a_walk_goes_on_where_it_ended_and_looks_at_each_once"),
    (BeginsLateMessages, "test_a_late_message_of_an_attempt_that_is_over_begins_nothing"),
    (EndsAtOnce, "test_an_end_that_is_told_late_is_as_old_as_that"),
    (BeatsForTheDead, "test_a_worker_beats_for_what_it_runs_alone"),
]


@pytest.mark.parametrize(("broken", "test"), BROKEN)
def test_a_broken_store_is_found_out(broken, test):
    side = "store" if issubclass(broken, MemoryStore) else "ledger"

    with pytest.raises(AssertionError):
        getattr(StoreConformance(), test)(MemoryBench(**{side: broken}))


def test_who_takes_over_from_the_living_is_found_out():
    bench = MemoryBench(ledger=TakesOverFromTheLiving)

    with pytest.raises(AssertionError):
        StoreConformance().test_who_comes_second_takes_over_from_who_is_silent(
            bench, silent=False, again=True, found=Begun.OWNED, state=State.RUNNING
        )


# -- at work ----------------------------------------------------------------------------------


@pytest.fixture
def app():
    """An app whose settings name the store, and nothing in SQL."""
    app = Celery("remembers", broker="memory://", set_as_current=False)
    app.conf.update(
        scheduler_store="example.memory_store:make_store",
        worker_ledger="example.memory_store:make_ledger",
        task_default_queue=f"queue-{uuid4()}",
        broker_transport_options={"polling_interval": 0.01},
    )
    yield app
    app.close()


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setattr(example.memory_store, "HERE", Memory())
    return example.memory_store.HERE


@pytest.fixture
def scheduler(app, memory, monkeypatch):
    monkeypatch.setattr("celery_sqlalchemy_kit.scheduler._obey_sigterm", lambda: None)
    return RoutineScheduler(app, max_interval=0.01, clock=SettableClock(datetime.now(UTC)))


@pytest.mark.usefixtures("no_tasks_of_other_tests", "workers_leave_logging_alone")
def test_a_declared_routine_is_sent_and_run_and_recorded_without_any_sql(app, scheduler, memory):
    greeted = []

    @app.task(base=SyncTask, name="greet", schedule=10, args=["world"])
    def greet(whom):
        greeted.append((whom, *(row.state for row in memory.read().runs.values())))

    def runs():
        return list(memory.read().runs.values())

    def sent():
        scheduler.tick()
        return [State.SENT] == [row.state for row in runs()]

    scheduler.tick()
    scheduler._clock.advance(10)
    wait_for(sent, 10, what="its message")
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        wait_for(lambda: runs()[0].state is State.SUCCEEDED, 10, what="its end")

    (run,) = runs()
    assert [("world", State.RUNNING)] == greeted
    assert ("greet", 1) == (run.run.routine_name, run.publish_attempts)
    (scheduler_row,) = memory.read().schedulers.values()
    assert "greet" in scheduler_row.names
    scheduler._leave()
    assert {} == memory.read().schedulers
