from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery, signals, states
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from servers import wait_for
from statements import each_statement
from traced import header, raises, state_of, trace, waiting

from celery_sqlalchemy_kit import AsyncTask, SyncTask, attempt, book, history, messages, tables
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import ERROR_LIMIT
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
    app.close()


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


def nothing(*_):
    pass


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
    # As many frames as are looked at, or as there is room for, which their paths decide.
    assert told.count('File "') == 20 or len(told.encode()) > ERROR_LIMIT - 500
    assert len(told.encode()) <= ERROR_LIMIT


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


def test_a_run_without_a_row_is_run_with_a_warning(task, runs, calls, caplog):
    run_id = uuid4()
    assert state_of(trace(task, run_id)) == states.SUCCESS
    assert calls == [str(run_id)]
    assert f"task[{run_id}]: runs, but the database has no such run" in caplog.text


@pytest.mark.parametrize(
    ("age", "is_run"),
    [(timedelta(hours=1, minutes=-1), True), (timedelta(hours=1, minutes=1), False)],
)
def test_a_run_without_a_row_is_dropped_once_it_may_have_been_pruned(
    app, task, runs, calls, caplog, age, is_run
):
    app.conf.scheduler_keep_runs_for = 3600
    caplog.set_level(logging.INFO)
    trace(task, uuid4(), headers=header(age))

    assert bool(calls) is is_run
    assert ("pruned" in caplog.text) is not is_run


@pytest.mark.parametrize("value", ["yes", "2020-13-45", 17, True])
def test_a_run_without_a_row_whose_claim_has_no_readable_time_is_run(task, runs, calls, value):
    trace(task, uuid4(), headers={history.HEADER: value})
    assert len(calls) == 1


