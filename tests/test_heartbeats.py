from __future__ import annotations

import threading
from uuid import uuid4

import pytest
import sqlalchemy as sa
from celery import Celery, signals
from celery.worker import state as worker_state
from proxy import Proxy, address_of
from servers import wait_for
from sqlalchemy.engine import Engine
from traced import Runs, header

from celery_sqlalchemy_kit import heartbeats
from celery_sqlalchemy_kit.heartbeats import Heartbeats
from celery_sqlalchemy_kit.history import ATTEMPT


@pytest.fixture
def app(runs):
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.scheduler_db_uri = str(runs.url)
    yield app
    app.close()


class Request:
    """As much of Celery's as is looked at."""

    def __init__(self, run_id, **headers):
        self.id = str(run_id)
        self.request_dict = headers


@pytest.fixture
def active():
    """Makes a request that the worker has given to its pool."""
    made = []

    def make(run_id, attempt_id=None, **headers):
        headers = headers or header()
        if attempt_id is not None:
            headers[ATTEMPT] = str(attempt_id)
        made.append(Request(run_id, **headers))
        worker_state.active_requests.add(made[-1])
        return made[-1]

    yield make
    worker_state.reset_state()


@pytest.fixture
def statements():
    found = []

    def note(connection, cursor, statement, *_):
        if not statement.startswith("BEGIN"):
            found.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(Engine, "before_cursor_execute", note)


def running(runs, worker="mine"):
    attempt_id = uuid4()
    return runs.store("running", worker=worker, attempt_id=attempt_id), attempt_id


def test_one_statement_beats_for_all_runs_that_are_active(app, runs, active, statements):
    ours = [running(runs) for _ in range(20)]
    for run_id, attempt_id in ours:
        active(run_id, attempt_id)
    plain, _ = running(runs)
    active(plain)
    idle, _ = running(runs)
    del statements[:]

    assert Heartbeats(app, "mine").beat() == 30
    assert [each.split()[0] for each in statements] == ["UPDATE"]
    assert all(runs.read(run_id).heartbeat_at for run_id, _ in [*ours, (plain, None)])
    assert runs.read(idle).heartbeat_at is None


def test_while_nothing_is_active_there_is_no_statement(app, runs, active, statements):
    active(uuid4(), task="a direct call")
    active("by hand", **header())
    transactions = []
    note = transactions.append
    sa.event.listen(Engine, "begin", note)
    del statements[:]

    assert Heartbeats(app, "mine").beat() == 30
    sa.event.remove(Engine, "begin", note)
    assert (statements, transactions) == ([], [])


def test_what_is_given_to_the_pool_and_not_accepted_yet_is_beaten_for(app, runs):
    """The event loop, which would tell, may be busy."""
    run_id, attempt_id = running(runs)
    request = Request(run_id, **header(**{ATTEMPT: str(attempt_id)}))
    worker_state.reserved_requests.add(request)
    Heartbeats(app, "mine").beat()
    worker_state.reset_state()

    assert runs.read(run_id).heartbeat_at is not None


@pytest.mark.parametrize(("lost_after", "seconds"), [(1, 1 / 3), (60, 20), (90, 30), (86_400, 30)])
def test_a_worker_beats_three_times_in_the_time_that_it_may_be_silent(app, lost_after, seconds):
    app.conf.scheduler_lost_after = lost_after
    assert Heartbeats(app, "mine").beat() == pytest.approx(seconds)


def test_beats_begin_again_as_soon_as_the_database_is_back(app, runs, active):
    """Whoever looks at the runs first when it is back finds them silent."""
    run_id, attempt_id = running(runs)
    active(run_id, attempt_id)
    runs.go_away()
    assert 0 < Heartbeats(app, "mine").beat() <= 1
    runs.come_back()


def test_requests_that_come_and_go_meanwhile_disturb_nobody():
    class Changing:
        reads = 0

        def __iter__(self):
            self.reads += 1
            if self.reads < 5:
                raise RuntimeError("Set changed size during iteration")
            return iter([1, 2])

    assert heartbeats._snapshot(Changing()) == [1, 2]


def test_whatever_happens_the_thread_goes_on(app, caplog, monkeypatch):
    monkeypatch.setattr(heartbeats, "LONGEST_SECONDS", 0.01)
    beats, enough = [], threading.Event()

    def beat(self):
        beats.append(1)
        if len(beats) == 3:
            enough.set()
        raise KeyError("a bug")

    monkeypatch.setattr(Heartbeats, "beat", beat)
    thread = Heartbeats(app, "mine")
    thread.start()
    assert enough.wait(10)
    thread.stop()
    assert not thread.is_alive
    assert "a bug" in caplog.text


