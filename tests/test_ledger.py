from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import tables
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.routines import State
from celery_sqlalchemy_kit.store import ledger as ledger_module
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import ERROR_LIMIT, Begun, Ledger

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
RUN, MINE, OTHER = uuid4(), uuid4(), uuid4()


@pytest.fixture
def engine(database):
    engine = make_engine(database)
    tables.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def clock():
    return SettableClock(NOON)


@pytest.fixture
def ledger(engine, clock):
    return Ledger(engine, clock)


@pytest.fixture
def store_run(engine):
    def store(state, **values):
        values = {
            "id": RUN,
            "routine_id": uuid4(),
            "routine_name": "report",
            "task": "report",
        } | values
        with engine.begin() as connection:
            connection.execute(
                sa.insert(tables.runs).values(
                    scheduled_for=NOON, cause="schedule", state=State(state).value, **values
                )
            )

    return store


@pytest.fixture
def stored(engine):
    def read(run_id=RUN):
        with engine.connect() as connection:
            return connection.execute(
                sa.select(tables.runs).where(tables.runs.c.id == run_id)
            ).one()

    return read


def begin(ledger, attempt=MINE, retries=0):
    return ledger.begin(RUN, attempt, retries=retries, worker="celery@here")


@pytest.mark.parametrize("state", ["claimed", "sent", "lost"])
def test_an_unstarted_run_begins(ledger, store_run, stored, clock, state):
    store_run(state, reason="not begun for an hour", error="old")
    clock.advance(5)

    assert begin(ledger) is Begun.BEGUN

    row = stored()
    assert (row.state, row.attempt_id, row.attempts, row.retries) == ("running", MINE, 1, 0)
    assert row.worker == "celery@here"
    assert row.started_at == row.heartbeat_at == NOON + timedelta(seconds=5)
    assert (row.finished_at, row.reason, row.error) == (None, None, None)


@pytest.mark.parametrize(
    "state", ["waiting", "running", "retrying", "succeeded", "failed", "missed", "skipped", "lost"]
)
def test_a_run_that_has_begun_or_is_over_or_waits_does_not_begin(ledger, store_run, stored, state):
    store_run(state, attempt_id=OTHER, attempts=1)
    before = stored()

    assert begin(ledger) is Begun.DUPLICATE
    assert stored() == before


@pytest.mark.parametrize("state", ["retrying", "running"])
def test_a_higher_retry_number_begins_the_next_attempt(ledger, store_run, stored, state):
    """Task.retry publishes before it raises, so the last attempt's end may not be written yet."""
    store_run(state, attempt_id=OTHER, attempts=1, retries=0)

    assert begin(ledger, retries=1) is Begun.BEGUN
    assert (stored().attempts, stored().retries, stored().attempt_id) == (2, 1, MINE)
    assert begin(ledger, attempt=uuid4(), retries=1) is Begun.DUPLICATE


@pytest.mark.parametrize("state", ["succeeded", "failed", "missed", "skipped", "lost"])
def test_a_higher_retry_number_does_not_begin_what_is_over(ledger, store_run, state):
    store_run(state, attempt_id=OTHER, attempts=1, retries=0)

    assert begin(ledger, retries=1) is Begun.DUPLICATE


def test_a_begin_that_finds_its_own_attempt_has_succeeded(ledger, store_run, stored):
    store_run("sent")

    assert begin(ledger) is Begun.BEGUN
    assert begin(ledger) is Begun.BEGUN
    assert stored().attempts == 1


def test_a_run_without_a_row_is_unknown(ledger):
    assert begin(ledger) is Begun.UNKNOWN


@pytest.mark.parametrize("state", ["succeeded", "failed", "retrying"])
def test_the_end_is_recorded(ledger, store_run, stored, clock, state):
    store_run("sent")
    begin(ledger)
    clock.advance(3)

    assert ledger.end(RUN, MINE, State(state), reason="why", error="Boom: it did")

    row = stored()
    assert (row.state, row.reason, row.error) == (state, "why", "Boom: it did")
    assert row.attempt_id == MINE
    assert row.finished_at == (None if state == "retrying" else NOON + timedelta(seconds=3))


