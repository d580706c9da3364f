"""What tests share: empty databases on real servers, and child processes.

A server that cannot be had is a skip with its reason; with ``REQUIRE_SERVERS=1``, as in CI, every
skip is a failure. ``TEST_POSTGRES_URL``, ``TEST_MYSQL_URL``, ``TEST_REDIS_URL`` and
``TEST_RABBITMQ_URL`` name servers that run already; the database that ``TEST_REDIS_URL`` names is emptied.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
from datetime import datetime
from importlib.metadata import version
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import uuid4

import processes as child_processes
import pytest
import servers
import sqlalchemy as sa
from celery import Celery, _state, signals
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.pool import Pool
from traced import Runs

from celery_sqlalchemy_kit import Routines, aio, declarations
from celery_sqlalchemy_kit.client.verbs import Verbs
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.store import connections
from celery_sqlalchemy_kit.testing import ManualBeat, SettableClock

#: What the tests ran with, for the summary: names and versions.
RAN_WITH = {
    "Python": platform.python_version(),
    **{name: version(name) for name in ("celery", "kombu", "SQLAlchemy")},
    "SQLite": sqlite3.sqlite_version,
}
NO_SKIPS = os.environ.get("REQUIRE_SERVERS") == "1"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request) -> URL:
    """The URL of an empty database, on each of the databases in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def sqlite(tmp_path) -> URL:
    """The URL of an empty SQLite database."""
    return URL.create("sqlite", database=str(tmp_path / "routines.db"))


@pytest.fixture
def clock() -> SettableClock:
    """Begins at the real present: triggers keep the database's own clock."""
    return SettableClock(datetime.now(UTC))


@pytest.fixture
def beat(database, clock):
    """Starts schedulers that are moved by hand: ``beat(*declared, **settings)``."""
    beats = []

    def start(*declared, **settings):
        beats.append(ManualBeat(database, clock, declared, **settings))
        beats[-1].start()
        return beats[-1]

    yield start
    for each in beats:
        each.engine.dispose()


@pytest.fixture
def app(database) -> Celery:
    """An app whose routines are in an empty database."""
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.scheduler_db_uri = database
    yield app
    app.close()


@pytest.fixture
def routines(app, clock) -> Routines:
    """The Python API, by the clock that `beat` has; each statement is later than the one before."""
    later = SimpleNamespace(now=lambda: clock.advance(1e-6), monotonic=clock.monotonic)
    routines = Routines(app, who="ada@desk")
    routines.verbs = Verbs(app, "ada@desk", later)
    return routines


@pytest.fixture
def runs(tmp_path) -> Runs:
    """The table of runs, in a SQLite file that can go away."""
    (tmp_path / "disk").mkdir()
    runs = Runs(URL.create("sqlite", database=str(tmp_path / "disk" / "routines.db")))
    yield runs
    runs.close()


@pytest.fixture
def store_run(runs):
    return runs.store


@pytest.fixture
def stored(runs):
    return runs.read