@pytest.mark.parametrize("value", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00"])
def test_the_time_of_a_claim_is_read_as_utc(task, runs, calls, value):
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


def test_a_run_whose_id_is_none_of_ours_is_run(task, runs, calls):
    assert state_of(trace(task, "by-hand")) == states.SUCCESS
    assert calls == ["by-hand"]


def test_what_a_task_sends_is_not_part_of_its_run(app, task, store_run):
    sent = []

    @signals.before_task_publish.connect
    def note(headers=None, **_):
        sent.append(headers)

    trace(task, store_run(), task.delay)
    assert [history.HEADER in each for each in sent] == [False]


# The database away.


@pytest.fixture
def impatient(monkeypatch):
    """No outage is taken for a restart."""
    monkeypatch.setattr(book, "PATIENCE_SECONDS", 0)


def test_a_restart_of_the_database_is_waited_for(task, runs, caplog):
    run_id, seen = runs.store(), []
    runs.go_away()

    def come_back():
        wait_for(lambda: "cannot be reached" in caplog.text)
        runs.come_back()

    back = threading.Thread(target=come_back)
    back.start()
    trace(task, run_id, lambda: seen.append(runs.read(run_id).state))
    back.join()

    assert seen == ["running"]
    assert runs.read(run_id).state == "succeeded"


@pytest.fixture
def away(app, runs, impatient):
    """The database is away until it is called."""
    runs.go_away()
    yield runs.come_back
    book.book_of(app)._kept.clear()


def test_without_the_database_tasks_run_and_one_outage_is_told_once(
    app, task, store_run, calls, caplog, away
):
    caplog.set_level(logging.INFO)
    trace(task, uuid4())
    trace(task, uuid4())
    assert len(calls) == 2
    assert caplog.text.count("the database cannot be reached") == 1

    away()
    book.book_of(app).flush()
    trace(task, uuid4())
    trace(task, uuid4())
    assert caplog.text.count("can be reached again") == 1


@pytest.fixture
def long_ago(monkeypatch):
    """Makes what is recorded from now on look as old as that many seconds."""

    def ago(seconds):
        from time import monotonic

        fake = SimpleNamespace(monotonic=lambda: monotonic() + seconds)
        monkeypatch.setattr(attempt, "time", fake)

    return ago


@pytest.mark.usefixtures("impatient")
def test_what_ran_while_the_database_was_away_is_recorded_when_it_is_back_with_its_own_times(
    app, task, runs, long_ago
):
    run_id = runs.store()
    runs.go_away()
    traced = trace(task, run_id, lambda: long_ago(60))
    long_ago(300)
    runs.come_back()
    assert state_of(traced) == states.SUCCESS

    wait_for(lambda: runs.read(run_id).state == "succeeded")
    row, now = runs.read(run_id), datetime.now(UTC)
    assert (row.attempts, row.worker) == (1, "celery@here")
    assert timedelta(seconds=300) <= now - row.started_at < timedelta(seconds=330)
    assert timedelta(seconds=240) <= now - row.finished_at < timedelta(seconds=270)
    assert now - row.heartbeat_at < timedelta(seconds=30)


@pytest.mark.usefixtures("impatient")
def test_a_run_that_still_goes_on_when_the_database_is_back_is_running(task, runs, caplog):
    """Begun late is better than never: it keeps other messages of the run from being run too."""
    run_id = runs.store()
    runs.go_away()

    def body():
        runs.come_back()
        wait_for(lambda: runs.read(run_id).state == "running")

    trace(task, run_id, body)
    wait_for(lambda: runs.read(run_id).state == "succeeded")
    assert runs.read(run_id).attempts == 1
    assert state_of(trace(task, run_id)) == states.IGNORED


def test_a_soft_time_limit_while_the_end_is_recorded_does_not_lose_it(task, runs):
    run_id, limits = runs.store(), []

    def too_late(*_):
        if limits:
            raise limits.pop()

    with each_statement(too_late):
        trace(task, run_id, lambda: limits.append(SoftTimeLimitExceeded(2)))

    assert not limits

    wait_for(lambda: runs.read(run_id).state == "succeeded")


def test_what_would_end_a_process_ends_the_run_of_a_thread(task, runs):
    run_id = runs.store()

    def body():
        raise SystemExit(3)

    def run():
        with pytest.raises(SystemExit):
            trace(task, run_id, body)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert (runs.read(run_id).state, runs.read(run_id).error[:13]) == ("failed", "SystemExit: 3")


def test_an_end_that_could_not_be_recorded_is_when_the_database_is_back(task, runs):
    run_id = runs.store()
    assert state_of(trace(task, run_id, runs.go_away)) == states.SUCCESS
    runs.come_back()

    wait_for(lambda: runs.read(run_id).state == "succeeded")


@pytest.mark.usefixtures("impatient")
def test_a_run_that_another_began_meanwhile_is_left_to_it_with_a_warning(task, runs, caplog):
    run_id, other = runs.store(), uuid4()
    runs.go_away()

    def body():
        runs.come_back()
        runs.change(state="running", attempt_id=other)

    runs.engine.dispose()
    trace(task, run_id, body)
    wait_for(lambda: "another attempt has begun it" in caplog.text)
    assert (runs.read(run_id).state, runs.read(run_id).attempt_id) == ("running", other)


@pytest.mark.parametrize(
    "message",
    [{"headers": header(routine_run_again=True)}, {"delivery_info": {"redelivered": True}}],
)
def test_a_message_that_may_be_the_second_is_put_back_until_the_database_answers(
    app, task, store_run, calls, away, message
):
    traced = trace(task, uuid4(), **{"retries": 2, **message})

    assert (state_of(traced), calls) == (states.IGNORED, [])
    (copy,) = waiting(app)
    assert (copy["retries"], bool(copy[history.AGAIN]), bool(copy[history.HEADER])) == (
        2,
        True,
        True,
    )
    delay = datetime.fromisoformat(copy["eta"]) - datetime.now(UTC)
    assert timedelta(seconds=5) < delay <= timedelta(seconds=10)
    assert not book.book_of(app)._kept


def test_without_a_ledger_a_message_that_may_be_the_second_is_dropped(app, task, calls, caplog):
    caplog.set_level(logging.INFO)
    app.conf.scheduler_db_uri = None
    traced = trace(task, uuid4(), headers=header(routine_run_again=True))

    assert (state_of(traced), calls, waiting(app)) == (states.IGNORED, [], [])
    assert "dropped, as it may have begun before" in caplog.text


def test_a_message_that_cannot_be_put_back_is_the_brokers_again(task, away, monkeypatch):
    def refuse(*_, **__):
        raise OSError

    monkeypatch.setattr(type(task), "apply_async", refuse)
    traced = trace(task, uuid4(), headers=header(routine_run_again=True))

    assert (state_of(traced), traced.info.retval.requeue) == (states.REJECTED, True)


def test_a_repeated_message_without_a_row_is_dropped(task, runs, calls, caplog):
    caplog.set_level(logging.INFO)
    trace(task, uuid4(), headers=header(routine_run_again=True))

    assert calls == []
    assert "the database has no such run" in caplog.text


def test_a_database_that_goes_away_within_the_body_leaves_the_tasks_result(
    app, task, runs, store_run, caplog
):
    def body():
        tables.metadata.drop_all(runs.engine)
        return "result"

    traced = trace(task, store_run(), body)
    book.book_of(app)._kept.clear()

    assert (state_of(traced), traced.retval) == (states.SUCCESS, "result")
    assert "the database cannot be reached" in caplog.text


# A run whose worker may be dead.

AGAIN = header(routine_run_again=True)


@pytest.fixture
def repeats(app, calls):
    @app.task(base=SyncTask, bind=True, name="repeats", on_worker_lost="again")
    def repeats(self, _):
        calls.append(self.request.id)

    return app.tasks[repeats.name]


def running(runs, silent_for, **values):
    beat = datetime.now(UTC) - timedelta(seconds=silent_for)
    values = {
        "attempt_id": uuid4(),
        "attempts": 1,
        "worker": "other",
        "heartbeat_at": beat,
    } | values
    return runs.store("running", **values)


def test_a_repeated_message_takes_the_run_of_a_dead_worker_over(repeats, runs, calls):
    run_id = running(runs, silent_for=100)
    assert state_of(trace(repeats, run_id, headers=AGAIN)) == states.SUCCESS

    assert (runs.read(run_id).state, runs.read(run_id).attempts) == ("succeeded", 2)
    assert calls == [str(run_id)]


def test_a_repeated_message_waits_while_the_owner_beats(app, repeats, runs, calls, caplog):
    caplog.set_level(logging.INFO)
    run_id = running(runs, silent_for=80)
    before = runs.read(run_id)
    traced = trace(repeats, run_id, delivery_info={"redelivered": True})

    assert (state_of(traced), calls, runs.read(run_id)) == (states.IGNORED, [], before)
    (copy,) = waiting(app)
    assert (copy["id"], copy["retries"], bool(copy[history.AGAIN])) == (str(run_id), 0, True)
    delay = datetime.fromisoformat(copy["eta"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < delay <= timedelta(seconds=30)
    assert "its worker is alive" in caplog.text


def test_a_schedulers_message_does_not_wait_as_it_would_send_another(app, repeats, runs, calls):
    run_id = running(runs, silent_for=80)

    assert state_of(trace(repeats, run_id, headers=AGAIN)) == states.IGNORED
    assert (calls, waiting(app)) == ([], [])


def test_a_plain_task_takes_its_run_over_at_once_as_it_runs_anyway(app, runs):
    app.task(name="plain")(nothing)
    run_id = running(runs, silent_for=1)
    trace(app.tasks["plain"], run_id, delivery_info={"redelivered": True})

    assert (runs.read(run_id).state, runs.read(run_id).attempts) == ("succeeded", 2)


def test_a_first_message_of_a_running_run_is_dropped_whatever_its_owner(repeats, runs, calls):
    run_id = running(runs, silent_for=100)
    assert state_of(trace(repeats, run_id)) == states.IGNORED
    assert (calls, runs.read(run_id).state) == ([], "running")


def test_the_run_of_a_dead_worker_is_lost_when_its_message_comes_again(task, runs, calls, caplog):
    told = []
    task_lost.connect(lambda **sent: told.append(sent), weak=False, dispatch_uid="test")
    run_id = running(runs, silent_for=100, routine_name="nightly")
    assert state_of(trace(task, run_id, headers=AGAIN)) == states.IGNORED
    task_lost.disconnect(dispatch_uid="test")

    row = runs.read(run_id)
    assert (row.state, row.reason, calls) == ("lost", "no beat of worker other for 90 s", [])
    assert f"task[{run_id}]: lost" in caplog.text
    (sent,) = told
    assert (sent["sender"], sent["run_id"], sent["task"]) == ("nightly", run_id, "task")
    assert (sent["worker"], sent["again"]) == ("other", False)


def test_a_repeated_message_of_a_run_whose_owner_beats_is_dropped(app, task, runs, calls):
    run_id = running(runs, silent_for=80)
    before = runs.read(run_id)
    assert state_of(trace(task, run_id, headers=AGAIN)) == states.IGNORED
    assert (calls, runs.read(run_id), waiting(app)) == ([], before, [])


def test_how_long_a_worker_may_be_silent_is_a_setting(app, repeats, runs):
    app.conf.scheduler_lost_after = 10
    run_id = running(runs, silent_for=11)
    assert state_of(trace(repeats, run_id, headers=AGAIN)) == states.SUCCESS


def test_what_a_repeated_message_sends_for_a_retry_is_a_first_message(app, runs):
    app.conf.celery_retry_delay = 60

    @app.task(base=SyncTask, name="fails")
    def fails(_):
        raise OSError("no route")

    run_id = runs.store()
    trace(app.tasks["fails"], run_id, headers=AGAIN | {history.ATTEMPT: str(uuid4())})

    (retry,) = waiting(app)
    assert retry["retries"] == 1
    assert history.HEADER in retry
    assert not {history.AGAIN, history.ATTEMPT} & set(retry)
    due = runs.read(run_id).heartbeat_at - datetime.now(UTC)
    assert timedelta(seconds=50) < due <= timedelta(seconds=60)


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_retry_at_an_instant_is_due_then(app, runs, zone):
    app.conf.timezone = "UTC"
    eta = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)

    @app.task(base=SyncTask, bind=True, name="later")
    def later(self, _):
        raise self.retry(eta=eta if zone else eta.replace(tzinfo=None))

    run_id = runs.store()
    trace(app.tasks["later"], run_id)
    assert runs.read(run_id).heartbeat_at == eta


def test_the_attempt_is_the_one_that_the_main_process_has_made(task, runs):
    run_id, attempt_id = runs.store(), uuid4()
    trace(task, run_id, headers=header(**{history.ATTEMPT: str(attempt_id)}))
    assert runs.read(run_id).attempt_id == attempt_id


def test_a_run_is_two_statements(task, runs):
    run_id, statements = runs.store(), []
    with each_statement(lambda statement, _: statements.append(statement.split()[0])):
        trace(task, run_id)
    assert statements == ["UPDATE", "UPDATE"]


def test_an_end_that_comes_too_late_is_told(task, runs, store_run, stored, caplog):
    run_id = store_run()

    def taken_over():
        runs.change(attempt_id=uuid4())

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
    assert history.HEADER == messages.HEADER


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
