"""What a user meets: real workers and beats, on real databases, obedient to anybody's SQL."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import time
from datetime import timedelta
from importlib.metadata import entry_points

import pytest
import sqlalchemy as sa
from celery import Celery
from servers import free_port, wait_for
from test_migrations import EARLIER, INDEXES

from celery_sqlalchemy_kit import RoutineScheduler, SettingsError, tables
from celery_sqlalchemy_kit.columns import Instant, utcnow
from celery_sqlalchemy_kit.loop import Loop
from celery_sqlalchemy_kit.running import LEAD_SECONDS
from celery_sqlalchemy_kit.store.connections import make_engine

#: Seconds within which a beat has to obey SIGTERM.
STOP_SECONDS = 2
READY = "routines: ready"
#: What is due within it may have been claimed before an edit, and runs all the same.
LEAD = timedelta(seconds=LEAD_SECONDS)
#: A broker for a beat that has no worker: the ledger says what was sent.
NO_WORKER = "memory://"

PREAMBLE = """
import asyncio
from datetime import timedelta
from pathlib import Path

from celery import Celery
from celery.schedules import crontab, schedule
from celery_sqlalchemy_kit import AsyncTask, SyncTask, routine

app = Celery("proj", broker={broker!r}, backend={backend!r})
app.conf.update({conf!r})
"""


class Project:
    """An app of a user's, its processes, and SQL on its database by somebody else."""

    def __init__(self, processes, database, broker, backend=None):
        self.processes = processes
        self.url = database.render_as_string(hide_password=False)
        self.broker = broker
        self.backend = backend
        self.engine = make_engine(database)

    def write(self, source, **conf):
        """Write the app's module."""
        conf = {
            "scheduler_db_uri": self.url,
            "broker_connection_retry_on_startup": True,
            "result_expires": None if self.backend is None else 3600,
        } | conf
        preamble = PREAMBLE.format(broker=self.broker, backend=self.backend, conf=conf)
        self.processes.app("proj", preamble + source)

    def worker(self, *args, env=None):
        return self.processes.worker(args=args, env=env)

    def beat(self, *args, env=None):
        """Start a beat; does not wait until it is ready."""
        return self.processes.beat(args=args, env=env)

    def ready_beat(self, env=None):
        beat = self.beat(env=env)
        beat.expect(READY)
        return beat

    def sql(self, statement, **values):
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def now(self):
        """The present, by the database's clock."""
        return self._select(sa.select(sa.type_coerce(utcnow(), Instant()).label("now")))[0].now

    def row(self, name):
        (row,) = self._select(sa.select(tables.routines).where(tables.routines.c.name == name))
        return row

    def names(self):
        return {row.name for row in self._select(sa.select(tables.routines.c.name))}

    def runs(self, name, *, after=None, **where):
        """The ledger's rows of a routine, in the order of their occurrences."""
        c = tables.runs.c
        query = sa.select(tables.runs).where(c.routine_name == name).order_by(c.scheduled_for)
        for column, value in where.items():
            query = query.where(c[column] == value)
        return self._select(query if after is None else query.where(c.scheduled_for > after))

    def wait_for_run(self, name, timeout=20, count=1, **where):
        """Wait until the ledger has *count* such runs, and return them."""

        def found():
            runs = self.runs(name, **where)
            return runs if len(runs) >= count else None

        return wait_for(found, timeout, what=f"{count} runs of {name} with {where}")

    def schedulers(self):
        return self._select(sa.select(tables.schedulers))

    def run_now(self, name):
        self.sql(f"UPDATE routines SET next_run_at = {self.present} WHERE name = :name", name=name)

    def result(self, run):
        """What Celery's result backend has under the run's id."""
        client = Celery(broker=self.broker, backend=self.backend, set_as_current=False)
        result = client.AsyncResult(str(run.id)).result
        client.backend.client.connection_pool.disconnect()
        client.close()
        return result

    @property
    def present(self):
        """The present in SQL, as the README's recipes have it."""
        return {"postgresql": "now()", "mysql": "utc_timestamp(6)", "sqlite": "datetime('now')"}[
            self.engine.dialect.name
        ]

    def _select(self, query):
        with self.engine.connect().execution_options(reading=True) as connection:
            return connection.execute(query).all()


