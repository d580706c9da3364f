"""``celery routines set`` and ``add``: shown, then done, and recorded."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from commands import Commands

from celery_sqlalchemy_kit import NotFoundError
from celery_sqlalchemy_kit.cli import consent, field_options
from celery_sqlalchemy_kit.migrations import hashes
from celery_sqlalchemy_kit.routines import CatchUp, Overlap
from celery_sqlalchemy_kit.store.connections import make_engine

UTC = timezone.utc


@pytest.fixture
def cli(sqlite):
    return Commands(sqlite, timezone="Europe/Berlin").migrated()


@pytest.fixture
def report(cli):
    return cli.routines.create("report", "t", 60, options={"queue": "a", "expires": 5})


@pytest.fixture
def on_a_terminal(monkeypatch):
    monkeypatch.setattr(consent, "_is_terminal", lambda: True)


def test_everything_about_a_routine_can_be_set(database):
    cli = Commands(database).migrated()
    before = cli.routines.create("report", "t", 60)

    cli(
        *("set", "report", "--schedule", "0 8 * * *", "--timezone", "Asia/Tokyo", "--task", "u"),
        *("--args", "[1]", "--kwargs", '{"a": "ü"}', "--options", '{"expires": 9}'),
        *("--queue", "slow", "--priority", "3", "--catch-up", "all", "--overlap", "queue"),
        *(
            "--jitter",
            "1m30s",
            "--starts-at",
            "2026-12-01T09:00:00+01:00",
            "--ends-at",
            "2100-01-01T00:00Z",
        ),
        *("--max-runs", "7", "--description", "why", "--inactive", "--note", "as asked for"),
    )

    after = cli.routines.get("report")
    assert before.id == after.id
    assert {"cron": "0 8 * * *", "timezone": "Asia/Tokyo"} == after.schedule_json
    assert ("u", [1], {"a": "ü"}) == (after.task, after.args, after.kwargs)
    assert {"expires": 9, "queue": "slow", "priority": 3} == after.options
    assert ("all", "queue", 90) == (after.catch_up, after.overlap, after.jitter)
    assert datetime(2026, 12, 1, 8, tzinfo=UTC) == after.starts_at
    assert datetime(2100, 1, 1, tzinfo=UTC) == after.ends_at
    assert (7, "why", False) == (after.max_runs, after.description, after.active)
    (action, changes, note), _ = cli.notes("report")
    assert ("update", "as asked for", [0.0, 90.0]) == (action, note, list(changes["jitter"]))


def test_what_is_given_is_shown_before_and_after_with_the_next_five(cli, report):
    told = cli("set", "report", "--schedule", "@daily", "--queue", "b").splitlines()

    assert "report" == told[0]
    assert '  schedule: {"timedelta": 60} → {"cron": "@daily"}' == told[1]
    assert '  options: {"queue": "a", "expires": 5} → {"queue": "b", "expires": 5}' == told[2]
    assert told[3].startswith("  next: ")
    assert 5 == told[3].count(" 00:00 CE")
    assert ["changed report"] == told[4:]


def test_an_instant_may_be_told_by_how_far_off_it_is(cli, report):
    cli("set", "report", "--starts-at", "now", "--ends-at", "7d")

    after = cli.routines.get("report")
    assert timedelta(days=7) == after.ends_at - after.starts_at
    assert timedelta(0) <= datetime.now(UTC) - after.starts_at < timedelta(minutes=1)


def test_an_empty_text_takes_a_value_away(cli, report):
    fields = {"max_runs": 5, "description": "d", "starts_at": datetime(2020, 1, 1, tzinfo=UTC)}
    fields |= {
        "ends_at": datetime(2100, 1, 1, tzinfo=UTC),
        "options": {"queue": "q", "priority": 1},
    }
    cli.routines.update("report", **fields)

    names = ("--max-runs", "--description", "--starts-at", "--ends-at", "--queue", "--priority")
    cli("set", "report", *(each for name in names for each in (name, "")))

    after = cli.routines.get("report")
    assert (None, None, None, None, {}) == (
        *(after.max_runs, after.description, after.starts_at, after.ends_at),
        after.options,
    )


def test_a_dry_run_shows_the_same_and_changes_nothing(cli, report):
    told = cli("set", "report", "--schedule", "@daily", "--inactive", "--dry-run")

    assert '{"cron": "@daily"}' in told
    assert told.endswith("  next: never: it is off\n")
    assert report == cli.routines.get("report")
    assert ["create"] == [action for action, _, _ in cli.notes()]


def test_where_nothing_would_change_nothing_is_done_but_a_note_is_kept(cli, report):
    told = cli("set", "report", "--schedule", "every 60s")
    assert told.endswith("\nreport is so already\n")
    assert 1 == len(cli.notes())

    cli("set", "report", "--note", "left as it is")
    assert ("update", {}, "left as it is") == cli.notes()[0]
    assert report.updated_at == cli.routines.get("report").updated_at


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_asks(cli, report, on_a_terminal, answer, code):
    result = cli.call("set", "report", "--schedule", "@daily", said=answer + "\n")

    assert code == result.exit_code
    assert "Change report? [y/N]" in result.stderr
    assert '{"timedelta": 60} → ' in result.stdout
    assert (code == 0) == (cli.routines.get("report") != report)


def test_yes_asks_nobody(cli, report, on_a_terminal):
    cli("set", "report", "--schedule", "@daily", "--yes")

    assert {"cron": "@daily"} == cli.routines.get("report").schedule_json


def test_what_somebody_else_changes_while_it_asks_is_not_overwritten(
    cli, report, monkeypatch, on_a_terminal
):
    def confirm(*args, **kwargs):
        cli.routines.update("report", schedule=90)
        return True

    monkeypatch.setattr(consent.click, "confirm", confirm)
    assert "somebody else has changed it" in cli.refused("set", "report", "--schedule", "@daily")
    assert {"timedelta": 90} == cli.routines.get("report").schedule_json


def test_programs_are_given_json(cli, report):
    told = cli.json("set", "report", "--kwargs", '{"a": 1}', "--dry-run")
    (routine,) = told["routines"]

    assert ("report", str(report.id), False) == (routine["name"], routine["id"], told["done"])
    assert {"kwargs": [{}, {"a": 1}]} == routine["changes"]
    assert 5 == len(routine["next_runs"])
    assert cli.json("set", "report", "--kwargs", '{"a": 1}')["done"]
    assert {"a": 1} == cli.routines.get("report").kwargs


def test_a_queue_is_put_into_what_the_options_are_by_then(cli, report, monkeypatch):
    cli("set", "report", "--options", '{"priority": 1}', "--queue", "b")

    assert {"priority": 1, "queue": "b"} == cli.routines.get("report").options


def test_a_routine_may_be_named_by_its_id(cli, report):
    cli("set", str(report.id), "--inactive")

    assert not cli.routines.get("report").active


def test_the_next_times_are_those_after_the_edit_where_no_trigger_is(mariadb):
    """With the columns that stand in, a scheduler would plan anew within a second."""
    cli = Commands(mariadb).migrated()
    cli.routines.create("report", "t", 1e6)
    engine = make_engine(mariadb)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER routines_edited")
        hashes.create(connection)
        hashes.adopt(connection, "")
        later = "utc_timestamp(6) + interval 5 day"
        connection.exec_driver_sql(
            f"UPDATE routines SET next_run_at = {later}, occurrence_at = {later}"
        )
    engine.dispose()
    (told,) = cli.json("set", "report", "--schedule", "0 0 1 1 *")["routines"]

    assert {"-01-01T00:00:00+00:00"} == {each[4:] for each in told["next_runs"]}


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("set", "reprot", "--inactive"), 1, "there is no routine 'reprot'; there is 'report'"),
        (("set", "report", "--schedule", "soon"), 1, "schedule 'soon': allowed is a number"),
        (("set", "report", "--schedule", "0 9 31 2 *"), 1, "never matches"),
        (("set", "report", "--schedule", '{"minute": 61}'), 1, "61"),
        (("set", "report", "--timezone", "UTC"), 2, "give --schedule as well"),
        (("set", "report", "--schedule", "@daily", "--timezone", "Mars"), 1, "Mars"),
        (("set", "report", "--kwargs", "{"), 2, "'{' is no JSON"),
        (("set", "report", "--kwargs", "[]"), 2, "'[]': allowed is a JSON object"),
        (("set", "report", "--args", "{}"), 2, "'{}': allowed is a JSON array"),
        (("set", "report", "--kwargs", '{"a": NaN}'), 1, "is no JSON"),
        (("set", "report", "--options", '{"task_id": "1"}'), 1, "task_id cannot be set in a row"),
        (("set", "report", "--priority", "high"), 2, "--priority"),
        (("set", "report", "--overlap", "never"), 2, "--overlap"),
        (("set", "report", "--catch-up", "some"), 2, "--catch-up"),
        (("set", "report", "--jitter", "long"), 2, "'long' is no duration"),
        (("set", "report", "--jitter", "9999w"), 1, "jitter = '"),
        (("set", "report", "--max-runs", "-1"), 2, "--max-runs"),
        (("set", "report", "--ends-at", "soon"), 2, "'soon' is no instant"),
        (("set", "report", "--ends-at", "now", "--starts-at", "1h"), 1, "ends_at"),
        (("set", "report", "--task", "x" * 256), 1, "1 to 255 characters"),
        (("set",), 2, "NAME"),
        (("add", "report", "t", "@daily"), 1, "there is a routine 'report' already"),
        (("add", "", "t", "@daily"), 1, "1 to 255 characters"),
        (("add", "new", "t", "never"), 1, "schedule 'never'"),
        (("add", "new", "t"), 2, "SCHEDULE"),
        (("add", "new", "t", "@daily", "--if-exists", "perhaps"), 2, "--if-exists"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_changed(cli, report, args, code, says):
    assert says in cli.refused(*args, code=code)
    assert [report] == cli.routines.list()


def test_a_routine_is_added_and_said_to_be_nobodys(database):
    cli = Commands(database).migrated()
    told = cli("add", "nightly", "t", "0 2 * * *", "--queue", "q", "--note", "wanted").splitlines()

    routine = cli.routines.get("nightly")
    assert ("t", {"queue": "q"}, "db") == (routine.task, routine.options, routine.origin)
    assert ["nightly", '  task: "t"', '  schedule: {"cron": "0 2 * * *"}'] == told[:3]
    assert ['  options: {"queue": "q"}', "created nightly"] == [told[3], told[-1]]
    assert 5 == told[4].count(" UTC")
    assert ("create", "wanted") == cli.notes()[0][::2]


def test_a_dry_run_adds_nothing(cli):
    assert "next: 20" in cli("add", "nightly", "t", "0 2 * * *", "--dry-run")
    with pytest.raises(NotFoundError):
        cli.routines.get("nightly")


@pytest.mark.parametrize(
    ("if_exists", "told", "schedule"),
    [("keep", "report is so already", 60), ("update", "changed report", 90)],
)
def test_what_is_there_is_kept_or_changed_if_so_asked(cli, report, if_exists, told, schedule):
    args = ("add", "report", "t", "90", "--queue", "b", "--if-exists", if_exists)

    assert told == cli(*args).splitlines()[-1]
    after = cli.routines.get("report")
    assert {"timedelta": schedule} == after.schedule_json
    assert 5 == after.options["expires"]


def test_a_task_that_the_app_does_not_know_is_a_warning(cli, report):
    for args in (("add", "x", "nosuch", "@daily"), ("set", "report", "--task", "nosuch")):
        result = cli.call(*args)
        assert (0, "Warning: this app knows no task 'nosuch'\n") == (
            result.exit_code,
            result.stderr,
        )
    assert "" == cli.call("add", "y", "t", "@daily").stderr


def test_a_module_that_cannot_be_imported_is_a_warning(cli, report):
    cli.app.conf.imports = ["no_such_module_there"]
    told = cli.call("set", "report", "--task", "t")

    assert "Warning: the task modules cannot be imported: ModuleNotFoundError: " in told.stderr
    assert 0 == told.exit_code


def test_whatever_a_name_or_a_value_holds_is_a_value(database):
    cli = Commands(database).migrated()
    texts = (
        "x'; DROP TABLE routines; --\"%s{{}}",
        "'",
        "%",
        "\\",
        "%(a)s",
        "ü\U0001f600",
        "a\\' OR 1=1 --",
    )
    for text in texts:
        kwargs = json.dumps({text: text})
        cli("add", text, "t", "60", "--kwargs", kwargs, "--note", text, "--description", text)
        cli("set", text, "--queue", text)
        routine = cli.routines.get(text)

        assert (text, text, {text: text}) == (routine.name, routine.description, routine.kwargs)
        assert {"queue": text} == routine.options
        assert text in [note for _, _, note in cli.notes(text)]

    assert sorted(texts) == sorted(routine.name for routine in cli.routines.list())


def test_what_would_move_the_cursor_is_escaped(cli):
    told = cli("add", "a\x1b[2Jb\u202e", "t", "60", "--description", "\x9b\x07")

    assert "created a\\x1b[2Jb\\u202e\n" in told
    assert not [each for each in told if not each.isprintable() and each != "\n"]


def test_the_words_that_are_offered_are_those_of_the_table():
    assert [each.value for each in CatchUp] == list(field_options.CATCH_UP)
    assert [each.value for each in Overlap] == list(field_options.OVERLAP)


def test_of_a_row_with_an_error_that_is_shown_in_place_of_the_next_times(cli, report):
    engine = make_engine(cli.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE routines SET kwargs = '['")
    engine.dispose()

    assert "  next: never: kwargs = '[' is no JSON" in cli("set", "report", "--queue", "b")
    assert "created" not in cli("set", "report", "--kwargs", "{}")
    assert timedelta(0) < cli.routines.next_runs("report")[0] - datetime.now(UTC)
