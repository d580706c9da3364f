from __future__ import annotations

import logging
from datetime import datetime, timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from billiard.einfo import ExceptionInfo
from celery import Celery, signals, states
from celery.app.trace import build_tracer
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject, Terminated, WorkerLostError
from celery.worker.request import create_request_cls
from servers import wait_for

from celery_sqlalchemy_kit import AsyncTask, SyncTask, dispatch, history, tables
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.store.connections import engine_for, make_engine
from celery_sqlalchemy_kit.store.ledger import ERROR_LIMIT

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests", "workers_leave_logging_alone")


@pytest.fixture
def engine(sqlite):
    engine = make_engine(sqlite)
    tables.metadata.create_all(engine)
    yield engine
    engine.dispose()
    engine_for(sqlite, "ledger").dispose()


@pytest.fixture
def app(sqlite):
    app = Celery("tests", broker="memory://", backend="cache+memory://")
    app.conf.update(
        scheduler_db_uri=str(sqlite),
        celery_retry_delay=0,
        task_default_queue=f"queue-{uuid4()}",
        broker_transport_options={"polling_interval": 0.01},
    )
    yield app
    app.close()


@pytest.fixture
def store_run(engine):
    def store(state="sent", **values):
        run_id = uuid4()
        values = {"id": run_id, "routine_id": uuid4(), "routine_name": "r", "task": "r"} | values
        with engine.begin() as connection:
            connection.execute(
                sa.insert(tables.runs).values(
                    scheduled_for=datetime.now(UTC), cause="schedule", state=state, **values
                )
            )
        return run_id

    return store


@pytest.fixture
def stored(engine):
    def read(run_id):
        with engine.connect() as connection:
            return connection.execute(
                sa.select(tables.runs).where(tables.runs.c.id == UUID(str(run_id)))
            ).one()

    return read


@pytest.fixture
def calls():
    return []


@pytest.fixture
def task(app, calls):
    """A task whose body does what its argument says."""

    @app.task(base=SyncTask, bind=True, name="task")
    def task(self, does=None):
        calls.append(self.request.id)
        return does() if callable(does) else does

    return app.tasks[task.name]


def header(age=timedelta(0)):
    return {history.HEADER: (datetime.now(UTC) - age).isoformat()}


def trace(task, run_id, does=None, headers=None, retries=0, **request):
    """Run *task* with Celery's own tracer, as a worker does for the message of a run."""
    request = {
        "id": str(run_id),
        "task": task.name,
        "retries": retries,
        "hostname": "celery@here",
        "delivery_info": {"exchange": "", "routing_key": task.app.conf.task_default_queue},
        **(header() if headers is None else headers),
        **request,
    }
    tracer = build_tracer(task.name, task, app=task.app)
    return tracer(str(run_id), (does,), {}, request)


def state_of(traced):
    return states.SUCCESS if traced.info is None else traced.info.state


def nothing(*_):
    pass


def raises(error):
    def body():
        raise error

    return body


def test_a_run_is_running_within_the_body_and_succeeded_after_it(task, store_run, stored, calls):
    run_id, within = store_run(), []

    assert state_of(trace(task, run_id, lambda: within.append(stored(run_id)))) == states.SUCCESS

    assert (within[0].state, within[0].worker, within[0].attempts) == ("running", "celery@here", 1)
    assert (stored(run_id).state, stored(run_id).reason, stored(run_id).error) == (
        "succeeded",
        None,
        None,
    )
    assert stored(run_id).finished_at is not None
    assert stored(run_id).attempt_id == within[0].attempt_id


def test_a_failure_is_recorded_with_type_message_and_last_frames(app, store_run, stored):
    @app.task(base=SyncTask, name="fails", max_retries=0)
    def fails(_):
        raise KeyError("no such report")

    run_id = store_run()
    assert state_of(trace(app.tasks["fails"], run_id)) == states.FAILURE

    assert stored(run_id).state == "failed"
    assert stored(run_id).error.startswith("KeyError: 'no such report'")
    assert 'raise KeyError("no such report")' in stored(run_id).error


def test_of_a_deep_stack_and_a_long_message_the_ends_that_tell_are_kept():
    def odd(depth):
        even(depth - 1)

    def even(depth):
        if depth == 0:
            raise ValueError("é" * 9999)
        odd(depth - 1)

    with pytest.raises(ValueError) as raised:
        even(500)
    told = history.describe(raised.value)

    assert told.startswith("ValueError: éé")
    assert told.endswith('raise ValueError("é" * 9999)')
    assert told.count("in odd") > 5
    assert ERROR_LIMIT - 500 < len(told.encode()) <= ERROR_LIMIT