@pytest.fixture
def project(processes):
    """Makes a project on a database; without a broker it can have beats, but no worker."""
    made = []

    def make(database, broker=NO_WORKER, backend=None):
        made.append(Project(processes, database, broker, backend))
        return made[-1]

    yield make
    for each in made:
        each.engine.dispose()


@pytest.fixture
def served(project, redis_url):
    """Makes a project whose broker and result backend is Redis."""
    return lambda database: project(database, redis_url, redis_url)


def stop(process, timeout=30):
    """SIGTERM, and a clean end; returns the seconds that it took."""
    began = time.monotonic()
    process.terminate()
    assert 0 == process.wait(timeout)
    return time.monotonic() - began


def decoded(value):
    """A JSON column's value; some drivers decode JSON by themselves."""
    return json.loads(value) if isinstance(value, str) else value


def steps(runs):
    """The times between successive occurrences."""
    instants = [run.scheduled_for for run in runs]
    return [later - earlier for earlier, later in itertools.pairwise(instants)]


# --- tasks, declared in every way, run by a worker -----------------------------------------

EVERY_WAY = """
class Report(SyncTask):
    name = "report"
    schedule = 0.5
    args = (1, "two")
    kwargs = {"three": [3]}

    def run(self, *args, **kwargs):
        return [args, kwargs]


class Poll(AsyncTask):
    name = "poll"
    schedule = timedelta(seconds=0.5)

    async def execute(self, *args, **kwargs):
        await asyncio.sleep(0)
        return {"polled": [1, 2.5, None]}


class Registered(SyncTask):
    name = "registered"
    schedule = schedule(0.5)

    def run(self):
        return "registered"


@app.task(base=SyncTask, name="decorated", schedule=0.5)
def decorated():
    return "decorated"


@routine(schedule=0.5, name="tidy")
def tidy():
    return "tidied"


@routine(schedule=0.5, name="fetch", kwargs={"page": 7})
async def fetch(page):
    await asyncio.sleep(0)
    return page


@app.task(bind=True, name="add")
def add(self, x, y=0):
    return [x + y, self.request.delivery_info["routing_key"]]


app.conf.beat_schedule = {
    "listed": {
        "task": "add",
        "schedule": 0.5,
        "args": (2,),
        "kwargs": {"y": 3},
        "options": {"queue": "other", "priority": 3},
    },
}


@app.on_after_finalize.connect
def add_periodic(sender, **kwargs):
    sender.add_periodic_task(0.5, add.s(4, y=5), name="periodic")


app.register_task(Registered())
"""
RESULTS = {
    "report": [[1, "two"], {"three": [3]}],
    "poll": {"polled": [1, 2.5, None]},
    "registered": "registered",
    "decorated": "decorated",
    "tidy": "tidied",
    "fetch": 7,
    "listed": [5, "other"],
    "periodic": [9, "celery"],
}


def test_what_is_declared_in_any_way_runs_and_its_result_is_what_was_returned(served, database):
    project = served(database)
    project.write(EVERY_WAY)
    project.worker("-Q", "celery,other")
    beat = project.ready_beat()

    runs = {name: project.wait_for_run(name, state="succeeded")[0] for name in RESULTS}

    results = {name: project.result(run) for name, run in runs.items()}
    assert RESULTS == results
    assert {1} == {run.attempts for run in runs.values()}
    assert {"code"} == {project.row(name).origin for name in RESULTS}
    assert {"queue": "other", "priority": 3} == decoded(project.row("listed").options)
    stop(beat)


def test_no_server_is_needed_at_all(project, sqlite, tmp_path):
    project = project(
        sqlite, f"sqla+sqlite:///{tmp_path}/broker.db", f"db+sqlite:///{tmp_path}/results.db"
    )
    project.write(POLLING)
    # Two that make the broker's tables at once disturb each other.
    project.worker().expect(" ready.")
    project.ready_beat()

    project.wait_for_run("poll", state="succeeded")


