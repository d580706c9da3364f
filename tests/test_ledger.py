from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from statements import each_statement

from celery_sqlalchemy_kit import tables
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.routines import ERROR_LIMIT, State
from celery_sqlalchemy_kit.store import ledger as ledger_module
from celery_sqlalchemy_kit.store import transactions
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import Begun, Fate, Ledger

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


@pytest.mark.parametrize("state", ["retrying", "running", "lost"])
def test_a_higher_retry_number_begins_the_next_attempt(ledger, store_run, stored, state):
    """Task.retry publishes before it raises, so the last attempt's end may not be written yet."""
    store_run(state, attempt_id=OTHER, attempts=1, retries=0)

    assert begin(ledger, retries=1) is Begun.BEGUN
    assert (stored().attempts, stored().retries, stored().attempt_id) == (2, 1, MINE)
    assert begin(ledger, attempt=uuid4(), retries=1) is Begun.DUPLICATE


@pytest.mark.parametrize("state", ["succeeded", "failed", "missed", "skipped"])
def test_a_higher_retry_number_does_not_begin_what_is_over(ledger, store_run, state):
    store_run(state, attempt_id=OTHER, attempts=1, retries=0)

    assert begin(ledger, retries=1) is Begun.DUPLICATE


@pytest.mark.parametrize("state", ["sent", "lost"])
def test_a_late_message_of_an_attempt_before_does_not_begin_what_was_put_back(
    ledger, store_run, stored, state
):
    store_run(state, attempts=2, retries=1)

    assert begin(ledger, attempt=OTHER, retries=0) is Begun.DUPLICATE
    assert begin(ledger, retries=1) is Begun.BEGUN


def test_a_begin_that_finds_its_own_attempt_has_succeeded(ledger, store_run, stored):
    store_run("sent")

    assert begin(ledger) is Begun.BEGUN
    assert begin(ledger) is Begun.BEGUN
    assert stored().attempts == 1


def test_a_begin_that_finds_its_own_attempt_ended_comes_too_late(ledger, store_run):
    """The main process has ended it while its process was about to begin."""
    store_run("failed", attempt_id=MINE, attempts=1)

    assert begin(ledger) is Begun.DUPLICATE


def test_a_late_begin_has_the_time_at_which_it_was(ledger, store_run, stored):
    store_run("sent")

    assert ledger.begin(RUN, MINE, retries=0, worker="w", ago=30.5) is Begun.BEGUN
    assert stored().started_at == NOON - timedelta(seconds=30.5)
    assert stored().heartbeat_at == NOON


#: How long an owner may be silent, in these tests, and what a repeated message is asked with.
PATIENCE = timedelta(seconds=90)
BEATS, SILENT = timedelta(seconds=89), timedelta(seconds=90)


def repeat(ledger, *, again, retries=0):
    return ledger.begin(RUN, MINE, retries=retries, worker="mine", again=again, lost_after=PATIENCE)


@pytest.mark.parametrize(
    ("state", "silence", "retries", "again", "answer"),
    [
        ("running", SILENT, 0, True, Begun.BEGUN),
        ("running", None, 0, True, Begun.BEGUN),
        ("running", BEATS, 0, True, Begun.OWNED),
        ("running", SILENT, 1, True, Begun.DUPLICATE),
        ("running", BEATS, 1, True, Begun.DUPLICATE),
        ("running", SILENT, 0, False, Begun.LOST),
        ("running", SILENT, 1, False, Begun.LOST),
        ("running", BEATS, 0, False, Begun.DUPLICATE),
        ("lost", SILENT, 0, True, Begun.BEGUN),
        ("lost", SILENT, 1, True, Begun.DUPLICATE),
        ("lost", SILENT, 0, False, Begun.DUPLICATE),
        ("retrying", SILENT, 0, True, Begun.DUPLICATE),
        *[
            (state, SILENT, 0, again, Begun.DUPLICATE)
            for state in ("waiting", "succeeded", "failed", "missed", "skipped")
            for again in (True, False)
        ],
    ],
)
def test_what_becomes_of_a_repeated_message(
    ledger, store_run, stored, state, silence, retries, again, answer
):
    """*retries* is the run's, the message's is 0: a stale one takes nothing over."""
    beat = None if silence is None else NOON - silence
    store_run(
        state, attempt_id=OTHER, attempts=1, retries=retries, heartbeat_at=beat, worker="other"
    )
    before = stored()

    assert repeat(ledger, again=again) is answer
    after = stored()
    if answer is Begun.BEGUN:
        assert (after.state, after.attempt_id, after.attempts) == ("running", MINE, 2)
        assert (after.worker, after.heartbeat_at, after.finished_at) == ("mine", NOON, None)
    elif answer is Begun.LOST:
        assert (after.state, after.attempt_id, after.finished_at) == ("lost", OTHER, NOON)
        assert after.reason == "no beat of worker other for 90 s"
    else:
        assert before == after


