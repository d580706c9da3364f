"""``celery routines enable``, ``disable``, ``remove`` and ``restore``."""

from __future__ import annotations

import json

import pytest
from commands import Commands

from celery_sqlalchemy_kit.cli import consent
from celery_sqlalchemy_kit.store.connections import make_engine

NAMES = ["mail.daily", "mail.weekly", "poll"]


@pytest.fixture
def cli(sqlite):
    return filled(Commands(sqlite).migrated())


@pytest.fixture
def on_a_terminal(monkeypatch):
    monkeypatch.setattr(consent, "_is_terminal", lambda: True)


def filled(cli):
    for name in NAMES:
        cli.routines.create(name, "t", 3600)
    return cli


def active(cli):
    return [routine.name for routine in cli.routines.list() if routine.active]


def names(cli):
    return [routine.name for routine in cli.routines.list()]


def test_routines_are_switched_by_names_patterns_and_ids(database):
    cli = filled(Commands(database).migrated())
    key = str(cli.routines.get("poll").id)

    assert "mail.daily is off\nmail.weekly is off\n" == cli("disable", "mail.*", "--note", "why")
    assert ["poll"] == active(cli)
    assert "poll is off\nmail.daily was off already\n" == cli("disable", "mail.daily", key)
    assert [] == active(cli)
    assert "mail.daily is on\n" == cli("enable", "mail.[a-d]*")
    assert ["mail.daily"] == active(cli)
    said = [
        ("disable", {"active": [True, False]}, "why"),
        ("enable", {"active": [False, True]}, None),
    ]
    assert said == [
        (a, {k: list(v) for k, v in c.items()}, n) for a, c, n in cli.notes("mail.daily")[1::-1]
    ]


@pytest.mark.parametrize("command", ["enable", "disable"])
def test_one_that_is_none_fails_and_nothing_is_changed(cli, command):
    cli.routines.disable("poll")
    before = cli.routines.list()

    assert "there is no routine 'pol'; there is 'poll'" in cli.refused(command, "mail.*", "pol")
    assert "no routine matches 'x*'" in cli.refused(command, "poll", "x*")
    assert "NAME" in cli.refused(command, code=2)
    assert before == cli.routines.list()


def test_programs_are_told_which(cli):
    cli.routines.disable("poll")

    assert {"changed": ["mail.daily", "mail.weekly"], "unchanged": ["poll"]} == cli.json(
        "disable", "*"
    )
    assert {"changed": NAMES, "unchanged": []} == cli.json("enable", "*")


def test_patterns_and_quotes_in_names_are_no_sql(cli):
    for name in ("' OR '1'='1", "%", "_oll", "mail_daily"):
        assert "there is no routine" in cli.refused("disable", name)
    assert "no routine matches" in cli.refused("disable", "%*")
    assert NAMES == active(cli)


def test_a_routine_is_removed_and_comes_back_as_it_was(database):
    cli = filled(Commands(database).migrated())
    cli.routines.disable("mail.daily")
    before = cli.routines.get("mail.daily")

    assert "removed mail.daily\nremoved mail.weekly\n" == cli("remove", "mail.*", "--note", "old")
    assert ["poll"] == names(cli)
    assert "restored mail.daily\n" == cli("restore", "mail.daily", "--note", "not that old")
    after = cli.routines.get("mail.daily")
    assert (before.id, False, before.schedule) == (after.id, after.active, after.schedule)
    assert [("restore", "not that old"), ("delete", "old")] == [
        (action, note) for action, _, note in cli.notes("mail.daily")[:2]
    ]


def test_all_are_removed_and_restored_or_none(cli):
    assert "there is no routine 'nope'" in cli.refused("remove", "poll", "nope")
    assert NAMES == names(cli)
    cli("remove", "poll")
    assert "no routine 'nope' has been removed" in cli.refused("restore", "poll", "nope")
    assert "no routine 'mail' has been removed" in cli.refused("restore", "mail")
    assert "there is a routine 'mail.daily' already" in cli.refused("restore", "poll", "mail.daily")
    assert NAMES[:2] == names(cli)


def test_a_dry_run_removes_nothing(cli):
    told = cli("remove", "mail.*", "--dry-run")

    assert "would remove mail.daily\nwould remove mail.weekly\n" == told
    assert {"done": False, "removed": ["poll"]} == cli.json("remove", "poll", "--dry-run")
    assert NAMES == names(cli)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_it_asks(cli, on_a_terminal, answer, code):
    result = cli.call("remove", "mail.*", said=answer)

    assert code == result.exit_code
    assert "Remove 2 routines?" in result.stderr
    assert "would remove mail.weekly" in result.stdout
    assert (code == 0) == ("mail.weekly" not in names(cli))


def test_what_has_come_meanwhile_is_not_removed(cli, on_a_terminal, monkeypatch):
    def confirm(*args, **kwargs):
        cli.routines.create("mail.new", "t", 60)
        return True

    monkeypatch.setattr(consent.click, "confirm", confirm)
    assert "there are others by now" in cli.refused("remove", "mail.*")
    assert 4 == len(names(cli))


def test_what_a_running_scheduler_declares_is_removed_by_force(cli):
    engine = make_engine(cli.url)
    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE routines SET origin = 'code'")
        connection.exec_driver_sql(
            "INSERT INTO routine_schedulers (id, host, pid, started_at, seen_at, names) "
            f"VALUES ('1', 'h', 1, {now}, {now}, '{json.dumps(NAMES[:1])}')"
        )
    engine.dispose()

    assert "'mail.daily' is declared in the code of a running scheduler" in cli.refused(
        "remove", "*"
    )
    assert NAMES == names(cli)
    assert {"done": True, "removed": NAMES} == cli.json("remove", "*", "--force")
    assert [] == names(cli)
    assert {"done": True, "restored": ["poll"]} == cli.json("restore", "poll")
