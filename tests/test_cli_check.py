"""``celery routines check``, ``migrate`` and ``prune``: the database and what is around it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
from commands import Commands

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.cli import check as command
from celery_sqlalchemy_kit.cli import findings
from celery_sqlalchemy_kit.migrations import hashes
from celery_sqlalchemy_kit.store import checkup, pruning
from celery_sqlalchemy_kit.store.checkup import Rows, Tables
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import runs
from celery_sqlalchemy_kit.wakeups import Polling

UTC = timezone.utc


@pytest.fixture(autouse=True)
def _no_database_in_the_environment(monkeypatch):
    monkeypatch.delenv("SCHEDULER_DB_URI", raising=False)


@pytest.fixture
def cli(sqlite):
    return Commands(sqlite).migrated()


@pytest.fixture
def execute():
    """Executes statements on the database of these commands."""

    def run(cli, *statements):
        engine = make_engine(cli.url)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()

    return run


def found(cli, about, code=0, level=None):
    """What `check` says of something, each as its level and its words."""
    told = cli.json("check", code=code)["findings"]
    return [(each["level"], each["words"]) for each in told if each["about"] == about]


HOW = {"postgresql": "NOTIFY", "sqlite": "data_version, every 50 ms", "mysql": "a look every 1 s"}


def test_a_database_in_good_order_has_a_line_for_each_thing(database):
    cli = Commands(database).migrated()
    cli.routines.create("report", "t", 60)
    told = cli("check").splitlines()

    assert "ok       settings: all are right" == told[0]
    assert told[1].startswith("ok       database: ")
    assert "***" in told[1] or "password" not in str(database)
    assert [
        f"ok       changes: heard of by {HOW[database.get_backend_name()]}",
        "ok       tables: of version 1",
        "ok       triggers: in force",
        "ok       routines: none that is active has an error",
        "ok       tasks: this app knows all that active routines name",
        "ok       broker: memory://localhost//",
    ] == [line.replace(":**@", "") for line in told[3:]]
    assert told[2].startswith("ok       clock: the database's is 0.")
    told = cli.json("check")
    assert (True, 9, {"ok"}) == (
        *(told["ok"], len(told["findings"])),
        {each["level"] for each in told["findings"]},
    )


def test_tables_in_a_schema_are_made_checked_and_changed_there(postgresql):
    cli = Commands(postgresql, scheduler_db_schema="jobs")
    assert "created the tables\n" == cli("migrate")
    cli("add", "report", "t", "60")

    assert {"ok"} == {each["level"] for each in cli.json("check")["findings"]}
    assert "warning" == found(Commands(postgresql), "tables")[0][0]


def test_every_wrong_setting_is_a_line_and_fails(sqlite):
    cli = Commands(sqlite, scheduler_batch_size="many", scheduler_code_changes="both")
    told = cli("check", code=1).splitlines()

    assert told[0].startswith(
        "error    settings: app.conf.scheduler_batch_size = 'many': allowed is"
    )
    assert told[1].startswith(
        "error    settings: app.conf.scheduler_code_changes = 'both': allowed"
    )
    assert "warning  database: not looked at while settings are wrong" == told[2]
    assert told[3].startswith("ok       broker: ")


def test_settings_with_which_no_scheduler_starts_are_errors(sqlite):
    cli = Commands(sqlite, task_always_eager=True).migrated()
    ((level, words),) = found(cli, "settings", code=1)

    assert ("error", True) == (level, words.startswith("app.conf.task_always_eager = True"))
    assert "scheduler_db_uri is missing" in found(Commands(None), "settings", code=1)[0][1]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/d",
        "mysql+pymysql://u:secret@127.0.0.1:1/d",
        "postgresql://u:sec/ret@secret@127.0.0.1:1/d",
        "postgresql+nosuch://u:secret@h/d",
        "sqlite:////no/such/directory/secret.db",
    ],
)
def test_a_database_that_cannot_be_had_is_one_error_without_a_password(url):
    cli = Commands(url)
    ((level, words),) = found(cli, "database", code=1)

    assert ("error", True) == (level, "does not answer as it should" in words)
    assert "secret" not in words.replace("secret.db", "")
    assert [] == found(cli, "tables", code=1)
    told = cli.refused("enable", "x", code=3)
    assert "secret" not in told.replace("secret.db", "")


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    file = tmp_path / "none.db"
    found(Commands(f"sqlite:///{file}"), "database", code=1)

    assert not file.exists()


@pytest.mark.parametrize(
    ("create_table", "level", "code"), [(True, "warning", 0), (False, "error", 1)]
)
def test_missing_tables_are_an_error_if_no_scheduler_makes_them(
    sqlite, execute, create_table, level, code
):
    cli = Commands(sqlite, create_table=create_table)
    execute(cli, "CREATE TABLE others (id int)")

    ((told, words),) = found(cli, "tables", code=code)
    assert (level, True) == (told, words.startswith("the table removed_routines is missing"))
    assert [] == found(cli, "tasks", code=code)


def test_tables_that_are_newer_than_the_code_are_an_error(cli, execute):
    execute(cli, "UPDATE routine_schema SET version = 9")
    ((level, words),) = found(cli, "tables", code=1)

    assert ("error", True) == (level, words.startswith("of version 9, and this code knows 1"))


def test_tables_of_migrations_of_ones_own_are_right_as_well(cli, execute):
    execute(cli, "DROP TABLE routine_schema")

    assert [("ok", "made by migrations of your own")] == found(cli, "tables")


DROPPED = {"postgresql": "DROP TRIGGER routines_edited ON routines"}


def test_a_missing_trigger_is_a_warning(database, execute):
    cli = Commands(database).migrated()
    execute(cli, DROPPED.get(database.get_backend_name(), "DROP TRIGGER routines_edited"))
    ((level, words),) = found(cli, "triggers")

    assert "warning" == level
    assert words.startswith("missing, or not to be seen: routines_edited; an edit")


def test_a_trigger_that_is_switched_off_is_missing(postgresql, execute):
    cli = Commands(postgresql).migrated()
    execute(cli, "ALTER TABLE routines DISABLE TRIGGER routines_wake")

    assert "routines_wake" in found(cli, "triggers")[0][1]


def test_columns_that_stand_in_for_triggers_are_told(mariadb, execute):
    cli = Commands(mariadb).migrated()
    engine = make_engine(mariadb)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER routines_edited")
        hashes.create(connection)
    engine.dispose()

    assert [
        ("ok", "the columns planned_hash and edited stand in: edits are seen within a second")
    ] == (found(cli, "triggers"))


def test_without_notify_changes_are_polled_for(postgresql):
    cli = Commands(postgresql, scheduler_notify=False).migrated()

    assert [("ok", "heard of by a look every 1 s")] == found(cli, "changes")


def test_notifications_that_do_not_come_through_are_a_warning(postgresql, monkeypatch):
    """As with a pooler that gives each transaction another connection."""
    monkeypatch.setattr(command, "HEARD_SECONDS", 0.6)
    monkeypatch.setattr(command, "wake", lambda connection: None)
    ((level, words),) = found(Commands(postgresql).migrated(), "changes")

    assert ("warning", True) == (level, "set scheduler_notify to false" in words)


def test_routines_with_an_error_fail(cli, execute):
    for number in range(12):
        cli.routines.create(f"r{number:02}", "t", 60)
    cli.routines.create("off", "t", 60, active=False)
    execute(cli, "UPDATE routines SET error = 'out of order'")

    told = found(cli, "routines", code=1)
    assert ("error", "'r00': out of order") == told[0]
    assert (11, "… and 2 more with an error") == (len(told), told[-1][1])


def test_tasks_that_the_app_does_not_know_are_a_warning(cli):
    cli.routines.create("a", "nosuch", 60)
    cli.routines.create("b", "nosuch", 60)
    cli.routines.create("c", "other", 60)
    cli.routines.create("off", "never", 60, active=False)

    assert [
        ("warning", "2 active routines name 'nosuch', which this app does not know"),
        ("warning", "1 active routine names 'other', which this app does not know"),
    ] == found(cli, "tasks")


def test_routines_that_another_store_keeps_are_not_looked_at():
    cli = Commands(None, scheduler_store="shop.stores:make")

    assert [("warning", "not looked at: scheduler_store keeps routines elsewhere")] == found(
        cli, "database"
    )


def test_another_namespace_is_not_looked_at(cli, execute):
    cli.routines.create("a", "nosuch", 60)
    execute(cli, "UPDATE routines SET error = 'out of order'")
    other = Commands(cli.url, scheduler_namespace="other")

    assert ["ok", "ok"] == [found(other, about)[0][0] for about in ("routines", "tasks")]


def test_code_that_cannot_be_imported_fails(cli):
    cli.app.conf.imports = ["no_such_module_there"]
    ((level, words),) = found(cli, "code", code=1)

    assert ("error", True) == (level, words.startswith("cannot be imported: ModuleNotFoundError"))


def test_a_broker_that_cannot_be_reached_fails_without_a_password(cli):
    cli.app.conf.broker_url = "redis://u:secret@127.0.0.1:1/0"
    ((level, words),) = found(cli, "broker", code=1)

    assert ("error", True) == (level, words.startswith("redis://u:**@127.0.0.1:1/0 cannot be"))
    assert "secret" not in words


def test_a_broker_that_is_not_known_fails(cli):
    cli.app.conf.broker_url = "carrier+pigeon://h"

    assert "error" == found(cli, "broker", code=1)[0][0]


def test_clocks_are_compared_and_differ_by_a_second_at_most(database):
    cli = Commands(database).migrated()
    engine = make_engine(database)
    ahead = checkup.offset(engine, lambda: datetime.now(UTC) - timedelta(seconds=90))
    engine.dispose()

    assert timedelta(seconds=89) < ahead < timedelta(seconds=91)
    assert ("ok", "warning", "warning") == tuple(
        findings.of_offset(timedelta(seconds=seconds)).level.value for seconds in (-0.9, 1.1, -90)
    )
    assert (
        "the database's is 90.000 s behind ours" == findings.of_offset(timedelta(seconds=-90)).words
    )
    assert "ok" == found(cli, "clock")[0][0]


def test_a_long_list_is_cut():
    many = Rows({f"t{number:02}": 1 for number in range(15)}, {})
    told = findings.of_tasks(many, ())

    assert (11, "… and 5 more that are not known") == (len(told), told[-1].words)
    assert findings.Level.WARNING is findings.worst(told)


def test_tables_that_are_older_are_upgraded_by_a_start():
    older = Tables(version=0)

    assert "warning" == findings.of_tables(older, create_table=True)[0].level.value
    assert "error" == findings.of_tables(older, create_table=False)[0].level.value
    assert "a look" in findings.of_hearing(Polling(), heard=None).words


def test_tables_are_made_once(database):
    cli = Commands(database, create_table=False)
    if database.get_backend_name() != "sqlite":
        assert "does not answer as it should" in cli.refused("enable", "x", code=3)

    assert "created the tables\n" == cli("migrate")
    assert "nothing to do: the tables are of version 1\n" == cli("migrate")
    assert "there is no routine 'x'" in cli.refused("enable", "x")


def test_tables_that_are_not_the_kits_are_left_alone(sqlite, execute):
    cli = Commands(sqlite)
    execute(cli, "CREATE TABLE routines (id int)")

    assert "Error: " in cli.refused("migrate")


def test_the_sql_is_printed_without_a_database():
    for dialect in ("postgresql", "mysql", "mariadb", "sqlite"):
        assert f"{migrations.sql(dialect)}" == Commands(None)(
            "migrate", "--sql", "--dialect", dialect
        )
    told = Commands("postgresql://u@h/d", scheduler_db_schema="jobs")("migrate", "--sql")
    assert migrations.sql("postgresql", schema="jobs") == told
    assert "scheduler_db_uri is missing" in Commands(None).refused("migrate", "--sql", code=2)
    assert "--dialect is that of --sql" in Commands(None).refused(
        "migrate", "--dialect", "mysql", code=2
    )
    assert "--dialect" in Commands(None).refused("migrate", "--sql", "--dialect", "oracle", code=2)


def add_runs(cli, number, *, ago, routine=None, state="succeeded"):
    """Runs that ended some time ago, one occurrence a second."""
    at = datetime.now(UTC) - ago
    about = {
        "routine_id": routine or uuid4(),
        "routine_name": "r",
        "task": "t",
        "cause": "schedule",
    }
    about |= {"state": state, "finished_at": at, "claimed_at": at}
    rows = [
        {"id": uuid4(), "scheduled_for": at + timedelta(seconds=n), **about} for n in range(number)
    ]
    engine = make_engine(cli.url)
    with engine.begin() as connection:
        connection.execute(runs.insert(), rows)
    engine.dispose()


def left(cli):
    return len(cli.routines.history(limit=None))


DAY = timedelta(days=1)


def test_what_has_ended_before_goes_in_batches(database, monkeypatch):
    monkeypatch.setattr(pruning, "BATCH", 10)
    cli = Commands(database).migrated()
    add_runs(cli, 25, ago=3 * DAY)
    add_runs(cli, 4, ago=3 * DAY, state="running")
    add_runs(cli, 2, ago=1 * DAY)

    assert "pruned 25 runs\n" == cli("prune", "--before", "2d")
    assert "pruned 0 runs\n" == cli("prune", "--before", "2d")
    assert 6 == left(cli)


def test_of_each_routine_the_newest_are_kept(database):
    cli = Commands(database).migrated()
    one, other = uuid4(), uuid4()
    add_runs(cli, 12, ago=DAY, routine=one)
    add_runs(cli, 3, ago=DAY, routine=other)
    add_runs(cli, 3, ago=DAY, routine=one, state="running")

    assert {"pruned": {"runs": 7}} == cli.json("prune", "--keep", "5")
    assert 8 + 3 == left(cli)
    newest = max(run.scheduled_for for run in cli.routines.history(limit=None))
    assert {"pruned": {"runs": 6}} == cli.json("prune", "--keep", "1")
    assert newest in [run.scheduled_for for run in cli.routines.history(limit=None)]


def test_without_options_it_goes_by_the_settings(sqlite):
    cli = Commands(sqlite, scheduler_keep_runs_for=2 * DAY, scheduler_keep_runs=5).migrated()
    add_runs(cli, 3, ago=3 * DAY)
    add_runs(cli, 9, ago=DAY, routine=uuid4())

    assert "pruned 7 runs, 0 changes\n" == cli("prune")
    assert 5 == left(cli)
    assert "pruned 0 runs, 0 changes\n" == Commands(sqlite, scheduler_keep_runs=0)("prune")


def test_old_changes_go_as_well(database, execute):
    cli = Commands(database, scheduler_keep_changes_for=DAY).migrated()
    cli.routines.create("old", "t", 60)
    execute(cli, "UPDATE routine_changes SET changed_at = '2020-01-01 00:00:00'")
    cli.routines.create("new", "t", 60)

    assert {"pruned": {"changes": 1, "runs": 0}} == cli.json("prune")
    assert ["new"] == [change.routine_name for change in cli.routines.changes()]


def test_another_namespace_keeps_its_runs(cli):
    add_runs(cli, 5, ago=30 * DAY, routine=uuid4())
    other = Commands(cli.url, scheduler_namespace="other")

    assert "pruned 0 runs, 0 changes\n" == other("prune")
    assert "pruned 0 runs\n" == other("prune", "--keep", "1")
    for number in ("0", "9" * 20):
        assert "--keep" in cli.refused("prune", "--keep", number, code=2)
    assert "--before" in cli.refused("prune", "--before", "lately", code=2)