def test_an_exception_that_cannot_be_shown_is_told_all_the_same():
    class Shy(Exception):
        def __str__(self):
            raise RuntimeError

    assert "Shy" in history.describe(Shy())


@pytest.fixture
def fails_at_first(app):
    @app.task(base=SyncTask, bind=True, name="fails at first")
    def fails_at_first(self, _):
        if self.request.retries == 0:
            raise OSError("no route")

    return app.tasks[fails_at_first.name]


def test_a_retry_is_recorded_with_its_cause(fails_at_first, store_run, stored):
    run_id = store_run()
    assert state_of(trace(fails_at_first, run_id)) == states.RETRY

    assert (stored(run_id).state, stored(run_id).finished_at) == ("retrying", None)
    assert stored(run_id).error.startswith("OSError: no route")


def test_a_retry_begins_the_next_attempt_and_its_end_clears_the_error(
    fails_at_first, store_run, stored
):
    run_id = store_run()
    trace(fails_at_first, run_id)
    trace(fails_at_first, run_id, retries=1)

    assert (stored(run_id).state, stored(run_id).attempts) == ("succeeded", 2)
    assert stored(run_id).error is None


def test_ignore_ends_a_run_as_succeeded_with_that_reason(task, store_run, stored):
    run_id = store_run()
    assert state_of(trace(task, run_id, raises(Ignore()))) == states.IGNORED
    assert (stored(run_id).state, stored(run_id).reason) == ("succeeded", "ignored")


def test_reject_ends_a_run_as_failed_and_is_not_retried(task, store_run, stored):
    run_id = store_run()
    traced = trace(task, run_id, raises(Reject(ValueError("bad input"))))

    assert state_of(traced) == states.REJECTED
    assert (stored(run_id).state, stored(run_id).reason) == ("failed", "rejected")
    assert stored(run_id).error.startswith("ValueError: bad input")


def test_a_requeued_run_is_unstarted_and_begins_again(task, store_run, stored, calls):
    run_id = store_run()
    trace(task, run_id, raises(Reject("later", requeue=True)))
    assert (stored(run_id).state, stored(run_id).attempt_id) == ("sent", None)

    trace(task, run_id)
    assert (stored(run_id).state, len(calls)) == ("succeeded", 2)


@pytest.mark.parametrize("state", ["running", "succeeded", "failed", "missed", "skipped"])
def test_a_duplicate_is_dropped_and_leaves_the_run_as_it_is(
    task, store_run, stored, calls, caplog, state
):
    run_id = store_run(state, attempt_id=uuid4(), attempts=1)
    before = stored(run_id)
    caplog.set_level(logging.INFO)

    assert state_of(trace(task, run_id)) == states.IGNORED

    assert calls == []
    assert stored(run_id) == before
    assert f"task[{run_id}]: dropped" in caplog.text


def test_a_duplicate_does_not_write_started_over_a_stored_failure(app, store_run):
    @app.task(base=SyncTask, name="tracked", track_started=True, max_retries=0)
    def tracked(_):
        raise KeyError

    run_id = store_run()
    trace(app.tasks["tracked"], run_id)
    assert app.AsyncResult(str(run_id)).state == states.FAILURE

    assert state_of(trace(app.tasks["tracked"], run_id)) == states.IGNORED
    assert app.AsyncResult(str(run_id)).state == states.FAILURE


@pytest.mark.parametrize(
    ("attributes", "seen"),
    [
        ({"track_started": True}, states.STARTED),
        ({}, states.PENDING),
        ({"track_started": True, "ignore_result": True}, states.PENDING),
    ],
)
@pytest.mark.parametrize("headers", [None, {}], ids=["a run", "a direct call"])
def test_the_start_is_tracked_if_asked_for(app, store_run, attributes, seen, headers):
    @app.task(base=SyncTask, bind=True, name="tracked", **attributes)
    def tracked(self, _):
        return app.AsyncResult(self.request.id).state

    assert trace(app.tasks["tracked"], store_run(), headers=headers).retval == seen


