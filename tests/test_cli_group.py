"""What all commands have in common."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from commands import Commands

from celery_sqlalchemy_kit.cli import routines

COMMANDS = routines.list_commands(click.Context(routines))
#: With what else they need, on a database without tables.
CHANGING = {
    "enable": ["a"],
    "disable": ["a"],
    "set": ["a", "--inactive"],
    "add": ["a", "t", "60"],
    "remove": ["a"],
    "restore": ["a"],
    "run": ["a"],
    "once": ["t"],
    "reschedule": ["a", "--in", "5s"],
    "cancel": ["a"],
    "backfill": ["a", "--from", "1h"],
    "diff": [],
    "reset": ["celery.backend_cleanup"],
    "plan": [],
    "prune": [],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_a_reader_can_use(name):
    command = routines.get_command(click.Context(routines), name)
    told = command.get_help(click.Context(command, info_name=name))

    assert len(command.help or "") > 60
    assert name == "health" or f"celery -A proj routines {name}" in told
    assert not [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]


def test_the_group_is_cheap_to_import():
    """Celery does it for each of its own commands."""
    script = (
        "import sys, celery_sqlalchemy_kit.cli\n"
        "print(*(name for name in sys.modules if name.startswith('celery_sqlalchemy_kit.c')))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert {"cli"} == {name.split(".")[1] for name in told.stdout.split()} & {"cli", "client"}
    assert "celery_sqlalchemy_kit.cli." not in told.stdout


@pytest.mark.parametrize("name", CHANGING)
def test_without_tables_a_command_says_so_in_a_line_and_exits_with_3(name, sqlite):
    sqlite_file = Commands(sqlite)
    told = sqlite_file.refused(name, *CHANGING[name], code=3)

    (line,) = [line for line in told.splitlines() if not line.startswith("Warning: ")]
    assert line.startswith(f"Error: the database {sqlite} does not answer as it should: ")


@pytest.mark.parametrize("name", CHANGING)
def test_without_a_database_a_command_exits_with_2(name, monkeypatch):
    monkeypatch.delenv("SCHEDULER_DB_URI", raising=False)

    assert "scheduler_db_uri is" in Commands(None).refused(name, *CHANGING[name], code=2)


def test_who_did_it_is_kept(sqlite, monkeypatch):
    cli = Commands(sqlite).migrated()
    monkeypatch.setenv("ROUTINES_WHO", "ann")
    cli("add", "a", "t", "60")
    monkeypatch.delenv("ROUTINES_WHO")
    cli("disable", "a")

    disabled, added = cli.routines.changes()
    assert "ann" == added.changed_by
    assert "@" in disabled.changed_by