FAILING = """
class Fails(SyncTask):
    name = "fails"
    schedule = 3600

    def run(self):
        note(self)
        raise ValueError("not today")


class FailsAsync(AsyncTask):
    name = "fails_async"
    schedule = 3600

    async def execute(self):
        note(self)
        raise ValueError("not today either")


class Once(SyncTask):
    name = "once"
    schedule = 3600
    max_retries = 0

    def run(self):
        note(self)
        raise ValueError("never again")


def note(task):
    with Path("begun.txt").open("a") as begun:
        begun.write(f"{task.name} {task.request.id}\\n")
"""


def test_a_failing_task_of_either_kind_is_begun_once_and_twice_more_and_is_failed_then(
    served, postgresql, tmp_path
):
    project = served(postgresql)
    project.write(FAILING)
    project.worker(env={"CELERY_RETRY_DELAY": "1", "CELERY_MAX_RETRY": "2"})
    project.ready_beat()
    for name in ("fails", "fails_async", "once"):
        project.run_now(name)

    begun = {"fails": 3, "fails_async": 3, "once": 1}
    ended = {name: project.wait_for_run(name, state="failed") for name in begun}

    assert begun == {name: run.attempts for name, (run,) in ended.items()}
    assert "ValueError: not today either" in ended["fails_async"][0].error
    for (run,) in ended.values():
        retries = (run.finished_at - run.claimed_at) / timedelta(seconds=1)
        assert retries >= run.attempts - 1, "seconds between the retries"
    lines = (tmp_path / "begun.txt").read_text().split("\n")
    assert begun == {name: lines.count(f"{name} {run.id}") for name, (run,) in ended.items()}


COUNTING = """
class Count(SyncTask):
    name = "count"
    schedule = 3600

    def run(self):
        with Path("counted.txt").open("a") as counted:
            counted.write("x")
        return "counted"
"""


def test_a_message_that_is_delivered_twice_runs_once_and_its_result_stays(
    served, postgresql, tmp_path
):
    import redis

    project = served(postgresql)
    project.write(COUNTING)
    project.ready_beat()
    project.run_now("count")
    (run,) = project.wait_for_run("count", state="sent")
    with redis.Redis.from_url(project.broker) as client:
        message = json.loads(client.lindex("celery", 0))
        message["properties"]["delivery_tag"] = "another"
        client.lpush("celery", json.dumps(message))

    worker = project.worker("--concurrency=2")
    worker.expect("dropped, as this run has begun before")

    (run,) = project.wait_for_run("count", state="succeeded")
    assert (1, "x") == (run.attempts, (tmp_path / "counted.txt").read_text())
    assert "counted" == project.result(run)


def test_a_worker_with_an_embedded_beat_does_both(served, sqlite, tmp_path):
    project = served(sqlite)
    project.write(COUNTING)
    worker = project.worker("-B", "-S", "routines")
    worker.expect(READY)
    project.run_now("count")

    project.wait_for_run("count", state="succeeded")

    assert 1 == len(project.schedulers())
    stop(worker)
    assert [] == project.schedulers()
    files = {path.name for path in tmp_path.iterdir()} - {"__pycache__", "counted.txt"}
    assert {"proj.py", "routines.db", "worker-1.log"} == files, "no state and no schedule in files"


def installed():
    return any(
        point.name == "routines" for point in entry_points().select(group="celery.beat_schedulers")
    )


@pytest.mark.skipif(not installed(), reason="the package is imported, but not installed")
def test_beat_knows_the_scheduler_by_its_short_name(project, sqlite):
    project = project(sqlite)
    project.write(POLLING)
    options = ("-S", "routines", "--loglevel=INFO", "--pidfile=")
    beat = project.processes.celery("beat", "beat", *options, app="proj")
    beat.expect(READY)

    project.wait_for_run("poll")

    stop(beat)