def test_the_start_is_tracked_if_the_setting_says_so(app, store_run):
    app.conf.task_track_started = True

    @app.task(base=SyncTask, bind=True, name="tracked")
    def tracked(self, _):
        return app.AsyncResult(self.request.id).info

    assert trace(app.tasks["tracked"], store_run()).retval["hostname"] == "celery@here"


def test_a_run_without_a_row_is_run_with_a_warning(task, engine, calls, caplog):
    run_id = uuid4()
    assert state_of(trace(task, run_id)) == states.SUCCESS
    assert calls == [str(run_id)]
    assert f"task[{run_id}]: runs, but the database has no such run" in caplog.text


@pytest.mark.parametrize(
    ("age", "runs"),
    [
        (history.RETENTION - timedelta(minutes=1), True),
        (history.RETENTION + timedelta(minutes=1), False),
    ],
)
def test_a_run_without_a_row_is_dropped_once_it_may_have_been_pruned(
    task, engine, calls, caplog, age, runs
):
    caplog.set_level(logging.INFO)
    trace(task, uuid4(), headers=header(age))

    assert bool(calls) is runs
    assert ("pruned" in caplog.text) is not runs


@pytest.mark.parametrize("value", ["yes", "2020-13-45", 17, True])
def test_a_run_without_a_row_whose_claim_has_no_readable_time_is_run(task, engine, calls, value):
    trace(task, uuid4(), headers={history.HEADER: value})
    assert len(calls) == 1


