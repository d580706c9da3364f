"""A database that never answers is given up, whichever driver waits for it."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from proxy import Proxy, address_of
from servers import wait_for
from sqlalchemy.exc import DBAPIError

from celery_sqlalchemy_kit.store import watchdog
from celery_sqlalchemy_kit.store.connections import (
    LEDGER_TIMEOUT,
    STATEMENT_TIMEOUT,
    engine_for,
    make_engine,
)
from celery_sqlalchemy_kit.store.faults import Fault, kind_of
from celery_sqlalchemy_kit.store.watchdog import QUICK, at_least, leave_alone

#: The deadline in these tests, and what is certainly longer.
SOON, LATER = 0.3, 20.0


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request):
    """The URL of an empty database on a server that is reached over a network."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def proxy(server):
    with Proxy(address_of(server)) as between:
        yield between


@pytest.fixture
def engine(server, proxy):
    """Makes engines whose connections go through the proxy."""
    made = []

    def make(seconds=SOON, **options):
        made.append(make_engine(proxy.through(server), statement_timeout=seconds, **options))
        return made[-1]

    yield make
    proxy.cut()
    for each in made:
        each.dispose()


@pytest.mark.parametrize("begin", ["begin", "connect"])
def test_who_is_told_to_stop_within_a_transaction_waits_for_no_rollback(engine, proxy, begin):
    patient = engine(LATER, longest_timeout=2 * LATER)
    answer(patient)

    def told_to_stop():
        with getattr(patient, begin)() as connection:
            connection.execute(sa.text("SELECT 1"))
            proxy.hang()
            raise SystemExit

    began = time.monotonic()
    with pytest.raises(SystemExit):
        told_to_stop()
    assert time.monotonic() - began < 1


def answer(engine):
    with engine.begin() as connection:
        return connection.execute(sa.text("SELECT 1")).scalar()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def slow_answer(engine, seconds):
    sleep = "pg_sleep" if engine.dialect.name == "postgresql" else "sleep"
    with engine.begin() as connection:
        connection.execute(sa.text(f"SELECT {sleep}({seconds})"))


def seconds_until_given_up(work):
    began = time.monotonic()
    with pytest.raises(DBAPIError) as given_up:
        work()
    assert Fault.AWAY is kind_of(given_up.value)
    return time.monotonic() - began


def test_a_statement_without_an_answer_is_given_up_and_the_next_connection_is_another(
    engine, proxy
):
    engine = engine()
    assert 1 == answer(engine)
    proxy.hang()

    assert SOON <= seconds_until_given_up(lambda: answer(engine)) < LATER

    proxy.resume("dead")
    assert 1 == answer(engine)


def test_a_commit_without_an_answer_is_given_up(engine, proxy):
    engine = engine()

    def commit():
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            proxy.hang("answers")

    assert SOON <= seconds_until_given_up(commit) < LATER


def test_what_sqlalchemy_asks_a_first_connection_is_given_up_too(engine, proxy):
    engine = engine()
    sa.event.listen(engine, "connect", lambda driver, record: proxy.hang(), insert=True)

    assert SOON <= seconds_until_given_up(lambda: answer(engine)) < LATER


def test_each_statement_has_the_whole_time(engine):
    engine = engine()
    with engine.begin() as connection:
        for _ in range(4):
            time.sleep(SOON / 2)
            connection.execute(sa.text("SELECT 1"))


def test_a_connection_that_nobody_uses_is_left_alone(engine, proxy):
    engine = engine(0.05)
    answer(engine)
    time.sleep(0.5)

    assert 1 == answer(engine)
    assert 1 == proxy.connections


def test_a_connection_that_could_not_be_set_up_is_watched_no_more(engine):
    engine = engine()

    def refuse(driver, record):
        raise LookupError

    sa.event.listen(engine, "connect", refuse)
    with pytest.raises(LookupError) as refused:
        answer(engine)
    del refused
    gc.collect()

    assert not len(watchdog._watchdog._used)


def test_a_connection_that_is_invalidated_is_closed_at_once(server):
    engine = make_engine(server)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        before = descriptors()
        connection.invalidate()
        assert before - 2 == descriptors(), "the driver's and ours"
    engine.dispose()