# --- the table is obeyed -------------------------------------------------------------------

#: The time between two occurrences of `poll`.
PERIOD = timedelta(seconds=0.1)
POLLING = """
@routine(schedule=0.1, name="poll")
def poll():
    pass


@routine(schedule=0.2, name="other")
def other():
    pass


@routine(schedule=3600, name="rare")
def rare():
    pass
"""


def test_a_running_beat_obeys_active_and_a_changed_schedule(project, database):
    project = project(database)
    project.write(POLLING)
    project.ready_beat()
    project.wait_for_run("poll", count=2)

    project.sql("UPDATE routines SET active = false WHERE name = 'poll'")
    off_at = project.now() + LEAD
    project.wait_for_run("other", after=off_at, count=5)
    assert [] == project.runs("poll", after=off_at)

    on_since = project.now()
    project.sql("UPDATE routines SET active = true WHERE name = 'poll'")
    project.sql(
        "UPDATE routines SET schedule = :often WHERE name = 'rare'", often='{"timedelta": 0.2}'
    )
    project.wait_for_run("poll", after=on_since, count=2)
    project.wait_for_run("rare", count=2)

    paused = [run for run in project.runs("poll", after=off_at) if run.scheduled_for < on_since]
    assert [] == paused, "paused time is not caught up"
    assert [] == project.runs("poll", cause="catch_up")


def test_a_bare_insert_runs_and_a_bad_row_harms_itself_only_until_it_is_repaired(project, database):
    project = project(database)
    project.write(POLLING)
    project.ready_beat()
    insert = "INSERT INTO routines (name, task, schedule) VALUES (:name, :task, :schedule)"
    project.sql(insert, name="bare", task="poll", schedule='{"timedelta": 0.2}')
    project.sql(insert, name="bad", task="poll", schedule='{"minuts": 5}')

    project.wait_for_run("bare", count=2)
    wait_for(lambda: project.row("bad").error, what="an error of the bad row")
    project.wait_for_run("poll", after=project.now(), count=3)

    assert "minuts" in project.row("bad").error
    assert [] == project.runs("bad")
    project.sql(
        "UPDATE routines SET schedule = :right WHERE name = 'bad'", right='{"timedelta": 0.2}'
    )
    project.wait_for_run("bad", count=2)
    assert project.row("bad").error is None


def test_two_beats_send_every_occurrence_once_and_miss_none(served, database):
    import redis

    project = served(database)
    project.write(POLLING)
    beats = [project.beat(), project.beat()]
    for beat in beats:
        beat.expect(READY)
    both = project.now()

    project.wait_for_run("poll", after=both, count=30)
    for beat in beats:
        stop(beat)

    runs = project.runs("poll")
    assert {PERIOD} == set(steps(runs))
    assert {1} == {run.publish_attempts for run in runs}
    with redis.Redis.from_url(project.broker) as client:
        messages = [json.loads(message) for message in client.lrange("celery", 0, -1)]
    sent = [each["headers"]["id"] for each in messages if each["headers"]["task"] == "poll"]
    assert len(sent) == len(set(sent))
    assert {str(run.id) for run in runs if run.state == "sent"} <= set(sent)


# --- started, stopped, killed --------------------------------------------------------------

MANY = """
def rest():
    pass


for number in range(250):
    routine(schedule=3600, name=f"r{number}")(rest)
"""


def test_restarts_keep_the_table_and_remove_only_what_left_the_code(project, postgresql):
    project = project(postgresql)
    project.write(POLLING + MANY + COUNTING)
    stop(project.ready_beat())
    declared = {"poll", "other", "rare", "count", *(f"r{number}" for number in range(250))}
    assert declared == project.names()
    project.sql(
        "UPDATE routines SET schedule = :theirs, active = false WHERE name = 'r1'",
        theirs='{"timedelta": 7}',
    )
    project.sql(
        "INSERT INTO routines (name, task, schedule, origin)"
        " VALUES ('theirs', 'no.such.task', :schedule, 'db')",
        schedule='{"timedelta": 3600}',
    )

    project.write(POLLING + MANY)
    for _ in range(2):
        stop(project.ready_beat())

        assert declared - {"count"} | {"theirs"} == project.names()
        edited = project.row("r1")
        assert ({"timedelta": 7}, False) == (decoded(edited.schedule), edited.active)


