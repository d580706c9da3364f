from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from math import inf
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery, _state, concurrency, signals
from celery.app.trace import trace_task_ret
from celery.apps.worker import _shutdown_handler
from celery.bin import worker as worker_command
from celery.contrib.testing.worker import start_worker
from celery.exceptions import SoftTimeLimitExceeded, WorkerLostError
from celery.utils import log
from celery.worker import state
from kombu import Connection
from kombu.asynchronous import Hub
from servers import wait_for
from traced import header

from celery_sqlalchemy_kit import AsyncTask, aio, cli
from celery_sqlalchemy_kit.aio import call as aio_call
from celery_sqlalchemy_kit.book import book_of
from celery_sqlalchemy_kit.errors import SettingsError
from celery_sqlalchemy_kit.pool import AsyncioPool, redis_client
from celery_sqlalchemy_kit.pool import pool as pools
from celery_sqlalchemy_kit.pool.alarms import Alarms
from celery_sqlalchemy_kit.pool.handover import INTERVAL, MANY, SLOTS, Handover
from celery_sqlalchemy_kit.pool.lane import Lane
from celery_sqlalchemy_kit.pool.outbox import Outbox
from celery_sqlalchemy_kit.pool.threads import HELD_UP_SECONDS

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests", "workers_leave_logging_alone")

#: Seconds after which what waits for a test gives up.
PATIENCE = 10


@pytest.fixture
def app(monkeypatch):
    app = Celery("tests", broker="memory://", backend="cache+memory://")
    monkeypatch.setattr(_state, "default_app", app)  # that of the pool's threads
    app.conf.update(
        celery_max_retry=0,
        task_default_queue=f"queue-{uuid4()}",
        broker_transport_options={"polling_interval": 0.01},
    )
    yield app
    app.close()


@pytest.fixture
def start(app):
    """Starts a pool, which has no event loop of Celery's."""
    started = []

    def start(limit=2, **options):
        pool = AsyncioPool(limit, app=app, **options)
        pool.start()
        started.append(pool)
        return pool

    yield start
    for pool in started:
        pool.terminate()
    aio.close()


@pytest.fixture
def send(app, start):
    """Hands a message of a task to a pool, as a worker does; returns what the worker is told."""

    def send(pool, task, headers=None, **options):
        told = Told(task.name)
        told.id = (headers or {}).get("id", told.id)
        body = (), {}, {}
        request = {"id": told.id, "task": task.name, "delivery_info": {}, "hostname": "here"}
        request |= headers or {}
        told.job = pool.apply_async(
            trace_task_ret,
            (task.name, told.id, request, body, None, None),
            accept_callback=told.accept,
            callback=told.succeed,
            error_callback=told.fail,
            timeout_callback=told.time_out,
            **options,
        )
        return told

    return send


class Told:
    """What Celery's request of one message is told by the pool."""

    def __init__(self, name):
        self.name, self.id = name, str(uuid4())
        self.is_revoked = False
        self.all = []
        self.thread = None

    def revoked(self):
        return self.is_revoked

    def accept(self, pid, accepted_at):
        self._tell("accepted", pid)

    def succeed(self, outcome):
        failed, value, _ = outcome
        self._tell("failed" if failed else "ended", value.exception if failed else value)

    def fail(self, info):
        self._tell("lost", info.exception)

    def time_out(self, soft, limit):
        self._tell("soft limit" if soft else "hard limit", limit)

    def _tell(self, what, value):
        self.thread = threading.current_thread()
        self.all.append((what, getattr(value, "exc", value)))

    @property
    def names(self):
        return [what for what, _ in self.all]

    @property
    def value(self):
        """What was told last, once that is how it ended."""
        ends = {"failed", "ended", "lost"}
        wait_for(lambda: ends.intersection(self.names), PATIENCE, what=f"end of {self.name}")
        return self.all[-1][1]


class Gate:
    """Holds up coroutines, or threads, until it is opened."""

    def __init__(self):
        self.entered = []
        self._opened = Future()

    def open(self):
        with contextlib.suppress(InvalidStateError):  # twice
            self._opened.set_result(None)

    async def passed(self):
        self.entered.append(asyncio.current_task())
        await asyncio.shield(asyncio.wrap_future(self._opened))

    def pass_in_thread(self):
        self.entered.append(threading.current_thread())
        self._opened.result(PATIENCE)

    def wait_for(self, number=1):
        wait_for(lambda: len(self.entered) >= number, PATIENCE, what=f"{number} at the gate")


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def task(app):
    """Makes an async task of a coroutine function without arguments."""

    def make(body, name=None, bind=False, **attributes):
        name = name or body.__name__
        base = type("Base", (AsyncTask,), {"abstract": True, **attributes})
        app.task(base=base, name=name, bind=bind)(body)
        return app.tasks[name]

    return make


