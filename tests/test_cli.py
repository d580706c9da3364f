"""``celery routines …``, as an operator and a probe call it."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner
from servers import wait_for

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.cli import health as command
from celery_sqlalchemy_kit.cli import routines
from celery_sqlalchemy_kit.store.connections import make_engine

HERE = socket.gethostname()
SOURCE = """
from celery import Celery

app = Celery("proj", broker="memory://")
app.conf.update({conf!r})
app.conf.beat_schedule = {{"nightly": {{"task": "t", "schedule": 86400}}}}
"""
#: Moves an instant an hour back, as the clocks of the three have it.
AN_HOUR_AGO = {
    "postgresql": "now() - interval '1 hour'",
    "mysql": "utc_timestamp(6) - interval 1 hour",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-1 hour')",
}


@pytest.fixture
def app():
    """Makes an app with these settings; the environment's count for nothing."""
    made = []

    def make(**conf):
        app = Celery(broker="memory://", set_as_current=False)
        app.conf.update(conf)
        made.append(app)
        return app

    yield make
    for each in made:
        each.close()


@pytest.fixture
def health(app, monkeypatch):
    """Calls the command within this process, on an app with this database."""
    monkeypatch.delenv("SCHEDULER_DB_URI", raising=False)

    def call(url, *args, quiet=False):
        context = CLIContext(app(scheduler_db_uri=url), no_color=True, workdir=None, quiet=quiet)
        return CliRunner().invoke(routines, ["health", *args], obj=context)

    return call


@pytest.fixture
def celery(processes):
    """Calls the command as a process; returns its exit code and what it printed."""

    def call(*args, app="proj", env=None):
        process = processes.celery("health", "routines", "health", *args, app=app, env=env)
        return process.wait(), process.output()

    return call


def sql(url, statement):
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def test_the_life_of_a_scheduler_as_a_probe_sees_it(database, processes, celery):
    conf = {"scheduler_db_uri": database.render_as_string(hide_password=False)}
    processes.app("proj", SOURCE.format(conf=conf))
    no_tables(database)
    code, told = celery()
    assert (1, True) == (code, "the table routine_schedulers is missing" in told)

    beat = processes.beat()
    beat.expect("routines: ready")
    code, told = celery()
    assert 0 == code, told
    assert f"scheduler {HERE}[{beat.pid}]: last beat " in told
    assert told.endswith("\nhealthy\n")
    assert (0, "") == celery("--here", "--quiet")

    beat.send_signal(signal.SIGSTOP)
    ago = AN_HOUR_AGO[database.get_backend_name()]
    sql(database, f"UPDATE routines SET next_run_at = {ago}")
    code, told = celery()
    assert 1 == code
    assert "unhealthy: routine 'nightly' is overdue: due at " in told
    # That is not for this scheduler alone to answer for.
    assert 0 == celery("--here")[0]

    sql(database, f"UPDATE routine_schedulers SET seen_at = {ago}")
    for args in ((), ("--here",), ("--host", HERE)):
        code, told = celery(*args)
        assert 1 == code
        assert f"scheduler {HERE}[{beat.pid}]: last beat 36" in told
        assert "has beaten for 36" in told

    beat.send_signal(signal.SIGCONT)
    wait_for(lambda: celery("--here")[0] == 0, 30, what="the next beat")

    beat.terminate()
    assert 0 == beat.wait()
    assert (1, "unhealthy: no scheduler runs\n") == celery()


def test_a_scheduler_on_another_host_is_not_here(sqlite, health, monkeypatch):
    migrated(sqlite)
    add_scheduler(sqlite, "web-1")

    assert 0 == health(sqlite).exit_code == health(sqlite, "--host", "web-1").exit_code
    result = health(sqlite, "--here")
    assert (1, f"unhealthy: no scheduler runs on {HERE}\n") == (result.exit_code, result.output)
    monkeypatch.setattr(socket, "gethostname", lambda: "web-1")
    assert 0 == health(sqlite, "--here").exit_code


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ((), 0),
        (("--silence", "2"), 1),
        (("--silence", "3600"), 0),
        (("--max-lateness", "5"), 1),
        (("--max-overdue", "20"), 1),
        (("--host", "web-1"), 0),
        (("--host", "web-1", "--silence", "2"), 1),
        (("--host", "web-1", "--max-lateness", "5"), 1),
        (("--host", "web-1", "--max-overdue", "20"), 1),
        (("--host", "web-1", "--max-overdue", "40", "--max-lateness", "15"), 0),
    ],
)
def test_the_bounds_are_options(sqlite, health, args, code):
    """A scheduler that beat 10 s ago and was 10 s late; a routine that was due 30 s ago."""
    migrated(sqlite)
    add_scheduler(sqlite, "web-1", ago=10, late=10)
    add_routine(sqlite, "nightly", ago=30)
    result = health(sqlite, *args)

    assert code == result.exit_code, result.output


def test_of_one_scheduler_its_beat_alone_is_judged(sqlite, health):
    """A restart would make what is late, or waits for the broker, later still."""
    migrated(sqlite)
    add_scheduler(sqlite, "web-1", late=3600)
    add_routine(sqlite, "nightly", ago=3600)

    assert 1 == health(sqlite).exit_code
    assert 0 == health(sqlite, "--host", "web-1").exit_code