def test_sigterm_is_obeyed_at_once_and_nothing_is_left_of_the_scheduler(project, database):
    project = project(database)
    project.write(POLLING)
    beat = project.ready_beat()
    project.wait_for_run("poll", count=3)
    (me,) = project.schedulers()
    assert beat.pid == me.pid

    assert stop(beat) < STOP_SECONDS

    assert [] == project.schedulers()


def test_sigterm_is_obeyed_at_once_while_somebody_has_locked_an_sqlite_file(project, sqlite):
    project = project(sqlite)
    project.write(POLLING)
    beat = project.ready_beat()
    project.wait_for_run("poll")
    with contextlib.closing(sqlite3.connect(sqlite.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        locked_at = project.now()
        wait_for(lambda: project.now() > locked_at + 5 * PERIOD, what="time for five runs")

        assert stop(beat, timeout=2 * STOP_SECONDS) < STOP_SECONDS


def test_a_stop_is_told_as_soon_as_a_lock_allows_it(project, sqlite):
    project = project(sqlite)
    project.write(POLLING)
    beat = project.ready_beat()
    project.wait_for_run("poll")
    with contextlib.closing(sqlite3.connect(sqlite.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        beat.terminate()
        time.sleep(0.6)  # longer than a statement waits for a lock
        other.execute("ROLLBACK")

    assert 0 == beat.wait()
    assert [] == project.schedulers()


def test_another_beat_goes_on_where_a_killed_one_was(project, database):
    project = project(database)
    project.write(POLLING)
    env = {"SCHEDULER_RESCUE_AFTER": "1"}
    first = project.ready_beat(env)
    project.wait_for_run("poll", count=3)

    first.kill()
    killed_at = project.now()
    project.ready_beat(env)
    after = project.wait_for_run("poll", after=killed_at, count=5)

    assert {PERIOD} == set(steps(project.runs("poll"))), "none missed, none twice"
    until = after[-1].scheduled_for
    wait_for(
        lambda: (
            {"sent"} == {run.state for run in project.runs("poll") if run.scheduled_for <= until}
        ),
        what="the sending of what the killed one had claimed",
    )


def test_the_earlier_packages_table_is_upgraded_by_a_starting_beat_and_runs(served, database):
    project = served(database)
    dialect = project.engine.dialect.name
    project.sql(EARLIER[dialect])
    for statement in INDEXES:
        project.sql(statement)
    project.sql(
        "INSERT INTO routines (id, name, task, schedule, last_run_at, total_run_count, active,"
        " kwargs, options) VALUES (:id, 'report', 'report', :schedule, '2025-07-01 12:30:15',"
        " 12, :active, :kwargs, NULL)",
        id="0123456789abcdef0123456789abcdef",
        schedule='{"timedelta": 0.5}',
        active=True,
        kwargs='{"a": 1}',
    )
    project.write("@routine(schedule=3600, name='report')\ndef report(a):\n    return a\n")
    project.worker()

    beat = project.ready_beat()
    (run, *_) = project.wait_for_run("report", state="succeeded")

    assert "upgraded the table routines" in beat.output()
    report = project.row("report")
    assert "0123456789abcdef0123456789abcdef" == report.id.hex == run.routine_id.hex
    assert (True, "code", True) == (report.active, report.origin, report.total_run_count > 12)
    assert ({"timedelta": 0.5}, {"a": 1}) == (decoded(report.schedule), decoded(run.kwargs))


# --- settings ------------------------------------------------------------------------------


def test_a_beat_names_all_of_its_wrong_settings_and_ends(processes):
    processes.app("proj", "from celery import Celery\napp = Celery('proj', broker='memory://')\n")
    wrong = {"SCHEDULER_MAX_INTERVAL": "soon", "SCHEDULER_BATCH_SIZE": "0"}
    missing = processes.beat()
    beat = processes.beat(env=wrong | {"SCHEDULER_DB_URI": "sqlite:///routines.db"})

    assert 0 != beat.wait()
    assert 0 != missing.wait()

    assert "SCHEDULER_MAX_INTERVAL = 'soon': allowed is seconds from" in beat.output()
    assert "SCHEDULER_BATCH_SIZE = '0': allowed is a whole number from 1" in beat.output()
    assert "scheduler_db_uri is missing: set app.conf.scheduler_db_uri or" in missing.output()
    assert "SCHEDULER_DB_URI" in missing.output()


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"task_always_eager": True}, "task_always_eager = True"),
        ({"broker_url": "sqla+sqlite:////srv/one.db"}, "share the SQLite file /srv/one.db"),
        ({"broker_url": "sqla+sqlite:////srv/../srv/one.db?timeout=1"}, "share the SQLite file"),
    ],
)
def test_a_setting_of_celerys_with_which_nothing_can_work_is_refused(conf, said):
    app = Celery(broker=conf.pop("broker_url", "memory://"), set_as_current=False)
    app.conf.update(scheduler_db_uri="sqlite:////srv/one.db", **conf)

    with pytest.raises(SettingsError, match=said):
        RoutineScheduler(app, lazy=True)