@pytest.fixture
def postgresql(_postgresql_server) -> URL:
    """The URL of an empty PostgreSQL database."""
    name = _new_name()
    admin = _admin_engine(_postgresql_server.set(database="postgres"))
    _execute(admin, f"CREATE DATABASE {name} TEMPLATE template0")
    yield _postgresql_server.set(database=name)
    _execute(admin, f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture
def mariadb(_mariadb_server) -> URL:
    """The URL of an empty MariaDB database."""
    name = _new_name()
    admin = _admin_engine(_mariadb_server.set(database=None))
    _execute(admin, f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield _mariadb_server.set(database=name)
    with admin.connect() as connection:
        # DROP would wait for the transactions of those still connected.
        others = sa.text("SELECT id FROM information_schema.processlist WHERE db = :name")
        for connected in connection.execute(others, {"name": name}).scalars().all():
            with contextlib.suppress(sa.exc.OperationalError):  # gone by itself meanwhile
                connection.exec_driver_sql(f"KILL SOFT CONNECTION {connected:d}")
    _execute(admin, f"DROP DATABASE {name}")
    admin.dispose()


@pytest.fixture
def redis_url(_redis_server) -> str:
    """The URL of an empty Redis database."""
    import redis

    with redis.Redis.from_url(_redis_server) as client:
        client.flushdb()
        yield _redis_server
        client.flushdb()


@pytest.fixture
def rabbitmq_url(_rabbitmq_server) -> str:
    """The URL of a RabbitMQ, in which nobody tidies up."""
    return _rabbitmq_server


@pytest.fixture
def processes(tmp_path) -> child_processes.Processes:
    """Starts child processes in `tmp_path`; ends them with the test, shows their output if it fails."""
    started = child_processes.Processes(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def no_tasks_of_other_tests(monkeypatch):
    """What a test declares is declared for its own apps only, and its event loop ends with it."""
    monkeypatch.setattr(declarations, "_declarations", {})
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
    yield
    aio.close()


@pytest.fixture
def workers_leave_logging_alone():
    """An embedded worker would set the root logger's level, and `caplog` would stay empty."""

    @signals.setup_logging.connect
    def leave(**_):
        pass

    yield
    signals.setup_logging.disconnect(leave)


@pytest.fixture(autouse=True)
def _no_app_outlives_its_test():
    """What a later test declares would be registered with it as well, by its settings."""
    before = set(_state._get_active_apps())
    yield
    for app in set(_state._get_active_apps()) - before:
        _state._deregister_app(app)


@pytest.fixture(autouse=True)
def _no_connection_outlives_its_test(_sqlite_connections):
    """Dispose every engine that the test used; Python 3.13 warns of SQLite connections left open.

    One that a thread has checked out goes back to a pool that was disposed meanwhile, and one may
    be made by a thread that outlives its test: what SQLite has open is closed as well.
    """
    used = set()

    def remember(connection):
        used.add(connection.engine)

    sa.event.listen(Engine, "begin", remember)
    yield
    sa.event.remove(Engine, "begin", remember)
    # Of what goes straight to a driver there is no event.
    for engine in used | set(connections._engines.values()):
        engine.dispose()
    while _sqlite_connections:
        # SQLAlchemy 1.4 leaves it to the thread that has made one, if the test does.
        with contextlib.suppress(sqlite3.ProgrammingError):
            _sqlite_connections.pop().close()


@pytest.fixture(scope="session")
def _sqlite_connections():
    """Those that any pool has opened, until they are taken out."""
    opened = []

    @sa.event.listens_for(Pool, "connect")
    def remember(connection, _):
        if isinstance(connection, sqlite3.Connection):
            opened.append(connection)

    yield opened
    sa.event.remove(Pool, "connect", remember)


@pytest.fixture(scope="session")
def _postgresql_server():
    for url in _server("PostgreSQL", "TEST_POSTGRES_URL", servers.postgresql):
        engine = _admin_engine(make_url(url).set(database="postgres"))
        RAN_WITH["PostgreSQL"] = _execute(engine, "SHOW server_version")
        engine.dispose()
        yield make_url(url)


@pytest.fixture(scope="session")
def _mariadb_server():
    for url in _server("MariaDB", "TEST_MYSQL_URL", servers.mariadb):
        engine = _admin_engine(make_url(url).set(database=None))
        RAN_WITH["MariaDB"] = _execute(engine, "SELECT version()")
        engine.dispose()
        yield make_url(url)


@pytest.fixture(scope="session")
def _redis_server():
    import redis

    for url in map(_own_database, _server("Redis", "TEST_REDIS_URL", servers.redis)):
        with redis.Redis.from_url(url) as client:
            RAN_WITH["Redis"] = client.info("server")["redis_version"]
        yield url


@pytest.fixture(scope="session")
def _rabbitmq_server():
    yield from _server("RabbitMQ", "TEST_RABBITMQ_URL", servers.rabbitmq)


def _own_database(redis_url):
    """Of each process, where pytest-xdist runs tests in several: they empty it."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "")[2:]
    return urlsplit(redis_url)._replace(path=f"/{number}").geturl() if number else redis_url


def _server(name, variable, start):
    if url := os.environ.get(variable):
        yield url
        return
    with contextlib.ExitStack() as started:
        try:
            url = started.enter_context(start())
        except (servers.Unavailable, ImportError) as missing:
            pytest.skip(f"{name}: {missing}, and {variable} is not set")
        yield url


def _new_name():
    return f"test_{uuid4().hex}"


def _admin_engine(url):
    return sa.create_engine(url, isolation_level="AUTOCOMMIT", future=True)


def _execute(engine, statement):
    with engine.connect() as connection:
        result = connection.exec_driver_sql(statement)
        return result.scalar() if result.returns_rows else None


def pytest_terminal_summary(terminalreporter):
    verified = ", ".join(f"{name} {number}" for name, number in RAN_WITH.items())
    terminalreporter.write_line(f"ran with {verified}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    started = getattr(item, "funcargs", {}).get("processes")
    if report.failed and started is not None:
        for process in started.started:
            report.sections.append((f"output of {process.name}", process.output()))
    return _no_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _no_skip((yield))


def _no_skip(report):
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr[2]}"
    return report