def test_a_message_put_back_leaves_the_run_unstarted(ledger, store_run, stored):
    store_run("sent")
    begin(ledger)

    assert ledger.end(RUN, MINE, State.SENT)
    assert (stored().state, stored().attempt_id, stored().finished_at) == ("sent", None, None)
    assert begin(ledger, attempt=OTHER) is Begun.BEGUN


def test_a_lost_run_is_ended_by_the_attempt_it_was_lost_in(ledger, store_run, stored):
    store_run("lost", attempt_id=MINE, attempts=1)

    assert ledger.end(RUN, MINE, State.SUCCEEDED)
    assert stored().state == "succeeded"


def test_nobody_ends_the_attempt_of_another(ledger, store_run, stored):
    store_run("running", attempt_id=OTHER, attempts=2)

    assert not ledger.end(RUN, MINE, State.FAILED)
    assert stored().state == "running"


@pytest.mark.parametrize("state", ["succeeded", "failed", "retrying", "missed", "skipped"])
def test_an_end_never_moves_a_run_backwards(ledger, store_run, stored, state):
    store_run(state, attempt_id=MINE, attempts=1)
    other_end = State.FAILED if state == "succeeded" else State.SUCCEEDED

    assert not ledger.end(RUN, MINE, other_end)
    assert stored().state == state


def test_an_end_said_twice_is_recorded_once_and_true_twice(ledger, store_run, stored, clock):
    store_run("running", attempt_id=MINE, attempts=1)

    assert ledger.end(RUN, MINE, State.SUCCEEDED)
    clock.advance(60)
    assert ledger.end(RUN, MINE, State.SUCCEEDED)
    assert stored().finished_at == NOON


@pytest.mark.parametrize(
    ("state", "values", "retries", "has_begun"),
    [
        ("claimed", {}, 0, False),
        ("sent", {}, 0, False),
        ("lost", {}, 0, False),
        ("lost", {"attempt_id": OTHER}, 0, True),
        ("running", {"attempt_id": OTHER}, 0, True),
        ("running", {"attempt_id": OTHER}, 1, False),
        ("retrying", {"attempt_id": OTHER}, 0, True),
        ("retrying", {"attempt_id": OTHER}, 1, False),
        ("retrying", {"attempt_id": OTHER, "retries": 1}, 1, True),
        ("succeeded", {"attempt_id": OTHER}, 1, True),
        ("missed", {}, 0, True),
    ],
)
def test_a_run_has_begun_when_no_such_message_can_begin_it(
    ledger, store_run, state, values, retries, has_begun
):
    store_run(state, **values)

    assert ledger.has_begun(RUN, retries=retries) is has_begun
    begun = begin(ledger, retries=retries) is Begun.BEGUN
    assert begun is not has_begun


def test_a_run_without_a_row_counts_as_begun(ledger):
    assert ledger.has_begun(RUN)