@pytest.fixture
def held(task, gate):
    """A task that waits at the gate."""

    async def held():
        await gate.passed()
        return "passed"

    return task(held)


def running(pool):
    return pool.info["running"]


# Slots.


def test_as_many_coroutines_as_there_are_slots_run_at_once_on_one_loop(start, send, held, gate):
    pool = start(limit=50)

    told = [send(pool, held) for _ in range(50)]
    gate.wait_for(50)
    gate.open()

    assert ["'passed'"] * 50 == [each.value for each in told]
    assert len({each.get_loop() for each in gate.entered}) == 1


def test_what_has_no_slot_waits_unaccepted_in_order(start, send, held, gate):
    pool = start(limit=2)

    told = [send(pool, held) for _ in range(4)]
    gate.wait_for(2)

    assert [["accepted"], ["accepted"], [], []] == [each.names for each in told]
    assert (2, 2) == (pool.info["running"], pool.info["queued"])
    gate.open()
    assert ["'passed'"] * 4 == [each.value for each in told]


def test_the_worker_is_told_of_its_own_process(start, send, held, gate):
    told = send(start(), held)
    assert ("accepted", os.getpid()) == told.all[0]


def test_what_was_revoked_while_it_waited_is_passed_over(start, send, held, gate):
    pool = start(limit=1)
    _, revoked, last = (send(pool, held) for _ in range(3))
    gate.wait_for()

    revoked.is_revoked = True
    gate.open()

    assert last.value == "'passed'"
    assert revoked.names == []


def test_what_waits_is_dropped_when_the_connection_is_lost(start, send, held, gate):
    pool = start(limit=1)
    first, waits = send(pool, held), send(pool, held)

    pool.flush()
    gate.open()

    assert first.value == "'passed'"
    wait_for(lambda: running(pool) == 0)
    assert waits.names == []


def test_a_pool_that_stops_waits_for_what_it_has_accepted_and_for_no_more(start, send, held, gate):
    pool = start(limit=1)
    first, waits = send(pool, held), send(pool, held)
    gate.wait_for()

    threading.Timer(0.1, gate.open).start()
    pool.close()
    pool.stop()

    assert ["accepted", "ended"] == first.names
    assert waits.names == []
    assert send(pool, held).job is None


