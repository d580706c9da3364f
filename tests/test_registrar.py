"""What the code declares, from every place that it may stand in, and what the log says of it."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import BaseSchedule, crontab, schedule

from celery_sqlalchemy_kit import (
    AsyncTask,
    DeclarationError,
    SyncTask,
    migrations,
    registrar,
    routine,
    schedules,
)
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.registrar import CLEANUP, declared
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.storage.values import Presence
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.store import Store
from celery_sqlalchemy_kit.tables import routines
from celery_sqlalchemy_kit.testing import ManualBeat

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests")


@pytest.fixture
def make_app():
    """Makes apps whose result backend expires by itself, unless told otherwise."""
    made = []

    def make(backend="cache+memory://", **conf):
        app = Celery(broker="memory://", backend=backend, set_as_current=False)
        app.conf.update(conf)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(make_app):
    return make_app()


def code(name, task=None, every=15, **fields):
    return Declared(name, task or name, schedules.parse(every), **fields)


def found(app):
    return {each.name: each for each in declared(app, "UTC")}


def test_a_routine_may_be_declared_in_any_of_six_ways(app):
    class Report(SyncTask):
        name = "report"
        schedule = {"minute": 0, "hour": 9}
        args = (1, "two")
        kwargs = {"three": [3]}
        options = {"queue": "slow"}

        def run(self, *args, **kwargs):
            pass

    class Poll(AsyncTask):
        name = "poll"
        schedule = timedelta(seconds=15)

        async def execute(self):
            pass

    @app.task(base=SyncTask, name="decorated", schedule=schedule(15))
    def decorated():
        pass

    @routine(schedule=15, name="tidy", kwargs={"deep": True}, options={"expires": 5})
    def tidy(deep):
        pass

    @app.task(name="add")
    def add(x, y):
        pass

    app.conf.beat_schedule = {
        "listed": {
            "task": "elsewhere",
            "schedule": 15.0,
            "args": (1,),
            "kwargs": {"a": None},
            "options": {"queue": "slow", "priority": 3},
        },
        "as entry": ScheduleEntry("as entry", "add", schedule=15, args=(1, 2), app=app),
    }
    app.add_periodic_task(15, add.s(4, y=5), name="periodic", queue="slow")

    nine = {"minute": 0, "hour": 9}
    kwargs = {"three": [3]}
    expected = [
        code("report", every=nine, args=(1, "two"), kwargs=kwargs, options={"queue": "slow"}),
        code("poll"),
        code("decorated"),
        code("tidy", kwargs={"deep": True}, options={"expires": 5}),
        code(
            "listed",
            "elsewhere",
            args=(1,),
            kwargs={"a": None},
            options={"queue": "slow", "priority": 3},
        ),
        code("as entry", "add", args=(1, 2)),
        code("periodic", "add", args=(4,), kwargs={"y": 5}, options={"queue": "slow"}),
    ]
    assert {each.name: each for each in expected} == found(app)


def test_a_task_without_a_schedule_is_no_routine(app):
    class Plain(SyncTask):
        name = "plain"

        def run(self):
            pass

    assert "plain" in app.tasks
    assert {} == found(app)


def test_a_crontab_follows_the_zone_of_the_app(app):
    app.conf.beat_schedule = {"nine": {"task": "report", "schedule": crontab("0", "9")}}

    (nine,) = declared(app, "Europe/Berlin")

    assert schedules.parse({"minute": 0, "hour": 9}, timezone="Europe/Berlin") == nine.schedule


def test_an_entry_of_beat_schedule_wins_over_a_task_of_its_name_and_the_log_says_so(app, caplog):
    @routine(schedule=15, name="poll")
    def poll():
        pass

    app.conf.beat_schedule = {"poll": {"task": "poll", "schedule": 30}}

    assert {"poll": code("poll", every=30)} == found(app)
    assert "'poll' is declared twice, for 'poll' and for 'poll': the last is taken" in caplog.text


class Tides(BaseSchedule):
    """A kind of schedule that no table can hold."""


class NoJson:
    def __repr__(self):
        return "<no JSON>"


FAULTS = [
    ({"task": "t"}, ["schedule"]),
    ({"task": "t", "schedule": {"minuts": 5}}, ["minuts"]),
    ({"task": "t", "schedule": 0}, ["0"]),
    ({"task": "t", "schedule": Tides()}, ["Tides"]),
    ({"schedule": 5}, ["task = None: allowed are 1 to 255 characters"]),
    ({"task": "t" * 256, "schedule": 5}, ["allowed are 1 to 255 characters"]),
    ({"task": "t", "schedule": 5, "args": [NoJson()]}, ["args = [<no JSON>] is no JSON"]),
    ({"task": "t", "schedule": 5, "args": [float("nan")]}, ["args = [nan] is no JSON"]),
    ({"task": "t", "schedule": 5, "args": "two"}, ["args = 'two': allowed is a list or a tuple"]),
    ({"task": "t", "schedule": 5, "kwargs": {"a": NoJson()}}, ["kwargs", "is no JSON"]),
    ({"task": "t", "schedule": 5, "kwargs": [1]}, ["kwargs = [1]: allowed is a dict"]),
    ({"task": "t", "schedule": 5, "options": {"queue": NoJson()}}, ["options", "is no JSON"]),
    ({"task": "t", "schedule": 5, "options": {"task_id": "x"}}, ["options: task_id cannot be set"]),
    ({"task": "t", "schedule": 5, "options": 5}, ["options = 5: allowed is a dict"]),
    ("t", ["task = None"]),
]


@pytest.mark.parametrize(("entry", "said"), FAULTS)
def test_a_declaration_that_cannot_be_stored_is_named_with_its_fault(app, entry, said):
    app.conf.beat_schedule = {"bad": entry, "good": {"task": "t", "schedule": 5}}

    with pytest.raises(DeclarationError, match="cannot be stored as routines: 'bad': ") as raised:
        declared(app, "UTC")

    for each in said:
        assert each in str(raised.value)
    assert "good" not in str(raised.value)


def test_all_declarations_at_fault_are_named_at_once(app):
    app.conf.beat_schedule = {
        f"bad {number}": {"task": "t", "schedule": {"minuts": number}} for number in range(3)
    } | {"n" * 256: {"task": "t", "schedule": 5}}

    with pytest.raises(DeclarationError) as raised:
        declared(app, "UTC")

    for number in range(3):
        assert f"'bad {number}': " in str(raised.value)
    assert "name = 'nnn" in str(raised.value)


@pytest.mark.parametrize(
    ("backend", "conf", "needed"),
    [
        ("file:///nowhere", {}, True),
        ("db+sqlite://", {}, True),
        (None, {}, True),
        ("db+sqlite://", {"result_expires": None}, False),
        ("redis://127.0.0.1", {}, False),
        ("cache+memory://", {}, False),
    ],
)
def test_celerys_own_cleanup_is_a_routine_where_results_do_not_expire_by_themselves(
    make_app, tmp_path, backend, conf, needed
):
    backend = backend and backend.replace("/nowhere", str(tmp_path))
    app = make_app(backend, **conf)

    expected = code(CLEANUP, every=crontab("0", "4"), options={"expires": 12 * 3600}, builtin=True)
    assert ({CLEANUP: expected} if needed else {}) == found(app)


def test_a_cleanup_of_ones_own_takes_the_place_of_celerys(make_app):
    app = make_app("db+sqlite://", beat_schedule={CLEANUP: {"task": CLEANUP, "schedule": 60}})

    assert {CLEANUP: code(CLEANUP, every=60)} == found(app)


@pytest.fixture
def register(make_app, sqlite, caplog):
    """Reconciles what *declared* says with one table; returns the plan and what was logged."""
    caplog.set_level(logging.INFO, registrar.__name__)
    engine = make_engine(sqlite)
    migrations.migrate(engine)

    def reconcile(listed, before=None, **settings):
        entries = {
            each.name: {
                "task": each.task,
                "schedule": each.schedule.to_json()["timedelta"],
                "args": each.args,
            }
            for each in listed
        }
        caplog.clear()
        # Every start is another scheduler's, and the one before has stopped.
        store = Store(engine, Presence(uuid4(), "", "host", 1))
        plan = registrar.register(
            make_app(beat_schedule=entries),
            store,
            Settings.load({"scheduler_db_uri": sqlite, **settings}, {}, scheduler=True),
            "UTC",
            before,
        )
        store.leave()
        return plan, [(each.levelname, each.getMessage()) for each in caplog.records]

    reconcile.engine = engine
    yield reconcile
    engine.dispose()


def execute(register, statement, **values):
    with register.engine.begin() as connection:
        return connection.execute(sa.text(statement), values)


def names(register):
    with register.engine.connect().execution_options(reading=True) as connection:
        return set(connection.execute(sa.select(routines.c.name)).scalars())


def test_the_log_says_what_was_inserted_and_nothing_when_nothing_changes(register):
    _, said = register([code("poll"), code("tidy")])
    assert [("INFO", "routines: inserted poll"), ("INFO", "routines: inserted tidy")] == said

    plan, said = register([code("poll"), code("tidy")])
    assert [] == said
    assert () == plan.insert == plan.held
    assert {"poll", "tidy"} == names(register)


def test_what_was_removed_is_said_and_what_comes_back_is_said_to_be_as_it_was(register):
    register([code("poll"), code("tidy")])

    _, said = register([code("tidy")])
    assert [("INFO", "routines: removed, no longer declared: poll")] == said

    _, said = register([code("poll"), code("tidy")])
    assert [("WARNING", "routines: restored, as it was when removed poll")] == said


def test_what_differs_is_said_and_stays_as_the_database_has_it(register):
    register([code("poll")])
    execute(register, "UPDATE routines SET schedule = '{\"timedelta\": 30}'")

    _, ((level, said),) = register([code("poll")])

    assert "INFO" == level
    assert "differs, and the database's is obeyed: poll: schedule is " in said
    assert '{"timedelta": 15' in said
    assert '{"timedelta": 30' in said


def test_what_was_said_the_last_time_is_not_said_again_and_what_is_new_is(register):
    register([code("poll"), code("tidy")])
    execute(register, "UPDATE routines SET schedule = '{\"timedelta\": 30}' WHERE name = 'poll'")
    before, _ = register([code("poll"), code("tidy")])

    again, said = register([code("poll"), code("tidy")], before)
    assert [] == said

    execute(register, "UPDATE routines SET schedule = '{\"timedelta\": 60}' WHERE name = 'tidy'")
    _, ((_, said),) = register([code("poll"), code("tidy")], again)
    assert "tidy" in said


def test_a_task_that_moved_in_the_code_is_followed_and_said(register):
    register([code("poll", "old.poll")])

    _, said = register([code("poll", "new.poll")])

    assert [("WARNING", "routines: task follows the code: poll from old.poll to new.poll")] == said


def test_a_leftover_by_sql_is_removed_with_a_warning_that_says_how_to_keep_one(register):
    register([code("poll")])
    insert = "INSERT INTO routines (name, task, schedule, origin) VALUES (:n, :t, '{}', :o)"
    execute(register, insert, n="leftover", t="no.such.task", o=None)
    execute(register, insert, n="theirs", t="no.such.task", o="db")

    _, ((level, said),) = register([code("poll")])

    assert "WARNING" == level
    assert "origin = 'db'" in said
    assert said.endswith(": leftover")
    assert {"poll", "theirs"} == names(register)


def test_code_that_declares_nothing_removes_nothing_and_the_log_says_why(register):
    register([code("poll"), code("tidy")])

    _, ((level, said),) = register([])

    assert "WARNING" == level
    assert "nothing is removed (2 routines would be)" in said
    assert {"poll", "tidy"} == names(register)


def test_what_is_no_longer_declared_may_be_switched_off_instead(register):
    register([code("poll"), code("tidy")])

    _, said = register([code("tidy")], scheduler_removed_routines="deactivate")

    assert [("INFO", "routines: deactivated, no longer declared: poll")] == said
    assert {"poll", "tidy"} == names(register)


def test_what_nobody_edited_follows_the_code_where_that_is_wished(register):
    register([code("poll", every=15)])

    _, said = register([code("poll", every=30)], scheduler_code_changes="merge")

    assert [("INFO", "routines: follows the code: poll")] == said


def test_what_is_in_the_table_as_it_is_in_the_code_takes_few_statements(sqlite, clock, monkeypatch):
    """As many for a thousand and a half as for one; and none of their schedules is read."""
    asked = []
    for number in (1, 1500):
        beat = ManualBeat(sqlite, clock, [code(f"{number} {n}") for n in range(number)])
        beat.start()
        statements = []
        sa.event.listen(
            beat.engine, "before_cursor_execute", lambda *args, to=statements: to.append(args[2])
        )
        with monkeypatch.context() as patched:
            patched.setattr(schedules, "from_json", None)
            beat.loop.begin()
        asked.append(len(statements))
        beat.stop()

    assert asked[0] == asked[1] < 15


def test_a_long_list_is_cut_short_in_the_log_and_not_in_the_table(register):
    many = [code(f"r{number}") for number in range(250)]

    _, said = register(many)

    assert 21 == len(said)
    assert ("INFO", "routines: inserted … and 230 more") == said[-1]
    assert {each.name for each in many} == names(register)


def test_of_an_unchanged_start_the_routines_are_read_in_two_statements(register):
    many = [code(f"poll {number}") for number in range(1200)]
    register(many)
    read = []

    def note(connection, cursor, statement, *_):
        if statement.startswith("SELECT") and "FROM routines" in statement:
            read.append(statement)

    sa.event.listen(register.engine, "before_cursor_execute", note)
    plan, _ = register(many)

    assert 2 == len(read), "those of the code, and those that came by bare SQL"
    assert ((), ()) == (plan.insert, plan.drift)
