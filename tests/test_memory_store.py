"""The example of another store: proven by the suite, and at work under a real scheduler."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from servers import wait_for

import example.memory_store
from celery_sqlalchemy_kit import RoutineScheduler, SyncTask
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import Overlap, State
from celery_sqlalchemy_kit.storage.values import Presence
from celery_sqlalchemy_kit.testing import SettableClock, StoreConformance
from example.memory_store import Memory, MemoryLedger, MemoryStore


class MemoryBench:
    """One `Memory`, as `Bench` has it."""

    def __init__(self):
        self.clock = SettableClock(datetime(2026, 12, 1, 12, tzinfo=UTC))
        self.memory = Memory()

    def store(self, namespace=""):
        return MemoryStore(self.memory, Presence(uuid4(), namespace, "test", 0), clock=self.clock)

    def ledger(self):
        return MemoryLedger(self.memory, self.clock)

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

    scheduler.tick()
    scheduler._clock.advance(10)
    while not (runs() and runs()[0].state is State.SENT):
        scheduler.tick()
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        wait_for(lambda: runs()[0].state is State.SUCCEEDED, 10, what="its end")

    (run,) = runs()
    assert [("world", State.RUNNING)] == greeted
    assert ("greet", 1) == (run.run.routine_name, run.publish_attempts)
    (scheduler_row,) = memory.read().schedulers.values()
    assert "greet" in scheduler_row.names
    scheduler._leave()
    assert {} == memory.read().schedulers