def test_a_stop_within_a_signals_handler_does_not_wait_for_what_the_signal_has_interrupted(
    start, send, task, hub, monkeypatch
):
    """So it is in a cold stop, since Celery 5.5."""
    monkeypatch.setattr(aio, "GRACE", 0)
    at_work, deadline = [], time.monotonic() + PATIENCE

    async def body():
        return "ran"

    def stop(_):
        # Of another signal, which came meanwhile.
        log.set_in_sighandler(False)
        pool.stop()
        at_work.append(running(pool))

    def succeed(told, outcome):
        signal.raise_signal(signal.SIGUSR1)
        told_of_success(told, outcome)

    def wait(seconds):
        assert time.monotonic() < deadline, "it would wait for ever"
        wait_a_moment(seconds)

    told_of_success = Told.succeed
    monkeypatch.setattr(Told, "succeed", succeed)
    pool = start()
    wait_a_moment = pool._outbox.wait
    monkeypatch.setattr(pool._outbox, "wait", wait)
    pool.register_with_event_loop(hub)
    monkeypatch.setattr(state, "should_terminate", None)
    before = signal.getsignal(signal.SIGUSR1)
    worker = SimpleNamespace(hostname="here")
    _shutdown_handler(worker, sig="SIGUSR1", how="Cold", callback=stop)
    try:
        told = send(pool, task(body))
        wait_for(lambda: hub.run_once() or at_work, PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert [1] == at_work
    assert told.value == "'ran'"
    assert running(pool) == 0


def test_a_worker_that_is_restarted_by_sighup_waits_for_what_it_has_accepted(
    start, send, held, gate, monkeypatch
):
    """Celery's mark of a handler at work stays set after that signal."""
    monkeypatch.setattr(aio, "GRACE", -1)
    monkeypatch.setattr(log, "_in_sighandler", True)
    pool = start()
    told = send(pool, held)
    gate.wait_for()

    threading.Timer(0.1, gate.open).start()
    pool.stop()

    assert ["accepted", "ended"] == told.names


def test_the_limit_grows_and_shrinks(start, send, held, gate):
    pool = start(limit=1)
    told = [send(pool, held) for _ in range(3)]

    pool.grow(1)
    gate.wait_for(2)
    pool.shrink(2)

    assert 0 == pool.num_processes == pool.info["max-concurrency"]
    assert told[2].names == []
    pool.grow(1)
    gate.open()
    assert told[2].value == "'passed'"


def test_a_job_that_cannot_be_told_revoked_holds_up_no_other(caplog):
    class Job:
        def __init__(self, *, fails=False):
            self.fails, self.has_begun = fails, False

        def is_revoked(self):
            if self.fails:
                raise OSError("the result backend is down")
            return False

        def begin(self):
            self.has_begun = True

    lane, first, bad, good = Lane(1), Job(), Job(fails=True), Job()
    for each in (first, bad, good):
        lane.add(each)
    lane.remove(first)
    assert (bad.has_begun, good.has_begun) == (False, True)
    assert "the result backend is down" in caplog.text


def test_a_lane_counts_what_runs():
    class Job:
        def begin(self):
            begun.append(self)

        def is_revoked(self):
            return self is jobs[2]

    begun, jobs = [], [Job() for _ in range(5)]
    lane = Lane(2)
    for job in jobs:
        lane.add(job)

    assert jobs[:2] == begun
    lane.remove(jobs[0])
    assert [*jobs[:2], jobs[3]] == begun
    assert {jobs[1], jobs[3]} == lane.running


# Parking.


def test_a_tracer_goes_on_with_others_while_a_coroutine_runs_and_ends_on_its_thread(
    start, send, task, gate, monkeypatch
):
    monkeypatch.setattr(AsyncioPool, "TRACERS", 3)
    seen = {}

    async def body():
        await gate.passed()

    body = task(body)

    @signals.task_prerun.connect
    def begin(task_id=None, **_):
        seen[task_id] = [threading.current_thread()]

    @signals.task_postrun.connect
    def end(task_id=None, **_):
        seen[task_id].append(threading.current_thread())

    told = [send(start(limit=30), body) for _ in range(30)]
    gate.wait_for(30)
    gate.open()
    for each in told:
        assert each.value == "None"

    assert all(begun is ended for begun, ended in seen.values())
    assert {begun.name.split()[0] for begun, _ in seen.values()} == {"tracer"}


def test_a_coroutine_does_not_inherit_the_way_to_park(start, send, task):
    async def inner():
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def body():
        return await asyncio.to_thread(aio.run, inner)

    assert send(start(), task(body)).value == "'async tasks'"


def test_a_hook_may_run_a_coroutine_of_its_own(start, send, task):
    async def answer():
        await asyncio.sleep(0)
        return 42

    def before_start(self, *_):
        self.request.answer = aio.run(answer)

    async def body(self):
        return self.request.answer

    app_task = task(body, bind=True, before_start=before_start)
    assert send(start(), app_task).value == "42"


def test_tasks_that_share_a_thread_share_no_context(start, send, task, gate, monkeypatch):
    monkeypatch.setattr(AsyncioPool, "TRACERS", 1)
    variable = contextvars.ContextVar("variable", default="unset")

    def before_start(self, *_):
        self.request.seen = variable.get()
        variable.set(self.request.id)

    async def body(self):
        await gate.passed()
        return self.request.seen, variable.get() == self.request.id

    pool, isolated = start(), task(body, bind=True, before_start=before_start)
    told = [send(pool, isolated) for _ in range(2)]
    gate.wait_for(2)
    gate.open()

    assert ["('unset', True)"] * 2 == [each.value for each in told]


def test_a_tracer_that_is_blocked_holds_up_neither_coroutines_nor_other_tracers(
    start, send, task, held, gate
):
    blocked = Gate()

    async def body():
        return "ran"

    pool = start(limit=5)
    runs = send(pool, held)
    gate.wait_for()
    stuck = send(pool, task(body, name="stuck", before_start=lambda *_: blocked.pass_in_thread()))
    blocked.wait_for()
    wait_for(lambda: any(each.held_up for each in pool._tracers), PATIENCE)
    free = task(body, name="free")

    assert ["'ran'"] * 10 == [send(pool, free).value for _ in range(10)]
    blocked.open()
    gate.open()
    assert ("'ran'", "'passed'") == (stuck.value, runs.value)


def test_what_ends_a_process_elsewhere_loses_its_task_alone(start, send, task, held, gate):
    def before_start(*_):
        raise SystemExit(3)

    async def body():
        raise AssertionError

    pool = start()
    told = send(pool, task(body, before_start=before_start))

    assert isinstance(told.value, WorkerLostError)
    gate.open()
    assert send(pool, held).value == "'passed'"


# Time limits.


@pytest.mark.parametrize("limits", [{"soft_timeout": 0.1}, {}], ids=["its own", "the worker's"])
def test_the_soft_limit_is_met_where_the_coroutine_awaits(start, send, held, limits):
    told = send(start(soft_timeout=None if limits else 0.1), held, **limits)

    assert isinstance(told.value, SoftTimeLimitExceeded)
    assert ["accepted", "soft limit", "failed"] == told.names
    assert told.all[1][1] == 0.1


def test_a_coroutine_that_catches_the_soft_limit_may_return(start, send, task, gate):
    async def body():
        try:
            await gate.passed()
        except SoftTimeLimitExceeded:
            return "partial"

    assert send(start(), task(body), soft_timeout=0.1).value == "'partial'"


@pytest.mark.parametrize("limits", [{"timeout": 0.1}, {}], ids=["its own", "the worker's"])
def test_at_the_hard_limit_the_coroutine_is_cancelled_and_nothing_else_is_told(
    start, send, task, gate, limits
):
    seen, ended = [], []

    async def body():
        try:
            await gate.passed()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    body = task(body)
    postrun = lambda task_id=None, state=None, **_: ended.append((task_id, state))  # noqa: E731
    signals.task_postrun.connect(postrun)
    pool = start(limit=1, timeout=None if limits else 0.1)
    told = send(pool, body, **limits)
    wait_for(lambda: running(pool) == 0, PATIENCE)

    assert [("accepted", os.getpid()), ("hard limit", 0.1)] == told.all
    assert seen == ["cancelled"]
    assert [(told.id, None)] == ended
    assert "PENDING" == body.AsyncResult(told.id).state


def test_a_coroutine_that_goes_on_after_the_soft_limit_meets_the_hard_one(start, send, task, gate):
    async def body():
        with contextlib.suppress(SoftTimeLimitExceeded):
            await gate.passed()
        await gate.passed()

    pool = start()
    told = send(pool, task(body), soft_timeout=0.1, timeout=0.3)
    wait_for(lambda: running(pool) == 0, PATIENCE)

    assert ["accepted", "soft limit", "hard limit"] == told.names


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"soft_timeout": 0.1}, ["accepted", "soft limit", "failed"]),
        ({"timeout": 0.1}, ["accepted", "hard limit"]),
    ],
)
def test_a_limit_that_is_reached_before_the_body_begins_keeps_it_from_beginning(
    start, send, task, gate, limits, expected
):
    ran = []

    async def body():
        ran.append(1)

    pool = start()
    told = send(pool, task(body, before_start=lambda *_: gate.pass_in_thread()), **limits)
    gate.wait_for()
    reached = pool._alarms
    wait_for(lambda: not reached._set, PATIENCE, what="the limit")
    gate.open()
    wait_for(lambda: running(pool) == 0, PATIENCE)

    assert expected == told.names
    assert ran == []


