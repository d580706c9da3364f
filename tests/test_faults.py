"""What a database error means, by errors as the drivers raise them."""

from __future__ import annotations

import sqlite3

import psycopg2
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from celery_sqlalchemy_kit.store.faults import Fault, kind_of

TRANSIENT, AWAY, OTHER = Fault.TRANSIENT, Fault.AWAY, Fault.OTHER


def wrapped(cause, driver, *, invalidated=False) -> DBAPIError:
    """The error as SQLAlchemy gives it on."""
    error = DBAPIError.instance(
        "SELECT 1", {}, cause, driver.Error, connection_invalidated=invalidated
    )
    assert isinstance(error, DBAPIError)
    return error


def postgresql(kind, state, message="…"):
    """psycopg2 keeps the state where Python code cannot write it."""
    return type("Error", (getattr(psycopg2, kind),), {"pgcode": state})(message)


@pytest.mark.parametrize(
    ("kind", "state", "expected"),
    [
        ("OperationalError", "40001", TRANSIENT),
        ("OperationalError", "40P01", TRANSIENT),
        ("OperationalError", "55P03", TRANSIENT),
        ("InternalError", "40001", TRANSIENT),
        # While it connects, and when it is cut off, psycopg2 has no state.
        ("OperationalError", None, AWAY),
        ("InterfaceError", None, AWAY),
        ("OperationalError", "08006", AWAY),
        ("OperationalError", "53300", AWAY),
        ("OperationalError", "53100", AWAY),
        ("OperationalError", "57P01", AWAY),
        ("OperationalError", "57P02", AWAY),
        ("OperationalError", "57P03", AWAY),
        ("OperationalError", "58030", AWAY),
        # A fault of ours, of the tables, of the rights.
        ("OperationalError", "57014", OTHER),
        ("OperationalError", "54001", OTHER),
        ("ProgrammingError", "42P01", OTHER),
        ("ProgrammingError", "42501", OTHER),
        ("DataError", "22P02", OTHER),
        ("IntegrityError", "23505", OTHER),
        ("InternalError", "25006", OTHER),
        ("DatabaseError", None, OTHER),
    ],
)
def test_an_error_of_postgresql_means(kind, state, expected):
    assert expected is kind_of(wrapped(postgresql(kind, state), psycopg2))


def test_psycopgs_state_is_read_too():
    cause = type("DeadlockDetected", (psycopg2.OperationalError,), {"sqlstate": "40P01"})("…")

    assert TRANSIENT is kind_of(wrapped(cause, psycopg2))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *[(number, TRANSIENT) for number in (1205, 1213, 1020)],
        # Cannot connect; refused; went away, lost; killed.
        *[(number, AWAY) for number in (2000, 2002, 2003, 2005, 2006, 2013, 2055, 2999)],
        *[(number, AWAY) for number in (1040, 1044, 1045, 1047, 1049, 1053, 1129, 1130)],
        *[(number, AWAY) for number in (1158, 1159, 1160, 1161, 1203, 1226, 1927, 4031)],
        # No such table or column, denied to this user, read-only, no such procedure, duplicate.
        *[
            (number, OTHER)
            for number in (1146, 1054, 1142, 1143, 1290, 1305, 1062, 1064, 1419, 1999, 3000)
        ],
    ],
)
def test_an_error_of_mysql_means(number, expected):
    with pytest.raises(pymysql.MySQLError) as caught:
        pymysql.err.raise_mysql_exception(b"\xff" + number.to_bytes(2, "little") + b"#HY000what")

    assert expected is kind_of(wrapped(caught.value, pymysql))


def test_a_connection_of_pymysql_that_is_closed_already_is_away():
    assert AWAY is kind_of(wrapped(pymysql.InterfaceError(0, ""), pymysql))


@pytest.fixture
def sqlite_error(tmp_path):
    """The error that a statement comes to on SQLite, given how the file is opened."""

    def error(statement, *, path="a.db", before=(), parameters=()):
        engine = sa.create_engine(f"sqlite:///{tmp_path / path}", connect_args={"timeout": 0})
        try:
            with engine.begin() as connection:
                for each in before:
                    connection.exec_driver_sql(each)
                connection.exec_driver_sql(statement, parameters)
        except SQLAlchemyError as fault:
            return fault
        finally:
            engine.dispose()
        raise AssertionError(statement)

    return error


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM missing",
        "SELECT missing FROM t",
        "INSERT INTO t (missing) VALUES (1)",
        "ALTER TABLE missing ADD COLUMN a",
        "CREATE TABLE t (a)",
        "SELECT missing()",
        "SELEKT 1",
        "INSERT INTO t (id) VALUES (NULL)",
    ],
)
def test_a_statement_at_fault_is_no_outage_on_sqlite(sqlite_error, statement):
    error = sqlite_error(statement, before=["CREATE TABLE t (id INTEGER NOT NULL)"])

    assert OTHER is kind_of(error)


def test_a_value_that_sqlite_does_not_take_is_no_outage(sqlite_error):
    assert OTHER is kind_of(sqlite_error("SELECT ?", parameters=(object(),)))


def test_a_file_that_cannot_be_opened_is_away(sqlite_error):
    assert AWAY is kind_of(sqlite_error("SELECT 1", path="missing/a.db"))


def test_a_file_on_a_full_disk_is_away(sqlite_error):
    few = ["PRAGMA page_size = 512", "PRAGMA max_page_count = 3", "CREATE TABLE t (a)"]

    assert AWAY is kind_of(sqlite_error("INSERT INTO t VALUES (zeroblob(90000))", before=few))


def test_a_file_that_somebody_else_writes_to_is_a_lost_race(sqlite_error, tmp_path):
    with sqlite3.connect(tmp_path / "a.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        error = sqlite_error("CREATE TABLE t (a)")
        writer.execute("ROLLBACK")
    writer.close()

    assert TRANSIENT is kind_of(error)


@pytest.mark.parametrize("kind", ["DatabaseError", "OperationalError", "InternalError"])
def test_a_connection_that_sqlalchemy_gave_up_is_away(kind):
    cause = postgresql(kind, None, "server closed the connection unexpectedly")

    assert AWAY is kind_of(wrapped(cause, psycopg2, invalidated=True))


def test_no_connection_left_in_the_pool_is_a_lost_race():
    assert TRANSIENT is kind_of(PoolTimeoutError("QueuePool limit reached"))


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), NoSuchTableError("routines"), SQLAlchemyError("another"), OSError()],
)
def test_what_no_database_said_is_another_fault(error):
    assert OTHER is kind_of(error)
