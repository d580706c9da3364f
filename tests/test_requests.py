from __future__ import annotations

import logging
from datetime import datetime, timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, signals, states
from celery.concurrency.base import BasePool
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Terminated, WorkerLostError
from celery.worker import state as worker_state
from celery.worker.request import create_request_cls
from servers import wait_for
from traced import Runs, header, raises

from celery_sqlalchemy_kit import SyncTask, book, requests
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.history import ATTEMPT
from celery_sqlalchemy_kit.signals import task_lost

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests", "workers_leave_logging_alone")


@pytest.fixture
def app(runs):
    app = Celery("tests", broker="memory://", backend="cache+memory://")
    app.conf.update(
        scheduler_db_uri=str(runs.url),
        celery_retry_delay=0,
        task_default_queue=f"queue-{uuid4()}",
        broker_transport_options={"polling_interval": 0.01},
    )
    yield app
    kept = book.book_of(app)
    kept._kept.clear()
    wait_for(lambda: kept._writer is None)  # it may be about to tell what another test listens to
    worker_state.reset_state()
    app.close()


@pytest.fixture
def task(app):
    app.task(base=SyncTask, name="task")(nothing)
    return app.tasks["task"]


@pytest.fixture
def repeats(app):
    app.task(base=SyncTask, name="repeats", on_worker_lost="again")(nothing)
    return app.tasks["repeats"]


def nothing(*_):
    pass


@pytest.fixture
def lost():
    """What the signal `task_lost` has told."""
    told = []
    task_lost.connect(lambda **sent: told.append(sent), weak=False, dispatch_uid="test")
    yield told
    task_lost.disconnect(dispatch_uid="test")


@pytest.fixture
def recorded(app):
    """Waits until all that there is to record is."""
    return lambda: wait_for(lambda: book.book_of(app)._writer is None)


# What the worker's main process does with a message.


@pytest.fixture
def accept(app):
    """A request as the worker makes it of a message; `acks` has what became of the message."""

    def make(task, run_id, **options):
        task.apply_async(task_id=str(run_id), **options)
        with app.connection() as connection:
            queue = connection.SimpleQueue(app.conf.task_default_queue)
            message = queue.get(timeout=5)
            message.ack()
            queue.close()
        acks = []
        pool = SimpleNamespace(apply_async=lambda *args, **kwargs: None)
        request_class = create_request_cls(
            requests.RunRequest, task, pool, "celery@here", None, app=app
        )
        request = request_class(
            message,
            on_ack=lambda *_: acks.append("acked"),
            on_reject=lambda log, errors, requeue: acks.append(
                "requeued" if requeue else "rejected"
            ),
            app=app,
            task=task,
            hostname="celery@here",
        )
        request.acks = acks
        return request

    return make


def fail(request, error):
    try:
        raises(error)()
    except type(error):
        info = ExceptionInfo()
    request.on_failure(info)


def test_celery_uses_our_request_for_our_tasks(task):
    assert task.Request == f"{requests.RunRequest.__module__}:{requests.RunRequest.__name__}"


def test_the_message_of_a_run_is_acknowledged_when_it_has_ended(task, accept):
    request = accept(task, uuid4(), headers=header())
    request.on_accepted(pid=1, time_accepted=0)
    assert request.acks == []

    request.on_success((0, None, 0.1))
    assert request.acks == ["acked"]


def test_the_message_of_a_direct_call_is_acknowledged_once_accepted(task, accept):
    request = accept(task, uuid4())
    request.on_accepted(pid=1, time_accepted=0)
    assert request.acks == ["acked"]

    request.on_success((0, None, 0.1))
    assert request.acks == ["acked"]


@pytest.mark.parametrize("where", ["decorator", "class", "setting", "annotation", "instance"])
def test_late_acknowledgement_that_was_asked_for_holds_for_direct_calls(app, accept, where):
    class Late(SyncTask):
        abstract = True
        acks_late = True

    app.conf.task_acks_late = where == "setting"
    app.conf.task_annotations = {"late": {"acks_late": True}} if where == "annotation" else None
    base = Late if where == "class" else SyncTask
    asked = {"acks_late": True} if where == "decorator" else {}
    app.task(base=base, name="late", **asked)(nothing)
    task = app.tasks["late"]
    if where == "instance":
        task.acks_late = True

    request = accept(task, uuid4())
    request.on_accepted(pid=1, time_accepted=0)
    assert request.acks == []