def test_a_limit_that_is_reached_after_the_body_has_ended_is_none(start, send, task, gate):
    async def body():
        return "done"

    pool = start()
    task = task(body, on_success=lambda *_: gate.pass_in_thread())
    told = send(pool, task, soft_timeout=0.1, timeout=0.2)
    gate.wait_for()
    wait_for(lambda: not pool._alarms._set, PATIENCE, what="the limits")
    gate.open()

    assert told.value == "'done'"
    assert ["accepted", "ended"] == told.names


def test_limits_that_are_not_reached_leave_nothing_behind(start, send, held, gate):
    pool = start()
    gate.open()
    for _ in range(5):
        assert send(pool, held, soft_timeout=100, timeout=200).value == "'passed'"

    assert not pool._alarms._set


# Ending one task.


def test_a_terminated_coroutine_is_cancelled_and_its_neighbours_are_not(start, send, held, gate):
    pool = start(limit=3)
    told = [send(pool, held) for _ in range(3)]
    gate.wait_for(3)

    pool.terminate_job(os.getpid(), 15)
    told[1].job.terminate(15)
    wait_for(lambda: running(pool) == 2, PATIENCE)
    gate.open()

    assert ["'passed'"] * 2 == [told[0].value, told[2].value]
    assert ["accepted"] == told[1].names


def test_how_the_run_of_a_stopped_job_has_ended_is_for_the_worker_to_record(
    app, runs, start, send, held, gate
):
    app.conf.scheduler_db_uri = str(runs.url)
    pool = start()
    stopped, ended = (
        send(pool, held, headers=header(id=str(runs.store(task="held")))) for _ in range(2)
    )
    gate.wait_for(2)

    stopped.job.terminate()
    wait_for(lambda: running(pool) == 1, PATIENCE)
    gate.open()

    assert ended.value == "'passed'"
    assert ["running", "succeeded"] == [runs.read(each.id).state for each in (stopped, ended)]


def test_runs_that_wait_for_the_database_hold_up_nothing(
    app, runs, start, send, task, held, gate, monkeypatch
):
    monkeypatch.setattr(AsyncioPool, "TRACERS", 1)
    app.conf.scheduler_db_uri = str(runs.url)
    pool = start(limit=5)
    begun = send(pool, held, headers=header(id=str(runs.store(task="held"))))
    gate.wait_for()
    ids = [str(runs.store(task="held")) for _ in range(2)]
    runs.go_away()
    waiting, stopped = (send(pool, held, headers=header(id=each)) for each in ids)
    wait_for(lambda: book_of(app).seconds_shut, PATIENCE, what="an outage")

    async def body():
        return "ran"

    assert ["'ran'"] * 3 == [send(pool, task(body, name="free")).value for _ in range(3)]
    stopped.job.terminate()
    wait_for(lambda: running(pool) == 2, PATIENCE, what="the end of what was stopped")
    assert len(gate.entered) == 1
    runs.come_back()
    gate.wait_for(2)
    gate.open()

    assert ["'passed'"] * 2 == [begun.value, waiting.value]
    assert ["accepted"] == stopped.names
    states = [runs.read(each.id).state for each in (begun, waiting, stopped)]
    assert ["succeeded", "succeeded", "sent"] == states


