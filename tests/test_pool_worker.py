"""The asyncio pool in real workers, of real messages in Redis."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import redis
from celery import Celery
from servers import wait_for
from traced import Runs, header

SOURCE = """
import asyncio
import os
import threading
import time
from pathlib import Path

from celery import Celery

from celery_sqlalchemy_kit import AsyncTask

URL = os.environ["PROJECT_REDIS"]
app = Celery("proj", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": int(os.environ.get("PROJECT_VISIBLE", 3600))},
    celery_max_retry=0,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)
opened = None


def note(what):
    with Path("notes").open("a") as notes:
        notes.write(what + "\\n")


async def look():
    while not Path("open").exists():
        await asyncio.sleep(0.02)


class Hold(AsyncTask):
    name = "hold"
    acks_late = False

    async def execute(self, value=None):
        global opened
        note("begun")
        opened = opened or asyncio.ensure_future(look())
        try:
            await asyncio.shield(opened)
        except BaseException as error:
            note(type(error).__name__)
            raise
        return value


class Late(Hold):
    name = "late"
    acks_late = True


class Soft(Hold):
    name = "soft"
    soft_time_limit = 0.2


class Hard(Hold):
    name = "hard"
    time_limit = 0.2


@app.task(name="sync")
def sync(value):
    return value, threading.current_thread().name