@pytest.mark.parametrize("headers", [{}, header()], ids=["a direct call", "a run"])
def test_early_acknowledgement_that_was_asked_for_holds_for_runs_too(app, accept, headers):
    app.task(base=SyncTask, name="early", acks_late=False)(nothing)

    request = accept(app.tasks["early"], uuid4(), headers=headers)
    request.on_accepted(pid=1, time_accepted=0)
    assert request.acks == ["acked"]


@pytest.mark.parametrize("error", [WorkerLostError("killed"), SystemExit(1), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("state", "retries"), [("claimed", 0), ("sent", 0), ("lost", 0), ("retrying", 1)]
)
def test_the_message_of_a_run_whose_process_died_before_it_began_is_put_back(
    app, task, accept, store_run, stored, error, state, retries
):
    run_id = store_run(state, **({"attempt_id": uuid4()} if retries else {}))
    before = stored(run_id)
    request = accept(task, run_id, headers=header(), retries=retries)
    request.on_accepted(pid=1, time_accepted=0)

    fail(request, error)

    assert request.acks == ["requeued"]
    assert app.AsyncResult(str(run_id)).state == states.PENDING
    assert stored(run_id) == before


@pytest.mark.parametrize("state", ["running", "lost", "retrying", "succeeded", None])
def test_the_message_of_a_run_that_another_attempt_has_is_not_put_back(
    app, task, accept, store_run, stored, lost, state
):
    run_id = uuid4() if state is None else store_run(state, attempt_id=uuid4())
    request = accept(task, run_id, headers=header())
    request.on_accepted(pid=1, time_accepted=0)

    fail(request, WorkerLostError("killed"))

    assert request.acks == ["acked"]
    assert app.AsyncResult(str(run_id)).state == states.FAILURE
    assert state is None or stored(run_id).state == state
    assert lost == []


@pytest.fixture
def begun(accept, runs):
    """A request whose run has begun in the process that it was given to."""

    def make(task, **values):
        run_id = runs.store(task=task.name)
        request = accept(task, run_id, headers=header())
        request.on_accepted(pid=1, time_accepted=0)
        attempt_id = UUID(request.request_dict[ATTEMPT])
        runs.change(
            **{"state": "running", "attempt_id": attempt_id, "worker": "celery@here"} | values
        )
        return request

    return make


def test_a_run_whose_process_died_is_lost_at_once(app, task, begun, stored, lost, caplog):
    request = begun(task, routine_name="nightly")
    fail(request, WorkerLostError("killed"))

    row = stored(request.id)
    assert (row.state, request.acks) == ("lost", ["acked"])
    assert row.reason.startswith("its process died: ")
    assert row.finished_at is not None
    assert app.AsyncResult(request.id).state == states.FAILURE
    assert f"task[{request.id}]: lost: its process died" in caplog.text
    (told,) = lost
    assert (told["sender"], told["routine_name"], told["run_id"]) == (
        "nightly",
        "nightly",
        UUID(request.id),
    )
    assert (told["task"], told["worker"], told["again"]) == ("task", "celery@here", False)
    assert told["reason"] == row.reason


@pytest.mark.parametrize(
    "error", [WorkerLostError("killed"), SystemExit("killed"), KeyboardInterrupt("killed")]
)
def test_a_run_whose_process_died_begins_again_if_its_task_says_so(
    app, repeats, begun, stored, lost, caplog, error
):
    request = begun(repeats)
    fail(request, error)

    row = stored(request.id)
    assert (row.state, row.reason, request.acks) == (
        "sent",  # and not over: nothing else of its routine may run meanwhile
        "its process died: killed",
        ["requeued"],
    )
    assert app.AsyncResult(request.id).state == states.PENDING
    assert [told["again"] for told in lost] == [True]
    assert "lost, begins again: its process died: killed" in caplog.text


def test_a_run_that_begins_again_and_is_acknowledged_early_is_left_to_a_scheduler(
    app, accept, runs, lost
):
    app.task(base=SyncTask, name="early", acks_late=False, on_worker_lost="again")(nothing)
    run_id = runs.store()
    request = accept(app.tasks["early"], run_id, headers=header())
    request.on_accepted(pid=1, time_accepted=0)
    runs.change(state="running", attempt_id=UUID(request.request_dict[ATTEMPT]))

    fail(request, WorkerLostError("killed"))
    assert (runs.read(run_id).state, request.acks, lost) == ("running", ["acked"], [])


def test_a_run_that_has_ended_before_its_process_died_stays_as_it_is(repeats, begun, stored, lost):
    request = begun(repeats, state="succeeded")
    fail(request, WorkerLostError("killed"))
    assert (stored(request.id).state, request.acks, lost) == ("succeeded", ["acked"], [])


@pytest.mark.parametrize("state", ["running", "sent"])
def test_a_run_whose_process_died_while_the_database_was_away_is_lost_when_it_is_back(
    runs, task, begun, recorded, lost, state
):
    """Whether it had begun nobody knows any more: it is not begun a second time."""
    request = begun(task, state=state, attempts=1 if state == "running" else 0)
    if state == "sent":
        runs.change(attempt_id=None)
    runs.go_away()
    fail(request, WorkerLostError("killed"))
    assert (request.acks, lost) == (["acked"], [])
    runs.come_back()

    wait_for(lambda: runs.read(request.id).state == "lost")
    recorded()
    assert (runs.read(request.id).attempts, len(lost)) == (1, 1)


def test_a_run_that_begins_again_is_put_back_while_the_database_is_away(
    runs, repeats, begun, recorded
):
    request = begun(repeats)
    runs.go_away()
    fail(request, WorkerLostError("killed"))
    assert request.acks == ["requeued"]
    runs.come_back()

    wait_for(lambda: runs.read(request.id).state == "sent")


def test_a_run_that_its_worker_cancels_is_lost(runs, task, begun, recorded, lost):
    """As Celery does when its connection is lost, or at a cold shutdown; the message is kept."""
    request = begun(task)
    request.cancel(SimpleNamespace(terminate_job=nothing))

    wait_for(lambda: runs.read(request.id).state == "lost")
    recorded()
    assert runs.read(request.id).reason == "cancelled by its worker"
    assert (request.acks, len(lost)) == ([], 1)


def test_a_run_goes_on_whose_pool_cannot_cancel_it(runs, task, begun, recorded, lost):
    """As under threads and solo, where Celery's own error would go into the task that runs."""
    request = begun(task)
    request.cancel(BasePool())

    recorded()
    assert runs.read(request.id).state == "running"
    assert (request.acks, lost) == ([], [])


@pytest.mark.parametrize("reject_on_worker_lost", [None, True])
def test_a_direct_call_whose_process_died_fails_as_celery_has_it(
    app, accept, reject_on_worker_lost
):
    failures = []
    app.task(base=SyncTask, name="t", reject_on_worker_lost=reject_on_worker_lost)(nothing)
    task_id = uuid4()
    request = accept(app.tasks["t"], task_id)
    request.on_accepted(pid=1, time_accepted=0)

    @signals.task_failure.connect
    def note(task_id=None, **_):
        failures.append(task_id)

    fail(request, WorkerLostError("killed"))

    assert request.acks == ["acked"]
    assert app.AsyncResult(str(task_id)).state == states.FAILURE
    assert failures == [str(task_id)]
    assert (request.task.name, request.task.acks_late) == ("t", False)


def test_a_direct_call_with_late_acknowledgement_is_put_back_if_so_asked(app, accept):
    late = {"acks_late": True, "reject_on_worker_lost": True}
    app.task(base=SyncTask, name="late", **late)(nothing)
    request = accept(app.tasks["late"], uuid4())
    request.on_accepted(pid=1, time_accepted=0)

    fail(request, WorkerLostError("killed"))
    assert request.acks == ["requeued"]


def test_other_failures_are_left_to_celery(app, task, accept, store_run):
    run_id = store_run()
    request = accept(task, run_id, headers=header())
    request.on_accepted(pid=1, time_accepted=0)

    fail(request, KeyError("x"))
    assert request.acks == ["acked"]


def test_a_run_that_was_terminated_is_not_put_back(app, task, accept, store_run):
    request = accept(task, store_run(), headers=header())
    request.on_accepted(pid=1, time_accepted=0)

    fail(request, Terminated(15))
    assert request.acks == ["acked"]
    assert app.AsyncResult(request.id).state == states.REVOKED


# What Celery tells of a message.


def test_each_message_of_a_run_is_an_attempt_of_its_own(task, accept):
    run_id = uuid4()
    messages = [accept(task, run_id, headers=header(**{ATTEMPT: "x"})) for _ in range(2)]
    attempts = {UUID(message.request_dict[ATTEMPT]) for message in messages}

    assert len(attempts) == 2
    assert ATTEMPT not in accept(task, run_id).request_dict
    assert ATTEMPT not in accept(task, "by hand", headers=header()).request_dict


@pytest.mark.parametrize("begins", [True, False], ids=["begun", "not begun"])
def test_the_hard_time_limit_ends_a_run_as_failed(runs, task, begun, recorded, begins):
    request = begun(task, **({} if begins else {"state": "sent", "attempt_id": None}))
    request.on_timeout(soft=True, timeout=1)
    request.on_timeout(soft=False, timeout=2.5)
    recorded()

    row = runs.read(request.id)
    assert (row.state, row.error) == (
        "failed",
        "TimeLimitExceeded: the hard time limit of 2.5 s",
    )


def test_time_limits_of_direct_calls_are_no_business_of_ours(runs, task, accept, recorded):
    request = accept(task, uuid4())
    request.on_timeout(soft=False, timeout=1)
    assert not book.book_of(task.app)._kept


@pytest.fixture
def told(app, recorded):
    """Tells a request of something; waits until it is recorded."""

    def tell(request, state="revoked", **values):
        if state == "expired":
            request.expires = datetime.now(UTC) - timedelta(seconds=1)
        else:
            worker_state.revoked.add(request.id)
        assert request.revoked()
        recorded()

    yield tell
    worker_state.revoked.clear()


@pytest.mark.parametrize("why", ["revoked", "expired"])
def test_a_message_that_is_revoked_or_has_expired_skips_its_run(
    runs, task, accept, told, caplog, why
):
    caplog.set_level(logging.INFO)
    run_id = runs.store()
    told(accept(task, run_id, headers=header()), why)

    row = runs.read(run_id)
    assert (row.state, row.reason) == ("skipped", why)
    assert row.finished_at is not None
    assert f"task[{run_id}]: skipped: {why}" in caplog.text


@pytest.mark.parametrize("state", ["running", "succeeded", "failed"])
def test_a_revoked_duplicate_leaves_its_run_alone(runs, task, accept, told, state):
    run_id = runs.store(state, attempt_id=uuid4())
    before = runs.read(run_id)
    told(accept(task, run_id, headers=header()))
    assert runs.read(run_id) == before


def test_a_retry_that_is_revoked_leaves_a_failed_run(runs, task, accept, told):
    run_id = runs.store("retrying", attempt_id=uuid4(), error="OSError: no route")
    told(accept(task, run_id, headers=header(), retries=1))

    row = runs.read(run_id)
    assert (row.state, row.reason, row.error) == ("failed", "revoked", "OSError: no route")


def test_a_run_that_is_terminated_has_failed(runs, task, begun, recorded, lost):
    request = begun(task)
    request.terminate(SimpleNamespace(terminate_job=nothing), "TERM")
    recorded()
    fail(request, Terminated(15))

    row = runs.read(request.id)
    assert (row.state, row.reason, lost) == ("failed", "revoked", [])


def test_a_direct_call_that_is_revoked_is_no_business_of_ours(app, task, accept, told):
    told(accept(task, uuid4()))
    assert not book.book_of(app)._kept


# Through a real worker.


def test_a_message_of_a_task_that_its_worker_does_not_know_loses_its_run(app, runs):
    run_id = runs.store()
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR") as worker:
        app.send_task("nobody.knows", task_id=str(run_id), headers=header())
        app.send_task("nobody.knows", task_id="by hand")
        wait_for(lambda: runs.read(run_id).state == "lost")
        reason = f"unknown task nobody.knows on {worker.hostname}"
    assert runs.read(run_id).reason == reason


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_message_that_expired_in_the_queue_skips_its_run(app, task, runs, pool):
    run_id = runs.store()
    past = datetime.now(UTC) - timedelta(seconds=5)
    task.apply_async(task_id=str(run_id), headers=header(), expires=past)
    with start_worker(app, pool=pool, perform_ping_check=False, loglevel="ERROR"):
        wait_for(lambda: runs.read(run_id).state == "skipped")
    assert runs.read(run_id).reason == "expired"


PROJECT = """
import os, signal, time
from celery import Celery
from celery_sqlalchemy_kit import SyncTask, routine
from celery_sqlalchemy_kit.signals import task_lost

app = Celery("proj", broker={broker!r}, backend={broker!r})
app.conf.scheduler_db_uri = {database!r}
app.conf.worker_prefetch_multiplier = 1


@task_lost.connect
def tell(sender, again, **_):
    print(f"lost {{sender}} {{again}}", flush=True)


def work(self, how, *, attempt_file={directory!r} + "/attempts"):
    with open(attempt_file, "a") as file:
        file.write("x")
    first = os.path.getsize(attempt_file) == 1
    print(f"at work {{how}}", flush=True)
    if how == "dies" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "sleeps":
        time.sleep(60)
    return how


app.task(work, bind=True, base=SyncTask, name="lost")
app.task(work, bind=True, base=SyncTask, name="again", on_worker_lost="again")
app.task(work, bind=True, base=SyncTask, name="limited", time_limit=1)
"""


@pytest.fixture
def project(redis_url, postgresql, tmp_path, processes):
    """A worker with a pool of processes, on Redis and PostgreSQL."""

    class Project:
        runs = Runs(postgresql)
        client = Celery(broker=redis_url, backend=redis_url, set_as_current=False)

        def send(self, task, *args):
            run_id = self.runs.store(routine_name="nightly", task=task)
            self.client.send_task(task, args, task_id=str(run_id), headers=header())
            return run_id

        def ends(self, run_id, state):
            wait_for(lambda: self.runs.read(run_id).state == state, 30, what=state)
            return self.runs.read(run_id)

    database = postgresql.render_as_string(hide_password=False)
    values = {"broker": redis_url, "database": database, "directory": str(tmp_path)}
    processes.app("proj", PROJECT.format(**values))
    project = Project()
    project.worker = processes.worker()
    yield project
    processes.kill()
    project.runs.engine.dispose()
    project.client.close()


def test_a_pool_process_that_is_killed_in_the_middle_of_a_run_loses_it_at_once(project):
    run_id = project.send("lost", "dies")

    row = project.ends(run_id, "lost")
    assert row.attempts == 1
    assert "SIGKILL" in row.reason
    project.worker.expect("lost nightly False")


def test_a_run_that_may_be_repeated_begins_again_when_its_process_was_killed(project):
    run_id = project.send("again", "dies")

    assert project.ends(run_id, "succeeded").attempts == 2
    project.worker.expect("lost nightly True")
    assert project.worker.output().count("at work") == 2


def test_a_run_ends_when_it_is_out_of_time_or_terminated(project):
    run_id = project.send("limited", "sleeps")
    row = project.ends(run_id, "failed")
    assert (row.error, row.attempts) == ("TimeLimitExceeded: the hard time limit of 1 s", 1)

    run_id = project.send("lost", "sleeps")
    project.ends(run_id, "running")
    project.client.control.revoke(str(run_id), terminate=True, signal="SIGKILL")
    assert project.ends(run_id, "failed").reason == "revoked"
    assert "lost nightly" not in project.worker.output()