def test_a_soft_limit_that_comes_just_after_a_pause_is_met_all_the_same(
    start, send, task, gate, monkeypatch
):
    monkeypatch.setattr(AsyncioPool, "TRACERS", 1)
    ran = []

    async def body():
        ran.append(1)

    async def nothing():
        pass

    pool = start(limit=3)
    paused = send(
        pool, task(body, before_start=lambda *_: aio.pause(0.1)), soft_timeout=0.5, timeout=None
    )
    stuck = send(pool, task(nothing, before_start=lambda *_: gate.pass_in_thread()))
    wait_for(lambda: "soft limit" in paused.names, PATIENCE)
    gate.open()

    assert isinstance(paused.value, SoftTimeLimitExceeded)
    assert not ran
    assert stuck.value == "None"


def test_it_is_cancelled_although_every_tracer_is_blocked(start, send, task, held, gate):
    blocked, cancelled = Gate(), threading.Event()

    async def body():
        try:
            await gate.passed()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def nothing():
        pass

    stuck = task(nothing, name="stuck", before_start=lambda *_: blocked.pass_in_thread())
    pool = start(limit=10)
    told = send(pool, task(body))
    gate.wait_for()
    for _ in range(pool.TRACERS):
        send(pool, stuck)
    blocked.wait_for(pool.TRACERS)

    told.job.terminate()

    assert cancelled.wait(PATIENCE)
    blocked.open()
    wait_for(lambda: running(pool) == 0, PATIENCE)
    assert ["accepted"] == told.names


def test_what_was_terminated_meets_no_soft_limit_while_it_cleans_up(start, send, task, gate):
    cleaning = Gate()

    async def body():
        try:
            await gate.passed()
        finally:
            await cleaning.passed()

    pool = start()
    told = send(pool, task(body), soft_timeout=0.2)
    gate.wait_for()
    told.job.terminate()
    cleaning.wait_for()
    wait_for(lambda: len(pool._alarms._set) == 1, PATIENCE, what="the limit")
    cleaning.open()
    wait_for(lambda: running(pool) == 0, PATIENCE)

    assert ["accepted"] == told.names


def test_a_job_that_is_terminated_before_its_body_does_not_begin_it(start, send, task, gate):
    ran = []

    async def body():
        ran.append(1)

    pool = start()
    told = send(pool, task(body, before_start=lambda *_: gate.pass_in_thread()))
    gate.wait_for()

    told.job.terminate()
    gate.open()
    wait_for(lambda: running(pool) == 0, PATIENCE)

    assert (["accepted"], []) == (told.names, ran)


def test_a_coroutine_that_will_not_end_is_given_up_and_its_slot_free(
    start, send, task, held, gate, monkeypatch, caplog
):
    monkeypatch.setattr(aio, "GRACE", 0.05)
    monkeypatch.setattr(aio_call, "GRACE", 0.05)
    left = Gate()

    async def stubborn():
        try:
            await gate.passed()
        except asyncio.CancelledError:
            await left.passed()

    pool = start(limit=1)
    told = send(pool, task(stubborn), timeout=0.1)
    follows = send(pool, held)
    left.wait_for()
    gate.open()

    assert follows.value == "'passed'"
    assert ["accepted", "hard limit"] == told.names
    assert f"stubborn[{told.id}]: its coroutine still runs" in caplog.text
    left.open()
    wait_for(left.entered[0].done, PATIENCE)
    assert send(pool, held).value == "'passed'"


def test_a_pool_that_is_terminated_cancels_what_runs_and_closes_the_loop(
    start, send, task, gate, monkeypatch
):
    seen = []

    async def body():
        try:
            await gate.passed()
        finally:
            seen.append("ended")

    pool = start(limit=3)
    told = [send(pool, task(body)) for _ in range(4)]
    gate.wait_for(3)
    before = {each.name for each in threading.enumerate()}
    began = time.monotonic()
    pool.terminate()

    assert time.monotonic() - began < aio.GRACE
    assert seen == ["ended"] * 3
    assert [["accepted"]] * 3 + [[]] == [each.names for each in told]
    assert {"async tasks", "time limits", "tracer 1", "sync tasks"} < before
    ours = {"async tasks", "time limits", "tracer 0", "tracer 1", "sync tasks"}
    assert not ours.intersection(each.name for each in threading.enumerate())