def test_a_worker_that_is_ready_again_has_one_thread(app, runs):
    class consumer:  # noqa: N801  an instance, to Celery
        hostname = "mine"

    consumer.app = app
    signals.worker_ready.send(sender=consumer)
    first = heartbeats._Here.heartbeats
    signals.worker_ready.send(sender=consumer)
    assert heartbeats._Here.heartbeats is first
    assert first.is_alive

    signals.worker_shutdown.send(sender=None)
    assert not first.is_alive
    assert heartbeats._Here.heartbeats is None


# Real workers.

PROJECT = """
import os, sys, threading, time
from celery import Celery
from celery_sqlalchemy_kit import SyncTask

app = Celery("proj", broker={broker!r}, backend={broker!r})
app.conf.scheduler_db_uri = {database!r}
app.conf.scheduler_lost_after = 1


def works(self):
    print("at work", flush=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and not os.path.exists({directory!r} + "/enough"):
        time.sleep(0.05)


app.task(works, bind=True, base=SyncTask, name="works")
app.task(works, bind=True, name="plain")
"""


@pytest.fixture
def network(postgresql):
    """What lies between the worker and its database."""
    with Proxy(address_of(postgresql)) as proxy:
        yield proxy


@pytest.fixture
def project(redis_url, postgresql, network, tmp_path, processes):
    class Project:
        runs = Runs(postgresql)
        client = Celery(broker=redis_url, backend=redis_url, set_as_current=False)

        def send(self, task="works"):
            run_id = self.runs.store(routine_name="nightly", task=task)
            self.client.send_task(task, task_id=str(run_id), headers=header())
            return run_id

        def beats(self, run_id, times=3):
            """Wait until it has been beaten for so many times more."""
            for _ in range(times):
                last = self.runs.read(run_id).heartbeat_at
                wait_for(lambda last=last: self.runs.read(run_id).heartbeat_at != last, 20)

        def enough(self):
            (tmp_path / "enough").touch()

    database = network.through(postgresql).render_as_string(hide_password=False)
    values = {"broker": redis_url, "database": database, "directory": str(tmp_path)}
    processes.app("proj", PROJECT.format(**values))
    project = Project()
    yield project
    processes.kill()
    project.runs.engine.dispose()
    project.client.close()


@pytest.mark.parametrize(
    "args",
    [
        ("--pool=prefork",),
        ("--pool=threads",),
        ("--pool=solo",),
        ("-B", "--scheduler=celery_sqlalchemy_kit.scheduler:RoutineScheduler"),
    ],
    ids=["prefork", "threads", "solo", "embedded beat"],
)
def test_a_worker_beats_until_its_last_task_has_ended(project, processes, args):
    """Also while it is told to stop and waits for it, and in whatever kind of pool."""
    worker = processes.worker(args=args)
    run_id = project.send()
    project.beats(run_id)
    worker.terminate()
    worker.expect("Warm shutdown")
    project.beats(run_id)
    project.enough()

    assert worker.wait(30) == 0
    assert project.runs.read(run_id).state == "succeeded"


def test_the_runs_of_plain_tasks_are_beaten_for(project, processes):
    processes.worker()
    project.beats(project.send("plain"))
    project.enough()


def test_a_killed_worker_beats_no_more_nor_does_one_of_its_name_for_it(project, processes):
    worker = processes.worker(args=("--hostname=same@here",))
    run_id = project.send()
    project.beats(run_id, 1)
    worker.kill()
    last = project.runs.read(run_id).heartbeat_at

    processes.worker(args=("--hostname=same@here",))
    other = project.send()
    project.beats(other)
    project.enough()
    assert project.runs.read(run_id).heartbeat_at == last


def test_what_runs_and_begins_and_ends_without_the_database_is_recorded_when_it_is_back(
    project, processes, network
):
    worker = processes.worker(args=("--concurrency=2",))
    before = project.send()
    project.beats(before, 1)
    network.refuse()
    within = project.send()
    worker.expect("at work", count=2)
    project.enough()
    worker.expect("succeeded", count=2)
    assert project.runs.read(before).state == "running"
    assert project.runs.read(within).state == "sent"

    network.resume()
    wait_for(lambda: project.runs.read(before).state == "succeeded", 20)
    wait_for(lambda: project.runs.read(within).state == "succeeded", 20)
    row = project.runs.read(within)
    assert (row.attempts, row.finished_at > row.started_at) == (1, True)


def test_a_process_that_ends_records_what_it_could_not_before(project, processes, network):
    """The pool's process, at an orderly stop."""
    worker = processes.worker()
    run_id = project.send()
    project.beats(run_id, 1)
    network.refuse()
    worker.terminate()
    worker.expect("Warm shutdown")
    project.enough()
    worker.expect("succeeded")
    network.resume()

    assert worker.wait(30) == 0
    assert project.runs.read(run_id).state == "succeeded"