@pytest.mark.parametrize("value", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00"])
def test_the_time_of_a_claim_is_read_as_utc(task, engine, calls, value):
    trace(task, uuid4(), headers={history.HEADER: value})
    assert calls == []


def test_a_message_without_the_header_never_touches_the_ledger(app, task, store_run, stored, calls):
    run_id = store_run("succeeded")
    app.conf.scheduler_db_uri = "sqlite:////no/such/directory/db"

    assert state_of(trace(task, run_id, headers={})) == states.SUCCESS
    assert (len(calls), stored(run_id).attempts) == (1, 0)


def test_an_eager_call_never_touches_the_ledger(task, store_run, stored, calls):
    run_id = store_run()
    task.apply((None,), task_id=str(run_id), headers=header()).get()
    trace(task, run_id, is_eager=True)

    assert (len(calls), stored(run_id).state) == (2, "sent")


def test_a_run_whose_id_is_none_of_ours_is_run(task, engine, calls):
    assert state_of(trace(task, "by-hand")) == states.SUCCESS
    assert calls == ["by-hand"]


def test_what_a_task_sends_is_not_part_of_its_run(app, task, store_run):
    sent = []

    @signals.before_task_publish.connect
    def note(headers=None, **_):
        sent.append(headers)

    trace(task, store_run(), task.delay)
    assert [history.HEADER in each for each in sent] == [False]


@pytest.fixture
def away(app):
    """A database that is not there, and comes to be when it is called."""
    url = app.conf.scheduler_db_uri
    app.conf.scheduler_db_uri = "sqlite:////no/such/directory/routines.db"
    yield lambda: setattr(history._book(app), "_url", sa.engine.make_url(url))
    engine_for(sa.engine.make_url("sqlite:////no/such/directory/routines.db"), "ledger").dispose()


def test_without_the_database_tasks_run_and_one_outage_is_told_once(
    task, store_run, calls, caplog, away
):
    caplog.set_level(logging.INFO)
    trace(task, store_run())
    trace(task, store_run())
    assert len(calls) == 2
    assert caplog.text.count("the database cannot be reached") == 1

    away()
    trace(task, store_run())
    trace(task, store_run())
    assert caplog.text.count("can be reached again") == 1


def test_a_run_that_began_while_the_database_was_away_is_recorded_at_its_end(
    task, store_run, stored, calls, away
):
    run_id = store_run()
    trace(task, run_id, lambda: away())

    assert (stored(run_id).state, stored(run_id).attempts) == ("succeeded", 1)
    assert state_of(trace(task, run_id)) == states.IGNORED


def test_a_run_that_another_began_meanwhile_is_left_to_it(task, store_run, stored, away):
    run_id, other = store_run(), uuid4()

    def body():
        away()
        ledger = history.Ledger.at(history._book(task.app)._url)
        ledger.begin(run_id, other, retries=0, worker="other")

    trace(task, run_id, body)
    assert (stored(run_id).state, stored(run_id).attempt_id) == ("running", other)


def test_a_database_that_goes_away_within_the_body_leaves_the_tasks_result(
    app, task, engine, store_run, caplog
):
    traced = trace(task, store_run(), lambda: tables.metadata.drop_all(engine) or "result")

    assert (state_of(traced), traced.retval) == (states.SUCCESS, "result")
    assert "the database cannot be reached" in caplog.text


def test_an_end_that_comes_too_late_is_told(task, engine, store_run, stored, caplog):
    run_id = store_run()

    def taken_over():
        with engine.begin() as connection:
            connection.execute(sa.update(tables.runs).values(attempt_id=uuid4()))

    trace(task, run_id, taken_over)
    assert stored(run_id).state == "running"
    assert "no longer this attempt's" in caplog.text


def test_without_scheduler_db_uri_tasks_run_and_it_is_told_once(app, task, calls, caplog):
    app.conf.scheduler_db_uri = None
    trace(task, uuid4())
    trace(task, uuid4())

    assert len(calls) == 2
    assert caplog.text.count("scheduler_db_uri is not set") == 1


def test_with_wrong_settings_plain_tasks_run_and_the_fault_is_told_once(app, calls, caplog):
    @app.task(name="plain")
    def plain(_):
        calls.append(1)

    app.finalize()
    app.conf.scheduler_db_uri = "nonsense"
    trace(app.tasks["plain"], uuid4())
    trace(app.tasks["plain"], uuid4())

    assert len(calls) == 2
    assert caplog.text.count("nothing is recorded") == 1
    assert "scheduler_db_uri" in caplog.text


def test_runs_of_plain_tasks_are_recorded_but_never_dropped(app, store_run, stored, calls):
    @app.task(name="plain")
    def plain(_):
        calls.append(1)

    run_id = store_run()
    trace(app.tasks["plain"], run_id)
    first = stored(run_id)
    trace(app.tasks["plain"], run_id)
    trace(app.tasks["plain"], uuid4(), headers=header(timedelta(days=30)))

    assert (first.state, first.worker, len(calls)) == ("succeeded", "celery@here", 3)
    assert stored(run_id) == first


def test_a_process_on_its_way_out_ends_nothing(task, store_run, stored):
    run_id = store_run()
    with pytest.raises(SystemExit):
        trace(task, run_id, raises(SystemExit()))
    assert stored(run_id).state == "running"


def test_the_header_is_the_one_that_the_scheduler_sets():
    assert history.HEADER == dispatch.HEADER


def test_connecting_again_adds_no_receiver():
    before = len(signals.task_prerun.receivers), len(signals.task_postrun.receivers)
    history.connect()
    assert before == (len(signals.task_prerun.receivers), len(signals.task_postrun.receivers))


def test_async_tasks_are_begun_and_ended_alike(app, store_run, stored):
    @app.task(base=AsyncTask, bind=True, name="poll")
    async def poll(self, _):
        return stored(self.request.id).state

    run_id = store_run()
    assert trace(app.tasks["poll"], run_id).retval == "running"
    assert stored(run_id).state == "succeeded"


class BeginsBefore:
    """Ways to write before_start, none of which may keep a run from being begun before it."""

    class Plain(SyncTask):
        def before_start(self, task_id, args, kwargs):
            self.seen(task_id)

    class WithSuper(SyncTask):
        def before_start(self, task_id, args, kwargs):
            super().before_start(task_id, args, kwargs)
            self.seen(task_id)

    class Twice(WithSuper):
        def before_start(self, task_id, args, kwargs):
            super().before_start(task_id, args, kwargs)

    class Mixin:
        def before_start(self, task_id, args, kwargs):
            self.seen(task_id)

    class Mixed(Mixin, SyncTask):
        pass


@pytest.mark.parametrize("base", ["Plain", "WithSuper", "Twice", "Mixed"])
def test_a_run_has_begun_once_before_the_users_before_start(app, store_run, stored, base):
    rows = []

    class Task(getattr(BeginsBefore, base)):
        name = "task"

        def seen(self, run_id):
            rows.append(stored(run_id))

        def run(self, _):
            return "ran"

    run_id = store_run()
    assert trace(app.tasks["task"], run_id).retval == "ran"
    assert [(row.state, row.attempts) for row in rows] == [("running", 1)]
    assert (stored(run_id).state, stored(run_id).attempts) == ("succeeded", 1)


def test_a_before_start_from_an_annotation_or_the_decorator_is_begun_before(app, store_run, stored):
    rows = []

    def hook(*args):
        rows.append(stored(args[-3]))

    app.conf.task_annotations = {"annotated": {"before_start": hook}}
    app.task(base=SyncTask, name="annotated")(nothing)
    app.task(base=SyncTask, name="decorated", before_start=hook)(nothing)
    app.task(base=SyncTask, name="static", before_start=staticmethod(hook))(nothing)

    for name in ("annotated", "decorated", "static"):
        trace(app.tasks[name], store_run())
    assert [row.state for row in rows] == ["running"] * 3


def test_a_duplicate_never_meets_the_users_before_start(app, store_run):
    class Task(SyncTask):
        name = "task"

        def before_start(self, task_id, args, kwargs):
            raise AssertionError

        def run(self, _):
            raise AssertionError

    assert state_of(trace(app.tasks["task"], store_run("failed"))) == states.IGNORED


# Through a real worker.


def worker(app, pool="solo"):
    return start_worker(app, pool=pool, perform_ping_check=False, loglevel="ERROR")


def send(task, run_id, *args, **options):
    return task.apply_async(args, task_id=str(run_id), headers=header(), **options)


@pytest.mark.parametrize("pool", ["solo", "threads"])
@pytest.mark.parametrize("kind", ["sync", "async", "plain"])
def test_a_failing_run_is_begun_once_more_than_it_is_retried(app, store_run, stored, kind, pool):
    """The header survives the retry, on every Celery and for every kind of task."""
    app.conf.celery_max_retry = 2
    begun = []

    @app.task(base=SyncTask, bind=True, name="sync")
    def sync(self):
        begun.append(self.request.retries)
        raise OSError("again")

    @app.task(base=AsyncTask, bind=True, name="async")
    async def async_(self):
        begun.append(self.request.retries)
        raise OSError("again")

    @app.task(bind=True, name="plain", max_retries=2)
    def plain(self):
        begun.append(self.request.retries)
        raise self.retry(exc=OSError("again"), countdown=0)

    run_id = store_run()
    with worker(app, pool):
        with pytest.raises(OSError, match="again"):
            send(app.tasks[kind], run_id).get(timeout=20, interval=0.01)
        wait_for(lambda: stored(run_id).state == "failed")

    assert begun == [0, 1, 2]
    assert (stored(run_id).attempts, stored(run_id).retries) == (3, 2)


def test_a_replacement_runs_and_is_not_taken_for_a_duplicate(app, store_run, stored):
    @app.task(base=SyncTask, bind=True, name="first")
    def first(self):
        raise self.replace(app.tasks["second"].s())

    @app.task(base=SyncTask, name="second")
    def second():
        return "replaced"

    run_id = store_run()
    with worker(app):
        assert send(app.tasks["first"], run_id).get(timeout=20, interval=0.01) == "replaced"
    assert (stored(run_id).state, stored(run_id).reason) == ("succeeded", "ignored")


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_of_two_messages_of_a_run_one_is_run(app, store_run, stored, calls, pool):
    @app.task(base=SyncTask, name="task")
    def task(value):
        calls.append(value)

    run_id = store_run()
    with worker(app, pool):
        for value in ("first", "second"):
            send(app.tasks["task"], run_id, value)
        app.tasks["task"].delay("third").get(timeout=20, interval=0.01)
        wait_for(lambda: stored(run_id).state == "succeeded")

    assert len(calls) == 2
    assert calls.count("third") == 1


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
            history.RunRequest, task, pool, "celery@here", None, app=app
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
    assert task.Request == f"{history.RunRequest.__module__}:{history.RunRequest.__name__}"


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
def test_the_message_of_a_run_that_has_begun_is_not_put_back(app, task, accept, store_run, state):
    run_id = uuid4() if state is None else store_run(state, attempt_id=uuid4())
    request = accept(task, run_id, headers=header())
    request.on_accepted(pid=1, time_accepted=0)

    fail(request, WorkerLostError("killed"))

    assert request.acks == ["acked"]
    assert app.AsyncResult(str(run_id)).state == states.FAILURE


def test_without_the_database_a_lost_message_is_treated_as_celery_does(
    app, task, accept, store_run, away
):
    run_id = store_run()
    request = accept(task, run_id, headers=header())
    request.on_accepted(pid=1, time_accepted=0)

    fail(request, WorkerLostError("killed"))
    assert request.acks == ["acked"]


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
    assert request.task is app.tasks["t"]


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