"""
#: What of a worker's output tells that something was left behind.
LEAKS = ("Traceback", "ERROR", "Warning:", "was destroyed", "never awaited", "never retrieved")


class Project:
    def __init__(self, processes, directory, url):
        self._processes, self._directory, self._url = processes, directory, url
        processes.app("proj", SOURCE)
        self.redis = redis.Redis.from_url(url)
        self.client = Celery("client", broker=url, set_as_current=False)

    def worker(self, concurrency, *args, **env):
        pool = ("--pool=routines-asyncio", f"--concurrency={concurrency}")
        env = {"PROJECT_REDIS": self._url, **env}
        worker = self._processes.worker(args=(*pool, *args), env=env)
        worker.expect("ready.")
        return worker

    def send(self, name, *args, **options):
        """Send a task; returns its id."""
        return self.client.send_task(name, args, **options).id

    def stored(self, *ids):
        """What there is of the results of tasks: pairs of state and result."""
        found = self.redis.mget([f"celery-task-meta-{each}" for each in ids])
        metas = [json.loads(each) for each in found if each is not None]
        return [(meta["status"], meta["result"]) for meta in metas]

    def results(self, *ids):
        """What tasks have returned, once all have; fails if one did not succeed."""
        wait_for(lambda: len(self.stored(*ids)) == len(ids), 30, what="results")
        stored = self.stored(*ids)
        assert {"SUCCESS"} == {state for state, _ in stored}
        return [result for _, result in stored]

    def open(self):
        (self._directory / "open").touch()

    def notes(self):
        notes = self._directory / "notes"
        return Counter(notes.read_text().split() if notes.exists() else [])

    def expect(self, what, count=1):
        wait_for(lambda: self.notes()[what] >= count, 30, what=f"{count} times {what!r}")

    @property
    def queued(self):
        return self.redis.llen("celery")

    def close(self):
        self.client.close()
        self.redis.close()


@pytest.fixture
def project(processes, tmp_path, redis_url):
    project = Project(processes, tmp_path, redis_url)
    yield project
    project.close()


@pytest.fixture
def strict():
    """The environment in which Python tells of everything that is left behind."""
    ignored = ("DeprecationWarning", "PendingDeprecationWarning", "UserWarning")  # of others
    filters = ",".join(["error", *(f"ignore::{each}" for each in ignored)])
    return {"PYTHONDEVMODE": 1, "PYTHONWARNINGS": filters, "PYTHONASYNCIODEBUG": 1}


def threads_of(worker):
    return len(list(Path(f"/proc/{worker.pid}/task").iterdir()))


def test_a_thousand_coroutines_wait_at_once_in_one_process(project):
    worker = project.worker(1000)
    idle = threads_of(worker)
    sent = [project.send("hold", n) for n in range(1200)]
    project.expect("begun", 1000)

    assert {"begun": 1000} == project.notes()
    assert threads_of(worker) == idle + 1, "the loop's, and none for a task"
    assert idle <= 10
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    assert not children.exists() or children.read_text() == ""
    project.open()
    assert list(range(1200)) == project.results(*sent)


def test_a_warm_stop_waits_for_what_runs_and_leaves_nothing_behind(project, strict):
    worker = project.worker(100, **strict)
    sent = [project.send("hold", n) for n in range(120)]
    project.expect("begun", 100)
    beside = project.send("sync", "beside")
    assert [["beside", "sync tasks"]] == project.results(beside)

    worker.terminate()
    worker.expect("Warm shutdown")
    project.open()

    assert worker.wait() == 0
    assert [("SUCCESS", n) for n in range(100)] == sorted(project.stored(*sent))
    assert 20 == project.queued
    assert [] == [each for each in LEAKS if each in worker.output()]


def test_a_cold_stop_cancels_what_runs_and_what_is_late_comes_again(project, strict):
    worker = project.worker(10, **strict)
    for name in ("hold", "late"):
        project.send(name)
    project.expect("begun", 2)

    worker.send_signal(signal.SIGQUIT)
    worker.wait()

    assert {"begun": 2, "CancelledError": 2} == project.notes()
    assert 1 == project.queued
    assert [] == [each for each in LEAKS if each in worker.output()]


def test_a_coroutine_that_is_revoked_ends_and_its_neighbours_go_on(project):
    worker = project.worker(10)
    sent = [project.send("hold", n) for n in range(3)]
    project.expect("begun", 3)

    project.client.control.revoke(sent[1], terminate=True)
    project.expect("CancelledError")
    project.open()

    assert [0, 2] == project.results(sent[0], sent[2])
    worker.terminate()
    assert worker.wait() == 0
    assert ["REVOKED"] == [state for state, _ in project.stored(sent[1])]
    assert {"begun": 3, "CancelledError": 1} == project.notes()


def test_what_was_late_comes_again_when_the_process_is_killed(project):
    first = project.worker(10, PROJECT_VISIBLE=1)
    sent = [project.send("late", n) for n in range(5)]
    project.expect("begun", 5)
    first.kill()
    # A worker looks for such messages as it starts, and not again for a while.
    visible = lambda: project.redis.zcount("unacked_index", 0, time.time() - 1)  # noqa: E731
    wait_for(lambda: visible() == 5, 10)

    project.worker(10, PROJECT_VISIBLE=1)
    project.expect("begun", 10)
    project.open()

    assert list(range(5)) == project.results(*sent)


def test_what_was_late_is_cancelled_and_comes_again_when_the_broker_hangs_up(project):
    project.worker(10)
    sent = project.send("late", "late"), project.send("hold", "early")
    project.expect("begun", 2)

    project.redis.client_kill_filter(_type="normal", skipme=True)
    project.expect("begun", 3)
    project.open()

    wait_for(lambda: all(state == "SUCCESS" for state, _ in project.stored(*sent)), 10)
    assert ["late", "early"] == project.results(*sent)
    assert {"begun": 3, "CancelledError": 1} == project.notes()


def test_the_ledger_knows_how_runs_ended(project, sqlite):
    runs = Runs(sqlite)
    worker = project.worker(10, SCHEDULER_DB_URI=sqlite.render_as_string())
    ids = {}
    for case in ("hold", "soft", "hard", "late"):
        ids[case] = str(runs.store(task=case))
        project.send(case, task_id=ids[case], headers=header())
    project.expect("begun", 4)
    project.client.control.revoke(ids["late"], terminate=True)
    project.expect("CancelledError", 2)
    project.open()

    def ended():
        rows = {case: runs.read(run_id) for case, run_id in ids.items()}
        return all(row.finished_at for row in rows.values()) and rows

    rows = wait_for(ended, 10)
    worker.terminate()
    assert worker.wait() == 0
    stored = [state for state, _ in project.stored(*ids.values())]
    assert ["SUCCESS", "FAILURE", "FAILURE", "REVOKED"] == stored
    states = {case: (row.state, row.reason) for case, row in rows.items()}
    expected = {"hold": ("succeeded", None), "late": ("failed", "revoked")}
    assert expected | dict.fromkeys(("soft", "hard"), ("failed", None)) == states
    assert rows["soft"].error.startswith("billiard.exceptions.SoftTimeLimitExceeded")
    assert rows["hard"].error == "TimeLimitExceeded: the hard time limit of 0.2 s"
    assert "no longer this attempt's" not in worker.output()
    assert rows["hard"] == runs.read(ids["hard"]), "it was not written over"
    runs.close()