# Tasks of other kinds.


def test_other_tasks_run_on_threads_beside_so_many_at_once(app, start, send, held, gate):
    @app.task
    def plain():
        gate.pass_in_thread()
        return threading.current_thread().name

    pool = start(limit=1)
    coroutine = send(pool, held)
    told = [send(pool, plain) for _ in range(6)]
    gate.wait_for(5)

    assert [["accepted"]] * 4 + [[]] * 2 == [each.names for each in told]
    assert (4, 2) == (pool.info["sync-running"], pool.info["sync-queued"])
    gate.open()
    assert ["'sync tasks'"] * 6 == [each.value for each in told]
    assert coroutine.value == "'passed'"


def test_an_async_task_with_a_run_of_its_own_may_block_and_goes_to_the_threads(app, start, send):
    class Own(AsyncTask):
        name = "own"

        def run(self):
            return super().run(), threading.current_thread().name

        async def execute(self):
            return "executed"

    app.finalize()
    assert send(start(), app.tasks["own"]).value == "('executed', 'sync tasks')"


def test_that_limits_and_terminate_do_not_hold_for_them_is_said(app, start, send, gate, caplog):
    @app.task
    def plain():
        gate.pass_in_thread()
        return "done"

    pool = start()
    told = [send(pool, plain, timeout=0.05) for _ in range(2)]
    gate.wait_for(2)
    told[0].job.terminate()

    assert caplog.text.count("time limits hold for async tasks only") == 1
    assert "runs in a thread, which cannot be ended" in caplog.text
    gate.open()
    assert told[1].value == "'done'"


def test_a_pool_that_stops_leaves_behind_what_was_terminated_on_a_thread(app, start, send, gate):
    @app.task
    def plain():
        gate.pass_in_thread()

    pool = start()
    told = send(pool, plain)
    gate.wait_for()

    told.job.terminate()
    pool.stop()

    assert ["accepted"] == told.names


# The worker.


def test_calls_are_made_on_the_thread_of_celerys_loop_in_order():
    hub, made = Hub(), []
    outbox = Outbox()
    outbox.register(hub)

    def post():
        for n in range(200):
            outbox.post(lambda n=n: made.append((n, threading.current_thread())))

    for times in (1, 2):
        threading.Thread(target=post).start()
        wait_for(lambda times=times: hub.run_once() or len(made) == times * 200, PATIENCE)

    assert [(n, threading.main_thread()) for n in range(200)] * 2 == made
    outbox.close()
    hub.close()


class Received:
    """Stands for a thread: what it was handed."""

    def __init__(self):
        self.calls = []

    def put(self, call):
        self.calls.append(call)


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def thread():
    return Received()


@pytest.fixture
def alarms():
    alarms = Alarms("alarms")
    alarms.start()
    yield alarms
    alarms.stop()


@pytest.fixture
def lane():
    """Of a pool that has as much to do as makes each job one of many."""
    lane = Lane(SLOTS)
    lane.running = set(range(MANY + 1))
    return lane


@pytest.mark.parametrize("few", ["jobs", "slots"])
def test_a_job_that_is_one_of_few_is_handed_over_at_once(lane, alarms, thread, few):
    if few == "jobs":
        lane.running.pop()
    else:
        lane.slots -= 1
    handover = Handover(lane, alarms)

    for n in range(3):
        handover.put(thread, n)

    assert [0, 1, 2] == thread.calls


def test_one_of_many_waits_for_others_but_not_if_it_is_the_first_for_a_while(lane, alarms, thread):
    handover, another = Handover(lane, alarms), Received()

    for n in range(4):
        handover.put(thread if n % 2 else another, n)
    assert ([0], []) == (another.calls, thread.calls)

    wait_for(lambda: len(thread.calls) == 2, PATIENCE)
    assert ([0, 2], [1, 3]) == (another.calls, thread.calls)

    wait_for(lambda: time.monotonic() > handover._last + INTERVAL, PATIENCE)
    handover.put(thread, 4)
    assert [1, 3, 4] == thread.calls


def test_a_batch_may_be_handed_over_before_its_time(lane, alarms, thread):
    handover = Handover(lane, alarms)
    for n in range(3):
        handover.put(thread, n)

    handover.deliver()
    assert [0, 1, 2] == thread.calls
    handover.put(thread, 3)

    wait_for(lambda: len(thread.calls) == 4, PATIENCE)
    assert [0, 1, 2, 3] == thread.calls


def test_a_batch_is_handed_over_whole_by_a_signals_handler_in_the_middle_of_it(lane, alarms):
    """Which a cold stop is."""
    handover = Handover(lane, alarms)
    received = []

    class Interrupted(Received):
        def put(self, call):
            received.append(call)
            handover.deliver()

    for n in range(3):
        handover.put(Interrupted(), n)
    handover.deliver()

    assert [0, 1, 2] == received


