from __future__ import annotations

import logging
import sys
import textwrap
import threading
from datetime import datetime
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery, signals
from servers import wait_for

from celery_sqlalchemy_kit import attempt as attempt_module
from celery_sqlalchemy_kit import book as book_module
from celery_sqlalchemy_kit.attempt import Attempt
from celery_sqlalchemy_kit.book import Book, book_of
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.routines import State
from celery_sqlalchemy_kit.store.ledger import Begun


@pytest.fixture
def app(runs):
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.scheduler_db_uri = str(runs.url)
    yield app
    book_of(app)._kept.clear()
    app.close()


@pytest.fixture
def clock():
    return SettableClock(datetime(2026, 5, 5, tzinfo=UTC))


@pytest.fixture
def book(app, clock):
    return Book(app, clock)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog):
    caplog.set_level(logging.INFO)


def fails(ledger):
    raise OSError("no route\n\tto host")


def test_an_outage_is_told_once_and_so_is_its_end(book, clock, runs, caplog):
    for _ in range(3):
        assert book.ask(fails) is None
        clock.advance(10)
    assert caplog.text.count("cannot be reached: no route to host") == 1

    assert book.ask(lambda ledger: "answer") == "answer"
    assert book.ask(lambda ledger: "answer") == "answer"
    assert caplog.text.count("can be reached again") == 1


def test_after_a_failure_nobody_waits_for_the_database_for_a_while(book, clock, runs):
    asked, pauses = [], []

    def question(ledger):
        asked.append(clock.monotonic())
        return fails(ledger)

    for _ in range(6):
        book.ask(question)
        pauses.append(round(book.seconds_shut, 6))
        clock.advance(book.seconds_shut - 0.01)
        before = len(asked)
        assert book.ask(question) is None
        assert len(asked) == before
        clock.advance(0.02)
    assert pauses == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]

    book.ask(lambda ledger: True)
    book.ask(question)
    assert book.seconds_shut == 0.5


def test_an_outage_is_bridged_while_it_may_be_a_restart(book, clock, runs):
    assert book.bridge()
    book.ask(fails)
    clock.advance(14)
    assert book.bridge()
    assert book.ask(fails) is None
    clock.advance(2)
    assert not book.bridge()

    assert book.ask(lambda ledger: "answer") == "answer"
    book.ask(fails)
    assert book.bridge()


