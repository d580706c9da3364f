"""One real worker of each pool is asked for the same, and is to give the same."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from datetime import datetime, timedelta

import pytest
import redis
from celery import VERSION, Celery, chord, group, states
from celery.exceptions import (
    ChordError,
    MaxRetriesExceededError,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
)
from processes import ROOT, Processes
from servers import wait_for

from celery_sqlalchemy_kit import CommandError
from celery_sqlalchemy_kit.aio import EscapedError
from celery_sqlalchemy_kit.clock import UTC

#: Each pool: how it is asked for, and how many tasks it runs at once.
POOLS = {
    "prefork": (("--pool=prefork", "--concurrency=2"), 2),
    "threads": (("--pool=threads", "--concurrency=8"), 8),
    "solo": (("--pool=solo",), 1),
    "asyncio": (("--concurrency=100",), 100),
}
#: Of each pool: the queue, how many seconds unacknowledged messages are left alone, and options.
#: The first is asked for most; the second has limits, and is killed in the end; the last takes its
#: place.
ROLES = {
    "shared": ("shared", 3600, ()),
    "strict": ("strict", 1, ("--soft-time-limit=0.4", "--time-limit=0.8")),
    "heir": ("strict", 1, ()),
}
#: Where the errands are found.
PATH = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
#: Every pool but one: where the only task occupies the worker, nobody else is heard.
answers_while_busy = pytest.mark.parametrize(
    "worker", ["prefork", "threads", "asyncio"], indirect=True
)
#: Where a single task can be ended from outside.
terminates = pytest.mark.parametrize("worker", ["prefork", "asyncio"], indirect=True)
#: Before Celery 5.7 the threads of a worker send events all at once, and some are lost.
keeps_events = pytest.mark.parametrize(
    "worker", [pool for pool in POOLS if pool != "threads" or VERSION >= (5, 7)], indirect=True
)
#: Seconds within which a worker has to answer.
PATIENCE = 10


class Worker:
    """A worker, and a client that knows its tasks by name only."""

    def __init__(self, processes, url, pool, role):
        queue, visibility, args = ROLES[role]
        self.pool = pool
        self.queue = f"{pool}-{queue}"
        self.unacked = f"unacked-{self.queue}"
        conf = {
            "task_default_queue": self.queue,
            "broker_transport_options": {
                "visibility_timeout": visibility,
                "unacked_key": self.unacked,
                "unacked_index_key": f"{self.unacked}-index",
                "unacked_mutex_key": f"{self.unacked}-mutex",
            },
            "broker_connection_retry_on_startup": True,
            "celery_max_retry": 0,
            "celery_retry_delay": 0,
            "result_extended": True,
            "worker_async_db_uri": f"sqlite+aiosqlite:///{processes.directory / self.queue}.db",
        }
        if pool == "asyncio":
            conf["worker_pool"] = "celery_sqlalchemy_kit.pool:AsyncioPool"
        self.env = {
            "ERRANDS_REDIS": url,
            "ERRANDS_CONF": json.dumps(conf),
            "PYTHONPATH": PATH,
        }
        self.name = f"{pool}-{role}@here"
        options, self.concurrency = POOLS[pool]
        self.process = processes.celery(
            self.name,
            *("worker", f"--hostname={self.name}", "--loglevel=INFO", "--task-events"),
            *("--without-gossip", "--without-mingle", *options, *args),
            app="errands",
            env=self.env,
        )
        self.client = Celery(self.name, broker=url, backend=url, set_as_current=False)
        self.client.conf.update(conf)
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.sent = []

    def close(self):
        self.client.backend.result_consumer.stop()
        self.client.backend.client.close()
        self.client.close()
        self.redis.close()

    def send(self, name, *args, **options):
        return self.keep(self.client.send_task(name, args, **options))

    def keep(self, sent):
        """A result that is let go of with its test."""
        self.sent.append(sent)
        return sent

    def let_go(self):
        self.tell(*self.sent)
        for each in self.sent:  # and not when it is collected, as a failed test keeps it
            self.client.backend.remove_pending_result(each)
            each.backend = None
        self.sent.clear()

    def ask(self, name, *args, **options):
        """The result; raises what the task raised."""
        return self.send(name, *args, **options).get(timeout=PATIENCE)

    def begin(self, name, *args, **options):
        """Send what waits until it is told to end; returns once it has begun."""
        sent = self.send(name, *args, **options)
        wait_for(lambda: self.redis.exists(f"begun:{sent.id}"), PATIENCE, what=f"start of {name}")
        return sent

    def tell(self, *sent):
        for each in sent:
            self.redis.set(f"told:{each.id}", 1)

    def notes(self, key, last=None):
        """What was noted under *key*, once that ends with *last*."""
        read = lambda: self.redis.lrange(f"notes:{key}", 0, -1)  # noqa: E731
        if last is not None:
            with contextlib.suppress(TimeoutError):  # what is there tells more
                wait_for(lambda: read()[-1:] == [last], PATIENCE)
        return read()

    def unacknowledged(self):
        """The ids of the tasks whose messages are."""
        messages = map(json.loads, self.redis.hvals(self.unacked))
        return {message["headers"]["id"] for message, *_ in messages}

    def signature(self, name, *args, **kwargs):
        return self.client.signature(name, args=args, kwargs=kwargs)

    def inspect(self):
        return self.client.control.inspect(destination=[self.name], timeout=PATIENCE)


class Workers:
    """Those of this module: started when first asked for, and of one role all at once."""

    def __init__(self, processes, url):
        self._processes = processes
        self._url = url
        self._workers = {}

    def start(self, role):
        for pool in POOLS:
            self._workers[pool, role] = Worker(self._processes, self._url, pool, role)

    def get(self, pool, role):
        if (pool, role) not in self._workers:
            self._workers[pool, role] = Worker(self._processes, self._url, pool, role)
        self._workers[pool, role].process.expect("ready.")
        return self._workers[pool, role]

    def close(self):
        for worker in self._workers.values():
            worker.close()


class Events(threading.Thread):
    """All events of all workers, by task."""

    def __init__(self, url):
        super().__init__()
        self._of = defaultdict(list)
        self._app = Celery("events", broker=url, set_as_current=False)
        self._ready = threading.Event()

    def run(self):
        with self._app.connection_for_read() as connection:
            self._receiver = self._app.events.Receiver(connection, handlers={"*": self._take})
            self._receiver.on_consume_ready = lambda *_, **__: self._ready.set()
            self._receiver.capture(wakeup=False)

    def _take(self, event):
        self._of[event.get("uuid")].append(event["type"])

    def of(self, sent, last):
        """Those of a task, once the last of them has come."""
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: self._of[sent.id][-1:] == [last], PATIENCE)
        return self._of[sent.id]

    def __enter__(self):
        self.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_):
        self._receiver.should_stop = True
        self.join()
        self._app.close()


@pytest.fixture(scope="module")
def url(_redis_server):
    with redis.Redis.from_url(_redis_server) as client:
        client.flushdb()
        yield _redis_server
        client.flushdb()


@pytest.fixture(scope="module")
def events(url):
    with Events(url) as events:
        yield events


@pytest.fixture(scope="module")
def workers(url, events, tmp_path_factory):
    processes = Processes(tmp_path_factory.mktemp("workers"))
    workers = Workers(processes, url)
    try:
        workers.start("shared")
        workers.start("strict")
        yield workers
    finally:
        processes.kill()
        workers.close()


@pytest.fixture(params=POOLS)
def worker(request, workers):
    yield from _lent(workers.get(request.param, "shared"))


@pytest.fixture(params=POOLS)
def strict(request, workers):
    yield from _lent(workers.get(request.param, "strict"))


@pytest.fixture(params=POOLS)
def heir(request, workers):
    workers.get(request.param, "strict").process.kill()
    yield from _lent(workers.get(request.param, "heir"))


@pytest.fixture(scope="module")
def dsn(_postgresql_server):
    """An empty database, as asyncpg is told of it."""
    server = _postgresql_server
    return f"postgresql://{server.username}@/postgres?host={server.query['host']}"


def _lent(worker):
    """What it prints meanwhile is shown if the test fails."""
    printed = len(worker.process.output())
    yield worker
    worker.let_go()
    print(worker.process.output()[printed:])  # noqa: T201


# Results.


WAYS = [
    "written",
    "written sync",
    "function on AsyncTask",
    "function on SyncTask",
    "plain function",
    "async routine",
    "sync routine",
]


def test_what_the_body_returns_is_the_result_however_it_is_written(worker):
    sent = [worker.send(name, 1, kwargs={"to": 2}) for name in WAYS]
    assert dict.fromkeys(WAYS, 3) == {
        name: each.get(timeout=PATIENCE) for name, each in zip(WAYS, sent, strict=True)
    }


@pytest.mark.parametrize("kind", ["KeyError", "TimeoutError"])
def test_what_the_body_raises_is_the_result_with_its_traceback(worker, kind):
    sent = worker.send("fail", kind)

    with pytest.raises((KeyError, TimeoutError)) as raised:
        sent.get(timeout=PATIENCE)

    assert kind == type(raised.value).__name__
    assert states.FAILURE == sent.state
    assert "in fail_deep_down" in sent.traceback


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "CancelledError"])
def test_what_would_end_the_process_or_the_loop_is_a_failure_of_the_task(worker, kind):
    with pytest.raises(EscapedError, match=kind):
        worker.ask("fail", kind)
    assert worker.ask("written", 1) == 1


def test_a_body_that_cancels_itself_fails(worker):
    with pytest.raises(EscapedError, match="CancelledError"):
        worker.ask("cancel itself")


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
def test_what_would_end_the_loop_in_a_child_does_not(worker, kind):
    assert worker.ask("fail in a child", kind) == kind
    assert worker.ask("written", 1) == 1


def test_an_extended_result_tells_of_the_task(worker):
    sent = worker.send("written", 1, kwargs={"to": 2})
    sent.get(timeout=PATIENCE)

    assert ("written", [1], {"to": 2}) == (sent.name, sent.args, sent.kwargs)
    assert (worker.name, worker.queue, 0) == (sent.worker, sent.queue, sent.retries)


def test_an_ignored_result_is_not_stored(worker):
    for kind, ending in ((None, states.SUCCESS), ("KeyError", states.FAILURE)):
        sent = worker.send("without a result", kind)
        assert "body" in worker.notes(sent.id, last=f"task_postrun {ending}")
        assert states.PENDING == sent.state


def test_a_message_can_ask_for_no_result(worker):
    sent = worker.send("written", 1, ignore_result=True)
    worker.notes(sent.id, last="task_postrun SUCCESS")
    assert not worker.redis.exists(f"celery-task-meta-{sent.id}")


def test_errors_can_be_stored_where_results_are_ignored(worker):
    with pytest.raises(KeyError):
        worker.ask("with errors only", "KeyError")
    sent = worker.send("with errors only")
    worker.notes(sent.id, last="task_postrun SUCCESS")
    assert states.PENDING == sent.state


def test_a_body_can_store_a_state_of_its_own(worker):
    sent = worker.begin("show state")
    assert ("HALFWAY", {"done": 1}) == (sent.state, sent.info)
    worker.tell(sent)
    assert sent.get(timeout=PATIENCE) is None


def test_a_task_that_tracks_its_start_is_started_while_it_runs(worker):
    sent = worker.begin("wait")
    assert states.STARTED == sent.state
    assert worker.name == sent.info["hostname"]
    worker.tell(sent)
    assert sent.get(timeout=PATIENCE) == "told"


# Retries, and other ways out.


def test_a_body_retries_itself(worker):
    sent = worker.send("retry", 2)
    assert sent.get(timeout=PATIENCE) == 2
    assert sent.retries == 2


def test_too_many_retries_are_an_error(worker):
    with pytest.raises(MaxRetriesExceededError):
        worker.ask("retry", 3)


def test_too_many_retries_with_an_error_are_that_error(worker):
    with pytest.raises(KeyError):
        worker.ask("retry with the error")


def test_errors_are_retried(worker):
    assert worker.ask("autoretry", 2) == 2


def test_errors_are_retried_as_often_as_allowed(worker):
    with pytest.raises(KeyError):
        worker.ask("autoretry", 3)


def test_an_ignored_task_has_no_result(worker):
    sent = worker.send("ignore")
    assert ["task_prerun", "task_postrun IGNORED"] == worker.notes(sent.id, "task_postrun IGNORED")
    assert states.PENDING == sent.state


def test_a_rejected_message_is_dropped(worker):
    sent = worker.send("reject", kwargs={"requeue": False})
    wait_for(lambda: "task_postrun REJECTED" in worker.notes(sent.id), PATIENCE)
    wait_for(lambda: sent.id not in worker.unacknowledged(), PATIENCE)
    assert worker.ask("written", 1) == 1
    assert 1 == worker.notes(sent.id).count("task_prerun")


def test_a_rejected_message_that_goes_back_comes_again(worker):
    assert worker.ask("reject", kwargs={"requeue": True}) == "redelivered"


def test_a_task_can_be_replaced(worker):
    assert worker.ask("replace", 1) == 2


# What a body sees of its task.


def test_the_request_is_the_tasks_own_wherever_its_coroutine_goes(worker):
    sent = [worker.send("look", number, kwargs={"key": number}) for number in range(10)]
    for number, each in enumerate(sent):
        places = each.get(timeout=PATIENCE)

        expected = {
            "id": each.id,
            "args": [number],
            "kwargs": {"key": number},
            "retries": 1,
            "root": each.id,
            "queue": worker.queue,
            "task": "look",
            "current": each.id,
        }
        assert dict.fromkeys(["before", "after", "child", "thread"], expected) == places


def test_what_a_body_sends_knows_its_parent_and_its_root(worker):
    root = worker.send("family", 2).id
    # Signals are noted as well.
    read = lambda: [note for note in worker.notes(root) if note.startswith("[")]  # noqa: E731
    wait_for(lambda: len(read()) == 3, PATIENCE)

    first, second, third = sorted(map(json.loads, read()), key=lambda note: -note[0])
    assert [2, root, None] == first
    assert [1, second[1], root] == second
    assert [0, third[1], second[1]] == third


def test_a_body_sees_the_variables_of_its_own_tracer_and_of_no_other_task(worker):
    sent = [worker.send("set a variable") for _ in range(10)]
    assert [["unset", "set", True]] * 10 == [each.get(timeout=PATIENCE) for each in sent]


def test_a_task_cannot_be_called_from_a_coroutine_as_a_function(worker):
    with pytest.raises(RuntimeError, match=r"await its execute\(\)"):
        worker.ask("call another")


def test_a_sync_task_calls_async_ones_as_functions_and_eagerly(worker):
    assert worker.ask("call from sync") == [1, 2, 3, 4]


# Canvas.


def test_a_chain(worker):
    add = worker.signature
    chained = add("add", 1, 2) | add("add", 3) | add("written sync", to=4)
    assert worker.keep(chained.apply_async()).get(timeout=PATIENCE) == 10


def test_a_group(worker):
    members = group([worker.signature("add", 1, number) for number in range(20)], app=worker.client)
    sent = members.apply_async()
    assert list(range(1, 21)) == sent.get(timeout=PATIENCE)


def test_a_chord_of_chains(worker):
    add = worker.signature
    members = [add("add", 1, number) | add("add", 1) for number in range(10)]
    sent = worker.keep(chord(members, app=worker.client)(add("add all")))
    assert sent.get(timeout=PATIENCE) == 65


def test_a_chord_with_a_member_that_fails(worker):
    members = [worker.signature("add", 1), worker.signature("fail", "KeyError")]
    sent = worker.keep(chord(members, app=worker.client)(worker.signature("add all")))
    with pytest.raises(ChordError, match="KeyError"):
        worker.client.AsyncResult(sent.id).get(timeout=PATIENCE)


def test_a_link(worker):
    key = f"link of {worker.queue}"
    sent = worker.send("add", 1, 2, link=worker.signature("take note", key))
    assert ["3"] == worker.notes(key, last="3")
    assert sent.get(timeout=PATIENCE) == 3


@pytest.mark.parametrize(
    ("name", "left"), [("mourn", "mourned KeyError"), ("mourn by id", "mourned")]
)
def test_a_link_for_errors(worker, name, left):
    sent = worker.send("fail", "KeyError", link_error=worker.signature(name))
    wait_for(lambda: left in worker.notes(sent.id), PATIENCE)
    assert states.FAILURE == sent.state


# Hooks, signals and events.


SUCCEEDING = [
    "task_prerun",
    "before_start True",
    "body",
    "on_success None",
    "task_success None",
    "after_return SUCCESS",
    "task_postrun SUCCESS",
]
FAILING = [
    "task_prerun",
    "before_start True",
    "body",
    "on_failure KeyError('x')",
    "task_failure KeyError('x')",
    "after_return FAILURE",
    "task_postrun FAILURE",
]
RETRYING = [
    "task_prerun",
    "before_start True",
    "body",
    "on_retry KeyError('x')",
    "task_retry KeyError('x')",
    "task_postrun RETRY",
]


@pytest.mark.parametrize("name", ["hooked", "hooked sync"])
@pytest.mark.parametrize(
    ("failures", "retries", "expected"),
    [(0, 0, SUCCEEDING), (2, 1, FAILING), (1, 0, RETRYING + SUCCEEDING)],
)
def test_hooks_and_signals_come_in_order(worker, name, failures, retries, expected):
    sent = worker.send(name, kwargs={"failures": failures}, retries=retries)
    assert expected == worker.notes(sent.id, last=expected[-1])


@keeps_events
@pytest.mark.parametrize(
    ("failures", "retries", "endings"),
    [(0, 0, ["succeeded"]), (2, 1, ["failed"]), (1, 0, ["retried", "succeeded"])],
)
def test_events_come_in_order(worker, events, failures, retries, endings):
    sent = worker.send("hooked", kwargs={"failures": failures}, retries=retries)
    expected = [f"task-{each}" for ending in endings for each in ("received", "started", ending)]

    came = events.of(sent, last=expected[-1])

    # The message of a retry comes while the attempt before it still runs.
    assert sorted(expected) == sorted(came)
    assert expected[:2] == came[:2]


# Time.


def begins_later(worker, **options):
    start = time.time()
    return worker.ask("tell the time", **options) - start


def test_a_countdown(worker):
    assert begins_later(worker, countdown=0.3) >= 0.3


def test_an_eta(worker):
    assert begins_later(worker, eta=datetime.now(UTC) + timedelta(seconds=0.3)) >= 0.3


def test_an_expired_message_is_not_run(worker):
    sent = worker.send("written", 1, expires=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(TaskRevokedError, match="expired"):
        sent.get(timeout=PATIENCE)
    assert ["task_revoked expired"] == worker.notes(sent.id, last="task_revoked expired")


#: Seconds, and not less: a limit that strikes before the body begins, as in a process that was
#: only just forked, is for nobody to catch.
LIMIT = 0.4


def test_a_body_may_catch_its_soft_time_limit_and_return(worker):
    assert worker.ask("wait and make do", soft_time_limit=LIMIT) == "partial"


def test_a_soft_time_limit_of_a_message_or_a_task_fails_it(worker):
    sent = [worker.send("wait", soft_time_limit=LIMIT), worker.send("wait with a soft limit")]
    for each in sent:
        with pytest.raises(SoftTimeLimitExceeded):
            each.get(timeout=PATIENCE)
    assert worker.ask("written", 1) == 1


def test_a_hard_time_limit_of_a_message_or_a_task_fails_it(worker):
    sent = [worker.send("wait", time_limit=LIMIT), worker.send("wait with a hard limit")]
    for each in sent:
        with pytest.raises(TimeLimitExceeded, match=str(LIMIT)):
            each.get(timeout=PATIENCE)
    assert worker.ask("written", 1) == 1
    assert [states.FAILURE] * 2 == [each.state for each in sent]


def test_a_body_that_catches_its_soft_time_limit_and_goes_on_meets_the_hard_one(worker):
    with pytest.raises(TimeLimitExceeded):
        worker.ask("wait on", soft_time_limit=LIMIT, time_limit=2 * LIMIT)


def test_a_soft_time_limit_of_the_worker(strict):
    assert strict.ask("wait and make do") == "partial"


def test_a_hard_time_limit_of_the_worker(strict):
    with pytest.raises(TimeLimitExceeded, match=str(2 * LIMIT)):
        strict.ask("wait on")


def test_the_limits_of_a_message_go_before_the_workers(strict):
    sent = strict.begin("wait", soft_time_limit=60, time_limit=90)
    time.sleep(3 * LIMIT)  # what is waited for is that nothing happens
    strict.tell(sent)
    assert sent.get(timeout=PATIENCE) == "told"


# Commands.


def test_a_command_tells_its_result(worker):
    result = worker.ask("print", kwargs={"text": "; $(id)"})
    assert (0, "; $(id)") == (result["exit_code"], result["output"])


def test_the_limit_of_a_command_holds(worker):
    with pytest.raises(CommandError, match=r"limit of 0\.2 s"):
        worker.ask("hold on")


# Revokes, and what a worker says of itself.


def test_a_task_that_is_revoked_before_it_comes_is_not_run(worker):
    task_id = f"{worker.queue}-revoked"
    worker.client.control.revoke(task_id, destination=[worker.name])
    wait_for(lambda: task_id in worker.inspect().revoked()[worker.name], PATIENCE)

    sent = worker.send("written", 1, task_id=task_id)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)
    assert ["task_revoked "] == worker.notes(sent.id, last="task_revoked ")


@terminates
def test_a_running_task_can_be_ended_and_its_neighbour_runs_on(worker):
    sent, neighbour = worker.begin("wait"), worker.begin("wait")

    sent.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)
    worker.tell(neighbour)
    assert neighbour.get(timeout=PATIENCE) == "told"
    assert states.REVOKED == sent.state
    wait_for(lambda: "task_revoked terminated" in worker.notes(sent.id), PATIENCE)


@pytest.mark.parametrize("worker", ["threads", "solo"], indirect=True)
def test_where_a_running_task_cannot_be_ended_it_runs_on(worker):
    sent = worker.begin("wait")

    sent.revoke(terminate=True)
    worker.tell(sent)

    assert sent.get(timeout=PATIENCE) == "told"
    assert worker.ask("written", 1) == 1


@answers_while_busy
def test_a_busy_worker_answers(worker):
    sent = worker.begin("wait")

    active = worker.inspect().active()[worker.name]
    assert [(sent.id, "wait")] == [(each["id"], each["name"]) for each in active]
    assert {"ok": "pong"} == worker.inspect().ping()[worker.name]
    assert worker.concurrency == worker.inspect().stats()[worker.name]["pool"]["max-concurrency"]
    worker.tell(sent)
    sent.get(timeout=PATIENCE)
    wait_for(lambda: not worker.inspect().active()[worker.name], PATIENCE)


def test_an_idle_worker_answers(worker):
    assert {"ok": "pong"} == worker.inspect().ping()[worker.name]
    stats = worker.inspect().stats()[worker.name]
    assert worker.concurrency == stats["pool"]["max-concurrency"]
    assert stats["total"]["written"] > 0


# The loop, and what lives on it.


def test_as_many_run_at_once_as_the_worker_may(worker):
    place = f"place of {worker.queue}"
    sent = [worker.send("meet", place, worker.concurrency) for _ in range(worker.concurrency)]
    assert [None] * worker.concurrency == [each.get(timeout=PATIENCE) for each in sent]


def test_a_process_has_one_loop(worker):
    sent = [worker.send("say where") for _ in range(20)]
    loops = {tuple(each.get(timeout=PATIENCE)) for each in sent}
    assert len({pid for pid, _ in loops}) == len(loops)


def test_a_lock_of_the_loop_is_held_by_one_task_after_the_other(worker):
    sent = [worker.send("hold the lock") for _ in range(20)]
    assert [True] * 20 == [each.get(timeout=PATIENCE) for each in sent]


@pytest.mark.parametrize(("name", "tasks"), [("query", 200), ("query a resource", 20)])
def test_two_connections_are_enough_for_many_tasks(worker, dsn, name, tasks):
    sent = [worker.send(name, dsn, number) for number in range(tasks)]

    answers = [each.get(timeout=3 * PATIENCE) for each in sent]

    assert list(range(tasks)) == [number for number, _ in answers]
    processes = worker.concurrency if worker.pool == "prefork" else 1
    assert len({backend for _, backend in answers}) <= 2 * processes


def test_a_session_is_committed_or_rolled_back(worker):
    sent = [worker.send("write down", number, kwargs={"fail": number % 2}) for number in range(20)]
    for number, each in enumerate(sent):
        assert isinstance(each.get(timeout=PATIENCE, propagate=False), KeyError) == (number % 2)

    assert worker.ask("read") == list(range(0, 20, 2))


@pytest.mark.parametrize("worker", ["threads", "asyncio"], indirect=True)
def test_an_error_that_two_tasks_share_fails_the_one_that_lets_it_out(worker):
    """Of such an error Celery knows the frames of the last who met it, and clears them."""
    fails = worker.begin("share an error", kwargs={"caught": False})
    goes_on = worker.begin("share an error", kwargs={"caught": True})

    worker.ask("give an error")

    with pytest.raises(KeyError):
        fails.get(timeout=PATIENCE)
    worker.tell(goes_on)
    assert goes_on.get(timeout=PATIENCE) == "told"


@pytest.mark.parametrize("worker", ["threads", "solo", "asyncio"], indirect=True)
def test_a_drivers_own_task_outlives_an_error_that_it_hands_to_a_task(worker):
    with pytest.raises(KeyError):
        worker.ask("wait for a reader")
    assert worker.ask("ask the reader") == "read on"


# Acknowledgement, and what ends a worker.


@answers_while_busy
def test_a_message_is_acknowledged_when_its_task_begins(worker):
    sent = worker.begin("wait")
    wait_for(lambda: sent.id not in worker.unacknowledged(), PATIENCE)
    worker.tell(sent)


def test_a_message_is_acknowledged_late_where_that_is_asked_for(worker):
    sent = worker.begin("wait unacknowledged")
    assert sent.id in worker.unacknowledged()
    worker.tell(sent)
    wait_for(lambda: sent.id not in worker.unacknowledged(), PATIENCE)
    assert sent.get(timeout=PATIENCE) == "told"


@pytest.mark.parametrize("worker", ["prefork"], indirect=True)
def test_a_task_whose_process_dies_comes_again_where_that_is_asked_for(worker):
    assert worker.ask("kill its process") == "redelivered"


def test_what_a_killed_worker_had_not_acknowledged_is_run_by_the_next(strict, workers):
    sent = strict.begin("wait unacknowledged", soft_time_limit=60, time_limit=90)
    strict.process.kill()
    visible = lambda: strict.redis.zcount(f"{strict.unacked}-index", 0, time.time() - 1)  # noqa: E731
    wait_for(visible, PATIENCE)

    workers.get(strict.pool, "heir")

    assert sent.get(timeout=PATIENCE) == "redelivered"


def test_a_worker_that_is_told_to_stop_ends_what_it_runs(heir):
    running = [heir.begin("wait") for _ in range(min(heir.concurrency, 20))]

    heir.process.terminate()
    heir.process.expect("Warm shutdown")
    heir.tell(*running)

    assert heir.process.wait() == 0
    assert ["told"] * len(running) == [each.get(timeout=PATIENCE) for each in running]
    for trouble in ("ERROR", "Traceback", "was destroyed", "never awaited", "Exception ignored"):
        assert trouble not in heir.process.output()


# Eager mode.

EAGER = """
import asyncio, warnings
import errands
from celery import chord

for each in (ResourceWarning, RuntimeWarning):
    warnings.simplefilter("always", each)
errands.app.conf.task_always_eager = True
add, add_all = errands.add, errands.add_all

async def main():
    return (
        add.delay(1, 2).get(),
        add.apply((1, 2)).get(),
        errands.retry.delay(2).get(),
        (add.s(1) | add.s(2)).delay().get(),
        chord([add.s(1), add.s(2)])(add_all.s()).get(),
    )

assert asyncio.run(main()) == (3, 3, 2, 3, 3)
assert asyncio.run(main()) == (3, 3, 2, 3, 3)
assert add.delay(1).get() == 1
assert errands.fail.delay("KeyError").state == "FAILURE"
assert errands.look.delay(1).get()["thread"]["retries"] == 1
errands.notes.close()
"""


def test_eager_tasks_run_within_and_without_a_running_loop(url, processes):
    env = {"ERRANDS_REDIS": url, "ERRANDS_CONF": "{}", "PYTHONPATH": PATH}
    eager = processes.start("eager", sys.executable, "-c", EAGER, env=env)
    assert eager.wait() == 0
    assert eager.output() == ""