def test_a_first_message_takes_over_what_is_lost_if_it_begins_again_but_not_what_runs(
    ledger, store_run, stored
):
    store_run("running", attempt_id=OTHER, attempts=1, heartbeat_at=NOON - SILENT)
    assert ledger.begin(RUN, MINE, retries=0, worker="w", again=True) is Begun.DUPLICATE

    ledger.lose(RUN, OTHER, retries=0, reason="killed")
    assert ledger.begin(RUN, MINE, retries=0, worker="w", again=False) is Begun.DUPLICATE
    assert ledger.begin(RUN, MINE, retries=0, worker="w", again=True) is Begun.BEGUN
    assert (stored().attempts, stored().reason) == (2, None)


def test_an_unstarted_run_begins_by_a_repeated_message(ledger, store_run):
    store_run("sent")
    assert repeat(ledger, again=False) is Begun.BEGUN


def test_silence_is_measured_by_the_databases_clock(engine, store_run, stored):
    ledger = Ledger(engine)
    store_run("running", attempt_id=OTHER, heartbeat_at=ledger.now() - timedelta(seconds=80))
    assert repeat(ledger, again=True) is Begun.OWNED
    late = ledger.now() - timedelta(seconds=100)
    with engine.begin() as connection:
        connection.execute(sa.update(tables.runs).values(heartbeat_at=late))
    assert repeat(ledger, again=True) is Begun.BEGUN


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


@pytest.mark.parametrize("state", ["lost", "sent"])
def test_a_lost_run_is_ended_by_the_attempt_it_was_lost_in(ledger, store_run, stored, state):
    store_run(state, attempt_id=MINE, attempts=1)

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
    ("due", "ago", "beat"),
    [
        (None, 0.0, NOON),
        (300, 0.0, NOON + timedelta(seconds=300)),
        (0.5, 2.0, NOON - timedelta(seconds=1.5)),
        (NOON + timedelta(days=1), 5.0, NOON + timedelta(days=1)),
    ],
)
def test_a_run_that_is_retried_lives_until_its_next_attempt_is_due(
    ledger, store_run, stored, due, ago, beat
):
    store_run("running", attempt_id=MINE, attempts=1, heartbeat_at=NOON - SILENT)

    assert ledger.end(RUN, MINE, State.RETRYING, due=due, ago=ago)
    assert (stored().state, stored().heartbeat_at, stored().finished_at) == ("retrying", beat, None)


def test_a_late_end_has_the_time_at_which_it_was(ledger, store_run, stored):
    store_run("running", attempt_id=MINE, attempts=1)

    assert ledger.end(RUN, MINE, State.SUCCEEDED, ago=61)
    assert stored().finished_at == NOON - timedelta(seconds=61)


@pytest.mark.parametrize(
    ("state", "values", "retries", "fate"),
    [
        ("claimed", {}, 0, Fate.UNSTARTED),
        ("sent", {}, 0, Fate.UNSTARTED),
        ("lost", {}, 0, Fate.UNSTARTED),
        ("lost", {"attempt_id": OTHER}, 0, Fate.OVER),
        ("lost", {"attempt_id": MINE}, 0, Fate.OVER),
        ("lost", {"attempt_id": MINE, "reason": "killed"}, 0, Fate.LOST),
        ("running", {"attempt_id": MINE}, 0, Fate.LOST),
        ("running", {"attempt_id": OTHER}, 0, Fate.OVER),
        ("running", {"attempt_id": OTHER}, 1, Fate.UNSTARTED),
        ("retrying", {"attempt_id": MINE}, 0, Fate.OVER),
        ("retrying", {"attempt_id": OTHER}, 1, Fate.UNSTARTED),
        ("retrying", {"attempt_id": OTHER, "retries": 1}, 1, Fate.OVER),
        ("succeeded", {"attempt_id": MINE}, 0, Fate.OVER),
        ("succeeded", {"attempt_id": OTHER}, 1, Fate.OVER),
        ("missed", {}, 0, Fate.OVER),
    ],
)
def test_what_becomes_of_a_run_whose_process_died(
    ledger, store_run, stored, state, values, retries, fate
):
    store_run(state, **values)
    before = stored()

    assert ledger.lose(RUN, MINE, retries=retries, reason="killed") is fate
    if (state, fate) == ("running", Fate.LOST):
        assert (stored().state, stored().reason, stored().finished_at) == ("lost", "killed", NOON)
        assert stored().attempt_id == MINE
    else:
        assert stored() == before
    begun = ledger.begin(RUN, uuid4(), retries=retries, worker="w")
    assert (begun is Begun.BEGUN) is (fate is Fate.UNSTARTED)