def test_without_a_clock_of_its_own_the_database_tells_the_time(engine, store_run, stored):
    store_run("sent")
    ledger = Ledger(engine)
    before = ledger.now()

    begin(ledger)
    ledger.end(RUN, MINE, State.SUCCEEDED)

    started, finished, after = stored().started_at, stored().finished_at, ledger.now()
    assert before <= started <= finished <= after
    assert after - before < timedelta(minutes=1)
    assert abs(after - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_present_of_a_ledger_is_its_clocks(ledger):
    assert ledger.now() == NOON


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("é" * ERROR_LIMIT, "é" * (ERROR_LIMIT // 2)),
        ("x" + "é" * ERROR_LIMIT, "x" + "é" * (ERROR_LIMIT // 2 - 1)),
        ("null \x00 byte", "null \\x00 byte"),
        ("half \ud800 pair", "half \\ud800 pair"),
        ("", ""),
    ],
)
def test_any_error_is_kept_up_to_4_kilobytes(ledger, store_run, stored, error, kept):
    store_run("running", attempt_id=MINE, attempts=1)

    assert ledger.end(RUN, MINE, State.FAILED, error=error)
    assert stored().error == kept


def test_of_many_messages_of_one_run_exactly_one_begins(database, engine, store_run, stored):
    store_run("sent")
    engines = [make_engine(database) for _ in range(6)]
    start, answers = threading.Barrier(len(engines)), []

    def message(engine, attempt):
        start.wait(timeout=10)
        answers.append((begin(Ledger(engine), attempt), attempt))

    threads = [threading.Thread(target=message, args=(each, uuid4())) for each in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for each in engines:
        each.dispose()

    winners = [attempt for answer, attempt in answers if answer is Begun.BEGUN]
    assert len(answers) == len(engines)
    assert [stored().attempt_id] == winners
    assert stored().attempts == 1


class Cut(Exception):
    """What a driver raises when the connection is gone."""


def cut_off(engine, when, monkeypatch, times=1):
    """Cut the connection *times* times, before or after the COMMIT takes effect."""
    dialect, cuts = engine.dialect, []
    commit = dialect.do_commit

    def do_commit(connection):
        if len(cuts) < times:
            cuts.append(connection)
            if when == "after":
                commit(connection)
            raise engine.dialect.dbapi.OperationalError("cut")
        commit(connection)

    monkeypatch.setattr(dialect, "do_commit", do_commit)
    monkeypatch.setattr(dialect, "is_disconnect", lambda error, *_: "cut" in str(error))
    return cuts


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_begin_whose_commit_was_not_answered_begins_once(
    engine, ledger, store_run, stored, monkeypatch, when
):
    store_run("sent")
    cuts = cut_off(engine, when, monkeypatch)

    assert begin(ledger) is Begun.BEGUN
    assert len(cuts) == 1
    assert (stored().attempt_id, stored().attempts) == (MINE, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_end_whose_commit_was_not_answered_is_recorded(
    engine, ledger, store_run, stored, monkeypatch, when
):
    store_run("running", attempt_id=MINE, attempts=1)
    cut_off(engine, when, monkeypatch)

    assert ledger.end(RUN, MINE, State.SUCCEEDED)
    assert stored().state == "succeeded"


def test_a_second_cut_is_raised(engine, ledger, store_run, monkeypatch):
    store_run("sent")
    cuts = cut_off(engine, "before", monkeypatch, times=2)

    with pytest.raises(sa.exc.OperationalError, match="cut"):
        begin(ledger)
    assert len(cuts) == 2


def test_a_fault_that_is_no_disconnect_is_raised_at_once(engine, ledger, monkeypatch):
    tables.metadata.drop_all(engine)
    tries = []
    monkeypatch.setattr(
        ledger_module,
        "_passing",
        lambda error, judge=ledger_module._passing: tries.append(error) or judge(error),
    )

    with pytest.raises(sa.exc.DBAPIError):
        begin(ledger)
    assert len(tries) == 1


def test_a_locked_sqlite_database_is_tried_once_more(tmp_path):
    url = sa.engine.URL.create("sqlite", database=str(tmp_path / "locked.db"))
    engine, tries = sa.create_engine(url, future=True, connect_args={"timeout": 0}), []
    tables.metadata.create_all(engine)
    sa.event.listen(engine, "begin", tries.append)

    with sa.create_engine(url, future=True).connect() as holder:
        holder.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(sa.exc.OperationalError, match="database is locked"):
            begin(Ledger(engine))
        holder.rollback()
    assert len(tries) == 2


def test_the_ledger_at_a_url_is_on_the_ledgers_own_connection(sqlite):
    first, second = Ledger.at(sqlite), Ledger.at(sqlite)

    assert first._engine is second._engine
    assert first._engine.url == sqlite
    first._engine.dispose()