def test_a_password_appears_nowhere_whatever_cannot_be_reached(project, postgresql, sqlite):
    secret = postgresql.password or "hunter2"
    nowhere = f"user:{secret}@127.0.0.1:{free_port()}"
    reachable = postgresql.set(password=secret).render_as_string(hide_password=False)
    cases = [
        (READY, reachable, NO_WORKER),
        ("the database cannot be reached", f"postgresql://{nowhere}/x", NO_WORKER),
        ("the database cannot be reached", f"mysql+pymysql://{nowhere}/x", NO_WORKER),
        ("SCHEDULER_DB_URI = ", f"nonsense://{nowhere}/x", NO_WORKER),
        ("SCHEDULER_DB_URI = ", f"postgresql:/{nowhere}:x", NO_WORKER),
        ("the broker redis://user:**@", str(sqlite), f"redis://{nowhere}/0"),
    ]
    project = project(sqlite)
    project.write(POLLING, scheduler_db_uri=None)

    beats = [
        project.beat("-lDEBUG", env={"SCHEDULER_DB_URI": url, "CELERY_BROKER_URL": broker})
        for _, url, broker in cases
    ]

    for beat, (said, *_) in zip(beats, cases, strict=True):
        beat.expect(said)
        if said.startswith("SCHEDULER_DB_URI"):
            assert 0 != beat.wait()
        else:
            assert stop(beat) < STOP_SECONDS
        assert secret not in beat.output()


def test_a_start_that_fails_once_leaves_a_scheduler_that_hears(postgresql, redis_url, monkeypatch):
    monkeypatch.setattr("celery_sqlalchemy_kit.scheduler._obey_sigterm", lambda: None)
    app = Celery("once", broker=redis_url)
    app.conf.scheduler_db_uri = postgresql
    begin, lost = Loop.begin, sa.exc.TimeoutError("a race that was lost")
    outcomes = iter([lost])

    def begin_or_lose(loop):
        for error in outcomes:
            raise error
        begin(loop)

    monkeypatch.setattr(Loop, "begin", begin_or_lose)
    scheduler = RoutineScheduler(app, max_interval=0.01)
    scheduler.tick()
    scheduler.tick()
    wakeups = scheduler._running.storage.wakeups
    wakeups.wait(0)
    with sa.create_engine(postgresql, future=True).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO routines (name, task, schedule) VALUES ('a', 'a', :schedule)"),
            {"schedule": '{"timedelta": 60}'},
        )

    began = time.monotonic()
    wakeups.wait(20)

    assert time.monotonic() - began < 10
    assert scheduler._running is scheduler._made