def test_a_run_without_a_row_is_over(ledger):
    assert ledger.lose(RUN, MINE, retries=0, reason="killed") is Fate.OVER


@pytest.mark.parametrize(
    ("state", "values", "wanted", "retries", "becomes"),
    [
        ("claimed", {}, "skipped", 0, "skipped"),
        ("sent", {}, "skipped", 0, "skipped"),
        ("lost", {}, "skipped", 0, "skipped"),
        ("lost", {"attempt_id": OTHER}, "skipped", 0, None),
        ("running", {"attempt_id": OTHER}, "skipped", 0, None),
        ("running", {"attempt_id": OTHER}, "skipped", 1, None),
        ("retrying", {"attempt_id": OTHER}, "skipped", 1, "failed"),
        ("retrying", {"attempt_id": OTHER}, "skipped", 0, None),
        ("succeeded", {"attempt_id": OTHER}, "skipped", 0, None),
        ("waiting", {}, "skipped", 0, None),
        ("missed", {}, "skipped", 0, None),
        ("claimed", {}, "lost", 0, "lost"),
        ("sent", {}, "lost", 0, "lost"),
        ("retrying", {"attempt_id": OTHER}, "lost", 1, "lost"),
        ("retrying", {"attempt_id": OTHER}, "lost", 0, None),
        ("lost", {}, "lost", 0, None),
        ("running", {"attempt_id": OTHER}, "lost", 0, None),
        ("failed", {"attempt_id": OTHER}, "lost", 0, None),
    ],
)
def test_what_becomes_of_a_run_whose_message_nobody_begins(
    ledger, store_run, stored, state, values, wanted, retries, becomes
):
    store_run(state, error="earlier", **values)
    before = stored()

    dropped = ledger.drop(RUN, State(wanted), retries=retries, reason="why")
    assert dropped is (becomes is not None)
    if becomes is None:
        assert stored() == before
    else:
        row = stored()
        assert (row.state, row.reason, row.error) == (becomes, "why", "earlier")
        assert (row.finished_at, row.attempt_id) == (NOON, before.attempt_id)


@pytest.mark.parametrize(
    ("state", "worker", "attempt", "known", "beaten"),
    [
        ("running", "mine", MINE, MINE, True),
        ("running", "mine", MINE, None, True),
        ("running", "mine", OTHER, MINE, False),
        ("running", "other", MINE, MINE, False),
        ("running", "other", MINE, None, False),
        *[
            (state, "mine", MINE, MINE, False)
            for state in ("waiting", "claimed", "sent", "retrying", "lost", "succeeded", "failed")
        ],
    ],
)
def test_a_worker_beats_for_what_it_runs_alone(
    ledger, store_run, stored, clock, state, worker, attempt, known, beaten
):
    """*known*: the attempt as the worker knows it."""
    store_run(state, worker=worker, attempt_id=attempt, heartbeat_at=NOON)
    clock.advance(30)

    assert ledger.beat([(RUN, known)], "mine") == beaten
    assert stored().heartbeat_at == NOON + timedelta(seconds=30 * beaten)


def test_many_runs_are_beaten_for_in_one_statement(engine, ledger, store_run, clock):
    known = [(uuid4(), uuid4()) for _ in range(5)]
    unknown = [(uuid4(), None) for _ in range(5)]
    for run_id, attempt_id in known + unknown:
        store_run("running", id=run_id, worker="mine", attempt_id=attempt_id or uuid4())
    store_run("running", worker="mine", attempt_id=MINE)
    # That attempt of a run that another message of it has: neither is taken for the other.
    crossed = [(known[0][0], uuid4())]
    statements = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection, cursor, statement, *_):
        statements.append(statement)

    assert ledger.beat(known + unknown + crossed, "mine") == 10
    assert sum(statement.startswith("UPDATE") for statement in statements) == 1


def test_a_statement_has_a_bounded_number_of_runs(engine, ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "BEAT_CHUNK", 3)
    statements = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection, cursor, statement, *_):
        statements.append(statement)

    assert ledger.beat([(uuid4(), uuid4()) for _ in range(7)], "mine") == 0
    assert sum(statement.startswith("UPDATE") for statement in statements) == 3


def test_ten_thousand_runs_fit_into_a_statement(ledger):
    active = [(uuid4(), uuid4()) for _ in range(ledger_module.BEAT_CHUNK)]
    assert ledger.beat(active, "mine") == 0


def test_whose_a_run_is_is_told(ledger, store_run):
    store_run("sent", routine_name="nightly")
    assert (ledger.owner(RUN), ledger.owner(uuid4())) == (("nightly", ""), ("", ""))
    begin(ledger)
    assert ledger.owner(RUN) == ("nightly", "celery@here")


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


