"""How a waiting scheduler hears of a change, and what it does where it hears nothing."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing

import pytest
import sqlalchemy as sa
from servers import wait_for
from sqlalchemy.engine import make_url

from celery_sqlalchemy_kit import migrations, wakeups
from celery_sqlalchemy_kit.store.connections import make_engine, wait_in_python
from celery_sqlalchemy_kit.wakeups import DataVersion, Notifications, Polling, wakeups_for

#: Seconds after which nothing was heard. What is heard ends the wait before `LONG`, by far.
SHORT, LONG = 0.1, 60.0


@pytest.fixture
def engine():
    """Makes engines that are disposed of with the test."""
    made = []

    def make(url):
        made.append(make_engine(url))
        return made[-1]

    yield make
    for each in made:
        each.dispose()


@pytest.fixture
def somebody(engine, postgresql):
    """Runs a statement on another connection to the PostgreSQL database."""
    other = engine(postgresql)

    def execute(statement):
        with other.begin() as connection:
            connection.execute(sa.text(statement))

    return execute


@pytest.fixture
def listener(engine, postgresql, _psycopg2_waits_as_in_a_scheduler):
    listening = Notifications(engine(postgresql))
    listening.listen()
    return listening


@pytest.fixture
def _psycopg2_waits_as_in_a_scheduler():
    from psycopg2 import extensions

    before = extensions.get_wait_callback()
    wait_in_python()
    yield
    extensions.set_wait_callback(before)


@pytest.fixture
def said(caplog):
    """What was logged at warning level or above."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def seconds(waiting, longest):
    """Seconds that `wait` took."""
    began = time.monotonic()
    waiting.wait(longest)
    return time.monotonic() - began


def hears(waiting):
    return seconds(waiting, LONG) < LONG / 2


def hears_nothing(waiting):
    return seconds(waiting, SHORT) >= SHORT


def test_a_notification_ends_the_wait_and_is_heard_once(listener, somebody):
    somebody("NOTIFY routines")

    assert hears(listener)
    assert hears_nothing(listener)


def test_other_channels_are_not_heard(listener, somebody):
    somebody("NOTIFY others")

    assert hears_nothing(listener)


def test_a_change_of_the_table_by_anybody_is_heard(listener, somebody, engine, postgresql):
    migrations.migrate(engine(postgresql))
    assert hears_nothing(listener)

    somebody("INSERT INTO routines (name, task, schedule) VALUES ('a', 'b', '{\"timedelta\": 5}')")
    assert hears(listener)

    somebody("UPDATE routines SET active = false")
    assert hears(listener)

    somebody("DELETE FROM routine_runs")
    assert hears_nothing(listener)


def test_a_cut_connection_is_said_once_and_listened_on_again(listener, somebody, said):
    somebody("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")

    wait_for(lambda: listener.wait(SHORT) or len(said()) == 2, what="another LISTEN")

    assert "no LISTEN, changes are polled for" in said()[0]
    assert "LISTEN works again" in said()[1]
    somebody("NOTIFY routines")
    assert hears(listener)
    assert 2 == len(said())


def test_a_connection_that_is_forgotten_is_made_anew_without_a_word(listener, somebody, said):
    listener.forget()
    listener.forget()
    assert seconds(listener, LONG) < LONG / 2, "what came meanwhile has to be looked for"

    somebody("NOTIFY routines")
    assert hears(listener)
    assert hears_nothing(listener)
    assert [] == said()


def test_a_listener_has_no_deadline_to_hear_something_within(engine, postgresql, somebody, said):
    listening = Notifications(make_engine(postgresql, statement_timeout=0.05))
    listening.listen()
    assert seconds(listening, 0.5) >= 0.5

    somebody("NOTIFY routines")
    assert hears(listening)
    assert [] == said()
    listening.forget()


def test_changes_are_polled_for_while_there_is_no_connection_and_that_is_said_once(
    listener, engine, postgresql, said
):
    admin = engine(postgresql.set(database="postgres"))
    allow = f"ALTER DATABASE {postgresql.database} ALLOW_CONNECTIONS"

    def execute(statement):
        with admin.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.commit()

    execute(f"{allow} false")
    execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{postgresql.database}'"
    )
    wait_for(lambda: listener.wait(SHORT) or said(), what="a word about the cut")
    for _ in range(3):
        assert hears_nothing(listener)
    assert 1 == len(said())

    execute(f"{allow} true")
    wait_for(lambda: listener.wait(SHORT) or len(said()) > 1, what="another LISTEN")
    assert "LISTEN works again" in said()[1]


def test_another_connections_commit_ends_the_wait_and_ones_own_does_not(engine, sqlite):
    mine, others = engine(sqlite), engine(sqlite)
    waiting = DataVersion(mine)
    waiting.listen()

    with mine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    assert hears_nothing(waiting)

    with others.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert hears(waiting)
    assert hears_nothing(waiting)


def test_a_file_that_somebody_has_locked_is_waited_for_and_heard_of_later(engine, sqlite):
    waiting = DataVersion(engine(sqlite))
    with waiting._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    waiting.listen()

    with closing(sqlite3.connect(sqlite.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert hears_nothing(waiting)

        other.execute("INSERT INTO t VALUES (1)")
        other.execute("COMMIT")
        assert hears(waiting)


def test_polling_returns_for_a_look_before_long(monkeypatch):
    monkeypatch.setattr(wakeups, "POLL_SECONDS", SHORT)
    polling = Polling()
    polling.listen()

    assert SHORT <= seconds(polling, LONG) < LONG / 2
    assert seconds(polling, 0.0) < LONG / 2
    assert seconds(polling, -1.0) < LONG / 2


@pytest.mark.parametrize(
    ("url", "notify", "way", "how"),
    [
        ("sqlite:///x.db", True, DataVersion, "data_version"),
        ("postgresql+psycopg2://host/x", True, Notifications, "NOTIFY"),
        ("postgresql+psycopg2://host/x", False, Polling, "a look every 1 s"),
        ("mysql+pymysql://host/x", True, Polling, "a look every 1 s"),
    ],
)
def test_each_database_is_heard_in_the_way_that_it_has(engine, url, notify, way, how):
    chosen = wakeups_for(engine(make_url(url)), engine(make_url(url)), notify=notify)

    assert isinstance(chosen, way)
    assert chosen.how.startswith(how)