def test_those_who_waited_for_their_turn_do_not_ask_a_server_that_has_failed_just_now(app, runs):
    """All threads of a process share one connection: each would wait for its time-out in turn."""
    book, asked, failing = Book(app), [], threading.Event()

    def slow(ledger):
        asked.append(1)
        failing.wait(10)
        return fails(ledger)

    threads = [threading.Thread(target=book.ask, args=(slow,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    failing.set()
    for thread in threads:
        thread.join(10)
    assert asked == [1]


@pytest.mark.parametrize(
    ("uri", "told"), [(None, "scheduler_db_uri is not set"), ("nonsense", "nothing is recorded")]
)
def test_without_a_ledger_nothing_is_asked_or_kept(app, caplog, uri, told):
    app.conf.scheduler_db_uri = uri
    book = Book(app)
    book.keep(lambda: False)

    assert (book.exists, book.ask(lambda ledger: 1), list(book._kept)) == (False, None, [])
    assert not book.bridge()
    assert told in caplog.text
    assert book.settings.scheduler_lost_after == 90


def test_an_app_has_one_book_in_a_process(app):
    assert book_of(app) is book_of(app)


# What is kept.


def test_what_is_kept_is_written_by_a_thread_that_ends_when_all_is(app, runs):
    book, written = Book(app), []
    for number in range(3):
        book.keep(lambda number=number: written.append(number) or True)

    wait_for(lambda: book._writer is None)
    assert (written, list(book._kept)) == ([0, 1, 2], [])
    book.keep(lambda: written.append(3) or True)
    wait_for(lambda: written == [0, 1, 2, 3])


def test_what_cannot_be_written_is_tried_again_after_the_rest(app, runs):
    book, tries = Book(app), []

    def write(name, times):
        tries.append(name)
        return tries.count(name) == times

    book.lock.acquire()  # so that both are there before the first is written
    book.keep(lambda: book.ask(lambda ledger: True) and write("first", 2))
    book.keep(lambda: write("second", 1))
    book.lock.release()

    wait_for(lambda: book._writer is None)
    assert tries == ["first", "second", "first"]


def test_what_is_at_fault_is_told_and_keeps_nothing_else_from_being_written(app, runs, caplog):
    book, written = Book(app), []

    def at_fault():
        raise KeyError("a bug")

    book.keep(at_fault)
    book.keep(lambda: written.append(1) or True)
    wait_for(lambda: book._writer is None)
    assert written == [1]
    assert "a bug" in caplog.text


def test_of_too_much_the_oldest_is_dropped_which_is_told_once(book, runs, caplog, monkeypatch):
    monkeypatch.setattr(book_module, "MOST_KEPT", 3)
    written = []
    book.ask(fails)
    for number in range(6):
        book.keep(lambda number=number: written.append(number) or True)
    book.flush()

    assert written == [3, 4, 5]
    assert caplog.text.count("more than 3 runs wait to be recorded") == 1


def test_a_process_that_ends_writes_what_it_has_kept_without_waiting_for_its_turn(app, runs, clock):
    book, written = Book(app, clock), []
    book.ask(fails)
    book.keep(lambda: written.append(1) or True)  # the clock stands still: it would wait for ever
    assert written == []

    book.flush()
    assert written == [1]


@pytest.mark.parametrize("signal", [signals.worker_process_shutdown, signals.worker_shutdown])
def test_celery_tells_when_a_process_ends(app, runs, signal):
    book, written = book_of(app), []
    book.ask(fails)
    book.keep(lambda: written.append(1) or True)
    signal.send(sender=None)
    assert written == [1]


def test_a_process_that_ends_waits_no_longer_than_a_second(app, runs, caplog, monkeypatch):
    monkeypatch.setattr(book_module, "FLUSH_SECONDS", 0.05)
    book = Book(app)
    runs.go_away()
    book.keep(lambda: book.ask(lambda ledger: ledger.now()) is not None)
    book.flush()
    runs.come_back()

    assert "the database is away, and 1 runs are not recorded" in caplog.text
    book._kept.clear()


# What an attempt records.


@pytest.fixture
def attempt(runs):
    return Attempt(runs.store(), "task", "celery@here", retries=0)


def test_an_attempt_records_what_is_not_recorded_yet_and_nothing_twice(book, runs, attempt):
    assert attempt.record(book)
    first = runs.read(attempt.run_id)
    attempt.end({"state": State.FAILED, "error": "why"})
    assert attempt.record(book)
    second = runs.read(attempt.run_id)
    runs.change(error="somebody else's")
    assert attempt.record(book)

    assert (first.state, first.attempt_id) == ("running", attempt.id)
    assert (second.state, second.error, second.attempts) == ("failed", "why", 1)
    assert runs.read(attempt.run_id).error == "somebody else's"


def test_an_attempt_that_another_process_has_begun_is_ended(book, runs, attempt):
    """The main process ends what its pool's process has begun."""
    runs.change(state="running", attempt_id=attempt.id, attempts=1)
    attempt.end({"state": State.FAILED})

    assert attempt.record(book)
    row = runs.read(attempt.run_id)
    assert (row.state, row.attempts) == ("failed", 1)


@pytest.mark.parametrize(
    "row",
    [
        {"state": "running", "attempt_id": uuid4()},
        {"state": "succeeded", "attempt_id": uuid4()},
        {"state": "missed"},
        {"state": "retrying", "attempt_id": uuid4(), "retries": 0},
    ],
)
def test_a_late_attempt_leaves_the_run_to_whoever_has_it_with_a_warning(
    book, runs, attempt, caplog, row
):
    runs.change(**row)
    before = runs.read(attempt.run_id)
    attempt.end({"state": State.SUCCEEDED})

    assert attempt.record(book)
    assert runs.read(attempt.run_id) == before
    assert f"task[{attempt.run_id}]: not recorded as succeeded: another attempt" in caplog.text


def test_a_late_attempt_of_a_run_that_is_gone_is_told(book, runs, caplog):
    assert Attempt(uuid4(), "task", "w").record(book)
    assert "not recorded as running: the database has no such run" in caplog.text


def test_an_end_that_comes_too_late_is_told_once(book, runs, attempt, caplog):
    attempt.record(book)
    attempt.end({"state": State.SUCCEEDED})
    runs.change(attempt_id=uuid4())

    assert attempt.record(book)
    assert attempt.record(book)
    assert caplog.text.count("no longer this attempt's") == 1
    assert attempt.begun is Begun.BEGUN


def test_times_are_the_attempts_own_once_they_are_late(book, runs, attempt, monkeypatch):
    """Reckoned back from the database's present, by the age on the monotonic clock."""
    now = 1000.0
    monkeypatch.setattr(attempt_module, "time", SimpleNamespace(monotonic=lambda: now))
    attempt.began = now - 60
    attempt.end({"state": State.SUCCEEDED})
    attempt.ended = now - 20
    attempt.record(book)

    row = runs.read(attempt.run_id)
    assert 39 < (row.finished_at - row.started_at).total_seconds() < 41


# Forks.

FORK = """
import os, sys, threading, time
from celery import Celery
from celery_sqlalchemy_kit.book import book_of

app = Celery("tests", broker="memory://")
app.conf.scheduler_db_uri = sys.argv[1]
book, within, out = book_of(app), threading.Event(), threading.Event()
book.ask(lambda ledger: ledger.now())
order = []

def slow(ledger):
    within.set()
    out.wait(0.2)
    order.append("answered")
    return True

threading.Thread(target=book.ask, args=(slow,)).start()
book.keep(lambda: os.getpid() == parent and False)
parent = os.getpid()
within.wait()
if os.fork() == 0:
    mine = book_of(app)
    assert order == ["answered"], order
    assert mine is not book and not mine._kept and mine._writer is None
    assert mine.ask(lambda ledger: ledger.now()) is not None
    print("child is well", flush=True)
    os._exit(0)
assert os.wait()[1] == 0
assert book_of(app) is book and book.ask(lambda ledger: ledger.now()) is not None
print("parent is well", flush=True)
os._exit(0)
"""


def test_a_forked_process_has_a_book_of_its_own_and_no_lock_of_the_parents(runs, processes):
    """And a fork waits until no other thread is in the middle of a statement."""
    command = (sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORK), str(runs.url))
    process = processes.start("fork", *command)

    assert process.wait(30) == 0
    assert "child is well" in process.output()
    assert "parent is well" in process.output()