def test_one_that_waits_on_purpose_is_left_alone(engine, proxy):
    engine = engine(0.05)
    pooled = engine.raw_connection()
    leave_alone(pooled)
    time.sleep(0.5)

    cursor = pooled.cursor()
    cursor.execute("SELECT 1")
    assert 1 == cursor.fetchone()[0]
    pooled.close()


def test_more_time_can_be_given_for_a_while(engine):
    engine = engine()
    with at_least(engine, LATER):
        slow_answer(engine, 2 * SOON)

    assert SOON <= seconds_until_given_up(lambda: slow_answer(engine, LATER)) < LATER


def test_a_server_that_is_alive_and_slow_is_given_more_time_until_it_is_quick_again(engine):
    engine = engine(SOON, longest_timeout=LATER)
    given_up = 0
    while True:
        try:
            slow_answer(engine, 3 * SOON)
        except DBAPIError:
            given_up += 1
        else:
            break
    assert 2 == given_up, "after one deadline, and after twice as much"

    for _ in range(QUICK):
        answer(engine)
    assert seconds_until_given_up(lambda: slow_answer(engine, LATER)) < 2 * SOON


def test_no_server_is_given_more_than_the_longest_time(engine):
    engine = engine(SOON, longest_timeout=1.5 * SOON)
    for _ in range(4):
        assert seconds_until_given_up(lambda: slow_answer(engine, LATER)) < 4 * SOON


def test_the_ledger_gives_up_soon_enough_for_the_task_that_waits(server):
    engine = engine_for(server, "ledger", schema=None)

    assert LEDGER_TIMEOUT == watchdog._deadlines[engine].seconds < STATEMENT_TIMEOUT


def test_there_is_no_thread_before_there_is_a_connection_and_one_for_all(engine, monkeypatch):
    monkeypatch.setattr(watchdog, "_watchdog", watchdog._Watchdog())
    before = threading.active_count()
    engines = [engine(LATER), engine(LATER)]
    assert before == threading.active_count()

    for each in engines:
        answer(each)

    assert before + 1 == threading.active_count()


def test_the_thread_sleeps_while_there_is_nothing_to_watch_and_wakes_in_time(
    engine, proxy, monkeypatch
):
    monkeypatch.setattr(watchdog, "IDLE_TICKS", 1)
    engine = engine()
    answer(engine)
    wait_for(lambda: not watchdog._watchdog._awake.is_set(), what="a thread that sleeps")
    proxy.hang()

    assert SOON <= seconds_until_given_up(lambda: answer(engine)) < LATER


def test_a_statement_now_and_then_wakes_the_thread_a_few_times_only(engine, monkeypatch):
    monkeypatch.setattr(watchdog, "_watchdog", watchdog._Watchdog())
    engine, looks, pause = engine(LATER), [], watchdog.pause

    def paused(seconds):
        looks.append(seconds)
        pause(seconds)

    monkeypatch.setattr(watchdog, "pause", paused)
    answer(engine)
    wait_for(lambda: not watchdog._watchdog._awake.is_set(), what="a thread that sleeps")
    looks.clear()

    with engine.connect():
        pass
    wait_for(lambda: not watchdog._watchdog._awake.is_set(), what="a thread that sleeps")

    assert 1 <= len(looks) < 6


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_watchdog_of_its_own(engine):
    answer(engine())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            seconds_until_given_up(lambda: slow_answer(engine(), LATER))
            code = 0
        finally:
            os._exit(code)

    assert (child, 0) == os.waitpid(child, 0)


def test_a_descriptor_goes_with_its_connection(engine):
    engine = engine()
    answer(engine)
    used = descriptors()
    for _ in range(5):
        engine.dispose()
        answer(engine)

    assert used == descriptors()


def test_postgresql_is_told_to_notice_soon_that_a_client_has_vanished(postgresql):
    # A socket file, which the server may listen on alone, shows no values.
    query = "SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE 'tcp_keep%'"
    engine = make_engine(postgresql)
    for _ in range(2):
        with engine.begin() as connection:
            assert 3 == len(connection.execute(sa.text(query)).all())
    engine.dispose()


def test_sqlite_has_nothing_to_watch(sqlite):
    engine = make_engine(sqlite, statement_timeout=0.01)
    with engine.begin() as connection:
        time.sleep(0.3)
        assert 1 == connection.execute(sa.text("SELECT 1")).scalar()
    engine.dispose()