def test_what_was_accepted_begins_while_celerys_loop_is_held_up(start, send, held, gate, hub):
    number = 3 * MANY
    pool = start(limit=SLOTS)
    pool.register_with_event_loop(hub)
    told = [send(pool, held) for _ in range(number)]

    gate.wait_for(number)

    gate.open()
    wait_for(lambda: hub.run_once() or not running(pool), PATIENCE)
    assert ["'passed'"] * number == [each.value for each in told]


def test_jobs_of_a_batch_are_shared_among_the_tracers(start, send, task, monkeypatch):
    async def body():
        return "ran"

    pool, batch, shared = start(limit=10), [], task(body)
    monkeypatch.setattr(pool._handover, "put", lambda *each: batch.append(each))
    told = [send(pool, shared) for _ in range(10)]

    assert [5] * pool.TRACERS == list(Counter(threads for threads, _ in batch).values())
    for threads, call in batch:
        threads.put(call)
    assert {"'ran'"} == {each.value for each in told}


def test_a_tracer_that_was_blocked_has_no_more_to_do_afterwards_than_the_others(
    start, send, task, monkeypatch
):
    async def body():
        return "ran"

    pool, batch, shared, block = start(limit=50), [], task(body), threading.Event()
    monkeypatch.setattr(pool._handover, "put", lambda *each: batch.append(each))
    blocked = pool._tracers[0]
    blocked.put(block.wait)
    told = [send(pool, shared) for _ in range(10)]
    assert blocked not in {threads for threads, _ in batch}

    block.set()
    wait_for(lambda: not blocked.load, PATIENCE)
    told += [send(pool, shared) for _ in range(10)]

    assert [5] * pool.TRACERS == list(Counter(threads for threads, _ in batch[10:]).values())
    for threads, call in batch:
        threads.put(call)
    assert {"'ran'"} == {each.value for each in told}


def test_a_tracer_that_is_blocked_is_left_alone_though_more_waits_for_the_other(start, send, task):
    async def body():
        return "ran"

    pool, shared = start(limit=50), task(body)
    (busy, blocked), gates = pool._tracers, [threading.Event(), threading.Event()]
    blocked.put(gates[0].wait)
    wait_for(lambda: blocked.held_up > 10 * HELD_UP_SECONDS, PATIENCE)
    busy.put(gates[1].wait)
    told = [send(pool, shared) for _ in range(5)]

    assert 1 == blocked.load
    gates[1].set()
    assert ["'ran'"] * 5 == [each.value for each in told]
    gates[0].set()


def test_tracers_that_are_both_blocked_share_what_comes(start, send, task):
    async def body():
        return "ran"

    pool, shared, gate = start(limit=50), task(body), threading.Event()
    for each in pool._tracers:
        each.put(gate.wait)
    wait_for(lambda: all(each.held_up for each in pool._tracers), PATIENCE)
    told = [send(pool, shared) for _ in range(10)]

    assert all(4 <= each.load <= 8 for each in pool._tracers)
    gate.set()
    assert ["'ran'"] * 10 == [each.value for each in told]


def test_a_channel_of_kombus_keeps_its_redis_client_as_long_as_its_connections(redis_url):
    from kombu.transport import redis as transport

    before = transport.Channel.conn_or_acquire
    redis_client.keep()
    try:
        with Connection(redis_url) as connection, connection.channel() as channel:
            with channel.conn_or_acquire() as first, channel.conn_or_acquire() as again:
                assert first is again
                assert first.ping()
            with channel.conn_or_acquire("given") as given:
                assert given == "given"
            channel._disconnect_pools()
            with channel.conn_or_acquire() as other:
                assert other is not first
                assert other.ping()
            with connection.channel() as another, another.conn_or_acquire() as its:
                assert its is not other
    finally:
        transport.Channel.conn_or_acquire = before


def test_an_idle_worker_looks_up_when_it_is_to_stop(start):
    hub = Hub()
    start().register_with_event_loop(hub)

    signals.worker_shutting_down.send(sender="here")
    began = time.monotonic()
    hub.run_once()

    assert time.monotonic() - began < 0.5, "or it would have slept for a second, or for ten"
    hub.close()


def test_without_celerys_loop_one_thread_at_a_time_makes_them_and_nobody_waits(caplog):
    outbox, made, busy = Outbox(), [], Gate()

    def first():
        busy.pass_in_thread()
        made.append("first")
        raise RuntimeError("odd")

    poster = threading.Thread(target=outbox.post, args=(first,))
    poster.start()
    busy.wait_for()
    outbox.post(lambda: made.append("second"))
    assert made == []
    busy.open()
    poster.join()

    assert made == ["first", "second"]
    assert "RuntimeError: odd" in caplog.text
    outbox.close()


