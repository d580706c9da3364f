"""``celery routines diff``, ``reset`` and ``plan``: the code against the table."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from celery.schedules import crontab
from commands import Commands

from celery_sqlalchemy_kit import registrar
from celery_sqlalchemy_kit.clock import SettableClock
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.testing import ManualBeat

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests")
UTC = timezone.utc
DECLARED = {
    "mail.daily": {"task": "t", "schedule": crontab(minute="0", hour="9"), "kwargs": {"a": 1}},
    "poll": {"task": "u", "schedule": 30},
}


@pytest.fixture
def cli(sqlite):
    return stored(Commands(sqlite, DECLARED, result_expires=None))


def stored(cli):
    """The same, as a scheduler leaves the table that has started and gone."""
    declared = registrar.declared(cli.app, "UTC")
    beat = ManualBeat(cli.url, SettableClock(datetime.now(UTC)), declared)
    beat.start()
    beat.stop()
    return cli


def names(cli):
    return [routine.name for routine in cli.routines.list()]


def test_where_code_and_table_say_the_same_nothing_is_told(cli):
    assert "code and table say the same\n" == cli("diff", "--exit-code")
    assert [] == cli.json("diff")
    assert "nothing to do: the table fits the code\n" == cli("plan")


def test_what_was_changed_in_the_table_is_told_and_taken_back(database):
    cli = stored(Commands(database, DECLARED, result_expires=None))
    cli.routines.update("poll", schedule=60, options={"queue": "q"}, overlap="skip")

    told = cli("diff", "--exit-code", code=1)
    assert [
        "poll",
        '  options: code {}, database {"queue": "q"}',
        '  schedule: code {"timedelta": 30}, database {"timedelta": 60}',
    ] == told.splitlines()
    assert told == cli("diff", "poll", "p*")
    assert "code and table say the same\n" == cli("diff", "mail.*")
    of_options, of_schedule = cli.json("diff")
    assert {"name": "poll", "field": "options", "code": {}} == {
        key: of_options[key] for key in ("name", "field", "code")
    }
    assert ({"timedelta": 60}, True) == (of_schedule["database"], of_schedule["stays"])
    assert "leave poll: schedule is " in cli("plan")

    told = cli("reset", "poll", "--field", "schedule", "--note", "tried")
    assert '  schedule: {"timedelta": 60} → {"timedelta": 30}\n' in told
    assert ("reset", "tried") == cli.notes("poll")[0][::2]
    assert ["options"] == [each["field"] for each in cli.json("diff")]
    cli("reset", "*")
    assert [] == cli.json("diff")
    assert "skip" == cli.routines.get("poll").overlap


def test_a_dry_run_resets_nothing(cli):
    cli.routines.update("poll", schedule=60)

    assert '{"timedelta": 60} → {"timedelta": 30}' in cli("reset", "*", "--dry-run")
    assert {"timedelta": 60} == cli.routines.get("poll").schedule_json


def test_what_the_next_start_takes_from_the_code_is_told(sqlite):
    cli = stored(Commands(sqlite, DECLARED, result_expires=None, scheduler_code_changes="merge"))
    cli.app.conf.beat_schedule = {
        "mail.daily": {
            "task": "moved",
            "schedule": crontab(minute="0", hour="9"),
            "kwargs": {"a": 1},
        },
        "poll": {"task": "u", "schedule": 45},
    }

    of_task, of_schedule = cli.json("diff", code=0)
    assert ("mail.daily", "task", "moved", "t", False) == tuple(of_task.values())
    assert ("poll", "schedule", {"timedelta": 45}, {"timedelta": 30}, False) == tuple(
        of_schedule.values()
    )
    assert 'database "t"  (the next start takes the code\'s)' in cli("diff")
    assert [
        "move mail.daily from task t to moved",
        "take from the code poll: schedule",
    ] == cli("plan").splitlines()


def test_a_plan_in_which_routines_go_fails_and_changes_nothing(database):
    cli = stored(Commands(database, DECLARED, result_expires=None))
    cli.app.conf.beat_schedule = {"new": {"task": "t", "schedule": 30}}

    assert [
        "insert new: t, every 30 s",
        "remove mail.daily: no longer declared",
        "remove poll: no longer declared",
    ] == cli("plan", code=1).splitlines()
    told = cli.json("plan", code=1)
    assert (["new"], ["mail.daily", "poll"]) == (told["insert"], told["remove"])
    assert ["mail.daily", "poll"] == names(cli)


def test_a_plan_for_a_table_that_deactivates_fails_as_well(cli):
    cli.app.conf.beat_schedule = {"poll": DECLARED["poll"]}
    other = Commands(cli.url, cli.app.conf.beat_schedule, scheduler_removed_routines="deactivate")
    kept = Commands(cli.url, cli.app.conf.beat_schedule, scheduler_removed_routines="keep")

    assert "deactivate mail.daily: no longer declared\n" in other("plan", code=1)
    assert ["mail.daily"] == other.json("plan", code=1)["deactivate"]
    assert [] == kept.json("plan")["remove"]


def test_what_another_scheduler_still_declares_goes_with_it_and_fails(cli):
    """As before a deployment, when the schedulers of the version before still run."""
    engine = make_engine(cli.url)
    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO routine_schedulers (id, host, pid, started_at, seen_at, names) "
            f"VALUES ('1', 'h', 1, {now}, {now}, '[\"mail.daily\"]')"
        )
    engine.dispose()
    cli.app.conf.beat_schedule = {"poll": DECLARED["poll"]}

    told = "remove mail.daily once the last scheduler that declares it has stopped\n"
    assert told == cli("plan", code=1)
    assert ["mail.daily"] == cli.json("plan", code=1)["held"]


def test_code_that_declares_nothing_removes_nothing(cli):
    cli.app.conf.beat_schedule = {}

    assert [
        "keep mail.daily: the code declares nothing at all",
        "keep poll: the code declares nothing at all",
    ] == cli("plan").splitlines()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("diff", "nope"), 1, "the code declares no routine 'nope'"),
        (("diff", "x*"), 1, "the code declares no routine that matches 'x*'"),
        (("reset", "poll", "nope"), 1, "the code declares no routine 'nope'"),
        (("reset", "poll", "--field", "task"), 2, "--field"),
        (("reset",), 2, "NAME"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_changed(cli, args, code, says):
    cli.routines.update("poll", schedule=60)
    before = cli.routines.list()

    assert says in cli.refused(*args, code=code)
    assert before == cli.routines.list()


def test_what_was_declared_and_is_removed_cannot_be_reset(cli):
    cli.routines.update("mail.daily", kwargs={})
    cli.routines.delete("poll")

    assert "there is no routine 'poll'" in cli.refused("reset", "*")
    assert {} == cli.routines.get("mail.daily").kwargs


@pytest.mark.parametrize("command", [("plan",), ("diff",), ("reset", "*")])
def test_modules_that_cannot_be_imported_are_no_plan(cli, command):
    cli.app.conf.imports = ["no_such_module_there"]

    assert "the task modules cannot be imported: ModuleNotFoundError" in cli.refused(*command)


def test_modules_of_tasks_are_imported_as_by_a_scheduler(cli, tmp_path, monkeypatch):
    (tmp_path / "more_tasks_of_a_test.py").write_text(
        "from celery_sqlalchemy_kit import routine\n"
        "@routine(name='more', schedule=5)\ndef more(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cli.app.conf.include = ["more_tasks_of_a_test"]

    assert "insert more: more, every 5 s\n" == cli("plan")