def test_what_is_overdue_is_a_setting(sqlite, health, app):
    migrated(sqlite)
    add_scheduler(sqlite, "web-1")
    add_routine(sqlite, "nightly", ago=30)
    obj = CLIContext(app(scheduler_db_uri=sqlite, scheduler_overdue_after=20), True, None)

    assert 0 == health(sqlite).exit_code
    assert 1 == CliRunner().invoke(routines, ["health"], obj=obj).exit_code


def test_a_program_is_given_one_json_object(sqlite, health):
    migrated(sqlite)
    add_routine(sqlite, "nightly", ago=75)
    result = health(sqlite, "--json")
    told = json.loads(result.stdout)

    assert (1, False) == (result.exit_code, told["healthy"])
    assert "no scheduler runs" == told["problems"][0]
    assert "nightly" == told["overdue"][0]["name"]


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_leaves_the_exit_code(sqlite, health, quiet):
    migrated(sqlite)
    result = health(sqlite, *(() if quiet else ("--quiet",)), quiet=quiet)

    assert (1, "") == (result.exit_code, result.output)


@pytest.mark.parametrize(
    ("url", "args", "says"),
    [
        (None, (), "scheduler_db_uri is missing"),
        ("postgresql+asyncpg://u:secret@h/d", (), "app.conf.scheduler_db_uri = "),
        ("postgresql+nosuch://u:secret@h/d", (), "the driver of scheduler_db_uri cannot be had"),
        ("sqlite://", ("--here", "--host", "h"), "--here and --host exclude each other"),
        ("sqlite://", ("--silence", "nan"), "nan is no number of seconds"),
        ("sqlite://", ("--silence", "-1"), "--silence"),
        ("sqlite://", ("--max-overdue", "inf"), "--max-overdue"),
        ("sqlite://", ("--max-lateness", "soon"), "--max-lateness"),
        ("sqlite://", ("more",), "more"),
    ],
)
def test_wrong_use_and_wrong_settings_are_2(health, url, args, says):
    result = health(url, *args)

    assert 2 == result.exit_code
    assert says in result.output
    assert "secret" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:secret@127.0.0.1:1/d", "the database cannot be reached: "),
        ("mysql+pymysql://u:secret@127.0.0.1:1/d", "the database cannot be reached: "),
        ("postgresql://u:sec/ret@secret@127.0.0.1:1/d", "the database cannot be reached"),
    ],
)
def test_a_database_that_refuses_is_one_line_without_a_password(health, url, says):
    result = health(url)

    assert 1 == result.exit_code
    assert result.output.startswith(f"unhealthy: {says}")
    assert 1 == result.output.count("\n")
    assert "secret" not in result.output

    assert 0 == health(url, "--tolerate-outage").exit_code
    told = json.loads(health(url, "--tolerate-outage", "--json").stdout)
    assert (True, 1, None) == (told["healthy"], len(told["problems"]), told["now"])


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
def test_a_database_that_says_nothing_is_given_up(health, monkeypatch, scheme):
    monkeypatch.setattr(command, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://u:secret@127.0.0.1:{mute.getsockname()[1]}/d"
        began = time.monotonic()
        result = health(url)

    assert (1, "unhealthy: the database did not answer within 0.3 s\n") == (
        result.exit_code,
        result.output,
    )
    assert time.monotonic() - began < 3


def test_missing_tables_are_no_outage(sqlite, health):
    no_tables(sqlite)
    result = health(sqlite, "--tolerate-outage")

    assert 1 == result.exit_code
    assert "the table routine_schedulers is missing" in result.output


def test_it_needs_no_app_where_the_environment_has_the_database(processes, sqlite):
    migrated(sqlite)
    process = processes.start(
        "health",
        *(sys.executable, "-m", "celery", "routines", "health"),
        env={"SCHEDULER_DB_URI": str(sqlite)},
    )

    assert 1 == process.wait()
    assert "unhealthy: no scheduler runs\n" == process.output()


def test_an_app_may_have_options_of_its_own(processes, celery, sqlite):
    source = SOURCE.format(conf={"scheduler_db_uri": str(sqlite)}) + (
        "from click import Option\n"
        "app.user_options['preload'].add(Option(['--tenant'], default='a'))\n"
    )
    processes.app("proj", source)
    migrated(sqlite)

    assert (1, "unhealthy: no scheduler runs\n") == celery()


def test_celery_lists_the_group(processes):
    process = processes.start("help", sys.executable, "-m", "celery", "routines", "--help")

    assert 0 == process.wait()
    assert "health" in process.output()


def no_tables(url):
    """A database without any: where it is a file, there is one."""
    engine = make_engine(url)
    engine.connect().close()
    engine.dispose()


def migrated(url):
    engine = make_engine(url)
    migrations.migrate(engine)
    engine.dispose()


def add_scheduler(url, host, ago=0, late=0):
    at = f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{ago} seconds')"
    sql(
        url,
        "INSERT INTO routine_schedulers (id, host, pid, started_at, seen_at, names, lateness_seconds) "
        f"VALUES ('{host}', '{host}', 1, {at}, {at}, '[]', {late})",
    )


def add_routine(url, name, ago):
    sql(
        url,
        "INSERT INTO routines (name, task, schedule, next_run_at) VALUES "
        f"('{name}', 't', '60', strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{ago} seconds'))",
    )