@pytest.mark.parametrize("repeated", [False, True], ids=["first", "repeated"])
def test_of_many_messages_of_one_run_exactly_one_begins(
    database, engine, store_run, stored, repeated
):
    values = {"attempt_id": OTHER, "worker": "other", "heartbeat_at": NOON} if repeated else {}
    store_run("running" if repeated else "sent", **values)
    engines = [make_engine(database) for _ in range(6)]
    start, answers = threading.Barrier(len(engines)), []

    def message(engine, attempt):
        start.wait(timeout=10)
        ledger = Ledger(engine, SettableClock(NOON + PATIENCE))
        how = {"again": True, "lost_after": PATIENCE} if repeated else {}
        answer = ledger.begin(RUN, attempt, retries=0, worker="celery@here", **how)
        answers.append((answer, attempt))

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
    """Cut the connection *times* times, before or after the COMMIT, or on PostgreSQL the statement
    that commits itself, takes effect."""
    dialect, cuts = engine.dialect, []
    commits = "do_execute" if dialect.name == "postgresql" else "do_commit"
    commit = getattr(dialect, commits)

    def cut(*args):
        if len(cuts) < times and (commits == "do_commit" or args[1].startswith("UPDATE")):
            cuts.append(args)
            if when == "after":
                commit(*args)
            raise engine.dialect.dbapi.OperationalError("cut")
        commit(*args)

    monkeypatch.setattr(dialect, commits, cut)
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


def test_a_cut_that_took_long_is_raised_at_once(engine, ledger, store_run, monkeypatch):
    """A server that hangs until a deadline would hang again."""
    store_run("sent")
    monkeypatch.setattr(transactions, "CUT_SECONDS", 0.0)
    cuts = cut_off(engine, "before", monkeypatch, times=2)

    with pytest.raises(sa.exc.OperationalError, match="cut"):
        begin(ledger)
    assert len(cuts) == 1


def test_a_fault_that_is_no_disconnect_is_raised_at_once(engine, ledger):
    tables.metadata.drop_all(engine)
    tries = []

    with each_statement(lambda *_: tries.append(_)), pytest.raises(sa.exc.DBAPIError):
        begin(ledger)
    assert len(tries) == 1


@pytest.fixture
def locked(tmp_path):
    """A ledger on SQLite that somebody else writes to; whoever is given it ends that."""
    url = sa.engine.URL.create("sqlite", database=str(tmp_path / "locked.db"))
    engine, tries = sa.create_engine(url, future=True, connect_args={"timeout": 0}), []
    tables.metadata.create_all(engine)
    with sa.create_engine(url, future=True).connect() as holder:
        holder.exec_driver_sql("BEGIN EXCLUSIVE")
        with each_statement(lambda *_: tries.append(_)):
            yield Ledger(engine), tries, holder
    engine.dispose()


def test_a_locked_database_is_tried_a_few_times(locked):
    ledger, tries, _ = locked
    with pytest.raises(sa.exc.OperationalError, match="database is locked"):
        begin(ledger)
    assert len(tries) == transactions.TRIES


def test_a_lock_that_is_let_go_of_is_had(locked, monkeypatch):
    ledger, tries, holder = locked
    monkeypatch.setattr(transactions, "pause", lambda seconds: holder.rollback())
    assert begin(ledger) is Begun.UNKNOWN
    assert len(tries) == 4  # twice to begin; why it did not: once more, and look


def test_a_lock_is_not_waited_for_without_end(locked, monkeypatch):
    ledger, tries, _ = locked
    monkeypatch.setattr(transactions, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(sa.exc.OperationalError, match="database is locked"):
        begin(ledger)
    assert len(tries) == 1


def test_a_deadlock_ends_by_another_try(database, engine, store_run, stored):
    """Two that beat for the same runs in opposite orders, over and over."""
    ids = [uuid4(), uuid4()]
    for run_id in ids:
        store_run("running", id=run_id, worker="mine", attempt_id=MINE)
    engines, failures = [make_engine(database) for _ in range(2)], []
    start = threading.Barrier(2)

    def beat(engine, order):
        def both(connection):
            for run_id in order:
                connection.execute(
                    sa.update(tables.runs).where(tables.runs.c.id == run_id).values(worker="m")
                )

        start.wait(timeout=10)
        try:
            for _ in range(100):
                transactions.transact(engine, both)
        except sa.exc.DBAPIError as failure:
            failures.append(failure)

    threads = [
        threading.Thread(target=beat, args=(engine, order))
        for engine, order in zip(engines, (ids, ids[::-1]), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for each in engines:
        each.dispose()
    assert failures == []


def test_the_ledger_at_a_url_is_on_the_ledgers_own_connection(sqlite):
    first, second = Ledger.at(sqlite, None), Ledger.at(sqlite, None)

    assert first._engine is second._engine
    assert first._engine.url == sqlite
    first._engine.dispose()