def test_a_call_may_have_the_others_made_as_a_signals_handler_does():
    outbox, made = Outbox(), []
    hub = Hub()
    outbox.register(hub)

    def first():
        outbox.deliver()
        made.append("first")

    outbox.post(first)
    outbox.post(lambda: made.append("second"))
    outbox.deliver()

    assert made == ["second", "first"]
    outbox.close()
    hub.close()


def test_what_celerys_loop_has_put_off_is_done_while_the_worker_stops():
    hub, outbox, done = Hub(), Outbox(), []
    outbox.register(hub)
    hub.call_soon(done.append, "acknowledged")
    hub.call_later(0, done.append, "beaten")

    outbox.wait(0)

    assert {"acknowledged", "beaten"} == set(done)
    outbox.close()
    hub.close()


def test_without_celerys_loop_what_is_posted_meanwhile_is_made_after_a_call_of_the_main_threads():
    outbox, told = Outbox(), []

    def post_from_elsewhere():
        with ThreadPoolExecutor(1) as threads:
            threads.submit(outbox.post, lambda: told.append("posted")).result(PATIENCE)
        told.append("made")

    outbox.make(post_from_elsewhere)
    assert told == ["made", "posted"]
    outbox.close()


def test_a_job_that_was_dropped_is_not_kept_by_the_thread_that_waits_for_others():
    class Job:
        def reach(self):
            pass

    alarms, jobs = Alarms("alarms"), [Job() for _ in range(10)]
    left = [weakref.ref(job) for job in jobs]
    alarms_set = [alarms.set(3600, job.reach) for job in jobs]
    alarms.start()
    wait_for(lambda: alarms._wakes_at != inf)
    while alarms_set:
        alarms.drop(alarms_set.pop())
    jobs.clear()
    alarms.set(0, lambda: None)
    wait_for(lambda: not any(each() for each in left))
    alarms.stop()


def test_an_alarm_goes_off_once_at_its_time_unless_it_was_dropped():
    alarms, rung = Alarms("alarms"), []
    alarms.start()
    late = alarms.set(60, lambda: rung.append("late"))
    dropped = alarms.set(0.05, lambda: rung.append("dropped"))
    alarms.drop(dropped)
    alarms.set(0.05, lambda: 1 / 0)
    alarms.set(0.1, lambda: rung.append("rung"))

    wait_for(lambda: rung, PATIENCE)
    alarms.stop()

    assert rung == ["rung"]
    assert [late] == list(alarms._set)


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (lambda patch: patch.setenv("USE_FAST_LOCALS", "1"), "USE_FAST_LOCALS"),
        (
            lambda patch: patch.setattr(pools, "find_spec", lambda name: None),
            r"greenlet: pip install 'celery-sqlalchemy-kit\[asyncio\]'",
        ),
        (lambda patch: patch.setattr(pools, "detect_environment", lambda: "gevent"), "gevent's"),
    ],
)
def test_where_it_cannot_work_it_does_not_start(monkeypatch, app, broken, match):
    broken(monkeypatch)
    with pytest.raises(SettingsError, match=match):
        AsyncioPool(1, app=app)


def test_options_of_child_processes_are_ignored_with_a_word(start, caplog):
    start(maxtasksperchild=5, max_memory_per_child=None)
    assert ["maxtasksperchild is ignored: the asyncio pool has no child processes"] == [
        each.getMessage() for each in caplog.records
    ]


def test_the_pool_has_a_name_for_the_command_line():
    assert cli.POOL in worker_command.WORKERS_POOL.choices
    assert concurrency.get_implementation(cli.POOL) is AsyncioPool


@pytest.mark.parametrize(
    ("module", "attribute"), [(worker_command, "WORKERS_POOL"), (concurrency, "ALIASES")]
)
def test_a_celery_that_keeps_its_pools_elsewhere_has_the_commands_all_the_same(
    monkeypatch, module, attribute
):
    monkeypatch.setattr(worker_command.WORKERS_POOL, "choices", ("prefork",))
    monkeypatch.delattr(module, attribute)

    cli._name_pool()

    assert "health" in cli.routines.list_commands(None)


def test_a_worker_whose_broker_celery_reads_without_its_loop(app):
    class Early(AsyncTask):
        name = "early"
        acks_late = False

        async def execute(self, number):
            await asyncio.sleep(0)
            return number

    class Late(Early):
        name = "late"
        acks_late = True

    app.finalize()
    pool = "celery_sqlalchemy_kit.pool:AsyncioPool"
    with start_worker(app, pool=pool, concurrency=3, perform_ping_check=False):
        sent = [app.tasks[name].delay(n) for n in range(10) for name in ("early", "late")]
        results = [each.get(timeout=PATIENCE) for each in sent]
    assert [n for n in range(10) for _ in "el"] == results
