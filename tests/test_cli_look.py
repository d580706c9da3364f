"""``celery routines list``, ``show``, ``history``, ``errors`` and ``upcoming``."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from celery_sqlalchemy_kit import migrations, tables
from celery_sqlalchemy_kit.cli import COMMANDS, routines
from celery_sqlalchemy_kit.cli import tables as rendering
from celery_sqlalchemy_kit.cli.tables import Screen
from celery_sqlalchemy_kit.clock import UTC, DatabaseClock
from celery_sqlalchemy_kit.store.connections import make_engine

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)
#: What no terminal may see, nor rich take for its own.
HOSTILE = "[red]x[/red]\x1b[31m\x9b2J\u202eabc\r"
SHOWN = "[red]x[/red]\\x1b[31m\\x9b2J\\u202eabc\\r"
TRACEBACK = 'ValueError: no \x1b[2J address\n  File "invoices.py", line 31, in send\n    raise'
LOOKING = ("errors", "history", "list", "show", "upcoming")


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """The present of the database, as far as commands ask it."""
    monkeypatch.setattr(DatabaseClock, "now", lambda clock: NOW)
    monkeypatch.delenv("SCHEDULER_DB_URI", raising=False)
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


def call(app, *args):
    """A command, by the real group; its two outputs are apart."""
    try:
        runner = CliRunner(mix_stderr=False)
    except TypeError:  # since click 8.2 they always are
        runner = CliRunner()
    return runner.invoke(routines, args, obj=CLIContext(app, no_color=False, workdir=None))


class Desk:
    """A database with rows, and somebody who looks at it."""

    def __init__(self, url):
        self.engine = make_engine(url)
        migrations.migrate(self.engine)
        self.app = Celery("desk", broker="memory://", set_as_current=False)
        self.app.conf.scheduler_db_uri = url.render_as_string(hide_password=False)
        self.ids = {}

    def add(self, table, **values):
        with self.engine.begin() as connection:
            connection.execute(table.insert(), [{"id": uuid4(), **values}])

    def routine(self, name, schedule, **values):
        key = self.ids[name] = uuid4()
        given = {"task": "tasks.do", "created_at": NOW - DAY, "updated_at": NOW - HOUR, **values}
        text = schedule if isinstance(schedule, str) else json.dumps(schedule)
        self.add(tables.routines, id=key, name=name, schedule=text, **given)

    def run(self, name, state, ago=MINUTE, took=None, **values):
        due = NOW - ago
        begun = {} if took is None else {"started_at": due + SECOND, "attempts": 1}
        ended = {} if took is None else {"finished_at": due + SECOND + took}
        given = {"routine_id": self.ids[name], "task": "tasks.do", "cause": "schedule", **values}
        self.add(
            tables.runs,
            routine_name=name,
            scheduled_for=due,
            claimed_at=due,
            state=state,
            **{**begun, **ended, **given},
        )

    def change(self, name, action, note=None, ago=HOUR, **changes):
        self.add(
            tables.changes,
            routine_id=self.ids[name],
            routine_name=name,
            changed_at=NOW - ago,
            changed_by="anna@ops-1",
            action=action,
            changes=json.dumps(changes),
            note=note,
        )

    def call(self, *args):
        return call(self.app, *args)

    def look(self, *args):
        """Standard output of a command that has to succeed."""
        result = self.call(*args)
        assert (0, "") == (result.exit_code, result.stderr), result.exception
        return result.stdout

    def fail(self, *args):
        """Exit code and standard error of one that prints nothing."""
        result = self.call(*args)
        assert "" == result.stdout
        return result.exit_code, result.stderr

    def json(self, *args):
        return json.loads(self.call(*args, "--json").stdout)


@pytest.fixture
def desk(database):
    desk = Desk(database)
    yield desk
    desk.engine.dispose()
    desk.app.close()


@pytest.fixture
def small(sqlite):
    """Where it is not the database that matters."""
    desk = Desk(sqlite)
    yield desk
    desk.engine.dispose()
    desk.app.close()


def fill(desk):
    """Something of everything."""
    berlin = {"minute": 0, "hour": 9, "timezone": "Europe/Berlin"}
    desk.routine("report", berlin, next_run_at=NOW + DAY, origin="code", kwargs='{"full": true}')
    desk.run("report", "succeeded", 25 * HOUR, 2 * SECOND)
    desk.run("report", "succeeded", HOUR, 1.2 * SECOND, worker="celery@worker-1")
    desk.routine("invoices", {"timedelta": 300}, active=False, origin="db", alert="failed")
    desk.run("invoices", "succeeded", 2 * DAY, SECOND)
    desk.run("invoices", "failed", DAY, 350 * SECOND / 1000, error=TRACEBACK)
    desk.change("invoices", "update", "for the auditors", ago=3 * DAY, schedule=[None, 5])
    desk.change("invoices", "disable", "until it is fixed", ago=DAY, active=[True, False])
    desk.routine(
        "poll", {"timedelta": 15}, next_run_at=NOW + 3 * SECOND, occurrence_at=NOW + 3 * SECOND
    )
    desk.run("poll", "missed", 5 * MINUTE, count=4, reason="too late", finished_at=NOW - MINUTE)
    desk.run("poll", "running", 2 * MINUTE, started_at=NOW - 100 * SECOND, attempts=1)
    desk.routine("broken", '{"cron": "61 * * * *"}', error="minute 61")
    desk.routine("fresh", {"timedelta": 60}, origin="db", edited_at=NOW)
    desk.routine(
        "once 1", {"once": "2026-12-01T08:30:00Z"}, next_run_at=NOW + 30 * MINUTE, origin="once"
    )


LIST = """\
NAME      SCHEDULE                 ACTIVE  NEXT RUN                       LAST RUN                     NOTE
broken    unreadable               yes     -                              never                        error: minute 61
fresh     every 60 s               yes     to be planned                  never
invoices  every 300 s              no      -                              failed 24 h ago, 350 ms      alert: failed; off: until it is fixed (anna@ops-1, 24 h ago)
poll      every 15 s               yes     2026-12-01 08:00:03 UTC (in 3 s)  running for 1 min 40 s
report    at 09:00, Europe/Berlin  yes     2026-12-02 09:00 CET (in 24 h)  succeeded 60 min ago, 1.2 s
"""


def squeezed(text):
    """Without what aligns the columns."""
    return re.sub(" {2,}", "  ", text)


def test_a_list_tells_when_routines_run_and_how_they_fared(desk):
    fill(desk)
    listed = desk.look("list")

    assert squeezed(LIST) == squeezed(listed)
    starts = {
        line.index(word)
        for word, line in zip(("NEXT", "-", "to be"), listed.splitlines(), strict=False)
    }
    assert 1 == len(starts)


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ((), ["broken", "fresh", "invoices", "poll", "report"]),
        (("report", "po*"), ["poll", "report"]),
        (("--active",), ["broken", "fresh", "poll", "report"]),
        (("--inactive",), ["invoices"]),
        (("--troubled",), ["broken", "invoices"]),
        (("--troubled", "--active"), ["broken"]),
        (("report", "--troubled"), []),
        (("--origin", "code"), ["report"]),
        (("--origin", "db"), ["fresh", "invoices"]),
        (("--origin", "sql"), ["broken", "poll"]),
        (("--one-offs", "*o*"), ["broken", "invoices", "once 1", "poll", "report"]),
        (("--only-one-offs",), ["once 1"]),
        (("--task", "tasks.*", "--limit", "2"), ["broken", "fresh"]),
        (("--task", "tasks.other"), []),
        (("nothing*",), []),
    ],
)
def test_a_list_has_what_was_asked_for(small, args, names):
    fill(small)

    assert names == [routine["name"] for routine in small.json("list", *args)]


def test_an_empty_list_says_so_on_standard_error(small):
    assert (0, "No routines.\n") == small.fail("list", "--troubled")
    assert [] == small.json("list")


def test_a_program_is_told_the_same(desk):
    fill(desk)
    _, fresh, invoices, _, report = desk.json("list")

    assert (str(desk.ids["report"]), True, {"full": True}) == (
        *(report["id"], report["active"], report["kwargs"]),
    )
    assert ("at 09:00, Europe/Berlin", 9) == (report["words"], report["schedule"]["hour"])
    assert ("2026-12-02T08:00:00+00:00", None) == (report["next_run_at"], report["note"])
    run = report["last_run"]
    assert ("succeeded", 1.2, 1.0, None) == (
        *(run["state"], run["duration"], run["lateness"], run["error"]),
    )
    assert "2026-12-01T07:00:00+00:00" == run["scheduled_for"]
    assert None is fresh["last_run"]
    assert ("until it is fixed", "anna@ops-1", {"active": [True, False]}) == (
        *(invoices["note"]["note"], invoices["note"]["changed_by"], invoices["note"]["changes"]),
    )
    assert "failed" == invoices["last_run"]["state"]


def test_of_the_last_runs_the_newest_counts_in_whatever_state(desk):
    names = [f"r{number:02}" for number in range(30)]
    for number, name in enumerate(names):
        desk.routine(name, {"timedelta": 60})
        desk.run(name, "succeeded", 5 * MINUTE, SECOND)
        desk.run(name, "failed" if number % 2 else "succeeded", (2 + number % 3) * MINUTE, SECOND)
    desk.run("r00", "sent", SECOND)
    desk.routine("other", {"timedelta": 60}, namespace="another")
    desk.run("other", "lost", namespace="another")
    found = {each["name"]: each["last_run"]["state"] for each in desk.json("list")}

    assert names == list(found)
    assert ["sent", "failed", "succeeded"] == list(found.values())[:3]
    assert {"sent", "failed", "succeeded"} == set(found.values())


def test_a_note_of_switching_on_is_no_reason_to_be_off(small):
    small.routine("a", {"timedelta": 60}, active=False)
    small.change("a", "disable", "broken", ago=2 * HOUR)
    assert "off: broken" in small.look("list")

    small.change("a", "enable", "mended", ago=HOUR)
    assert "off" not in small.look("list")
    assert None is small.json("list")[0]["note"]


SHOW = """\
name         report
task         tasks.do
schedule     at 09:00, Europe/Berlin
             {"minute": 0, "hour": 9, "timezone": "Europe/Berlin"}
active       yes
next run     2026-12-02 09:00 CET (in 24 h)
last run     succeeded 60 min ago, 1.2 s
runs         7 of 9 at most
kwargs       {"full": true}
catch up     latest
overlap      skip
starts       2026-11-30 09:00 CET (24 h ago)
origin       code
id           ID
created      2026-11-30 09:00 CET (24 h ago)
updated      2026-12-01 08:00 CET (60 min ago)
description  for the board
             of directors

Next occurrences
2026-12-02 09:00 CET (in 24 h)
2026-12-03 09:00 CET (in 2 d)

Last runs
DUE                               STATE      CAUSE     LATE  TOOK   TRIES  WORKER           RUN
2026-12-01 08:00 CET (60 min ago)  succeeded  schedule  1 s   1.2 s  1      celery@worker-1  RUN

Changes
WHEN                               WHAT    WHO         FIELDS                 NOTE
2026-12-01 08:00 CET (60 min ago)  update  anna@ops-1  overlap: allow → skip  as it takes long
2026-12-01 07:00 CET (2 h ago)     create  anna@ops-1  overlap: allow
"""


def add_report(desk):
    desk.routine(
        "report",
        {"minute": 0, "hour": 9, "timezone": "Europe/Berlin"},
        next_run_at=NOW + DAY,
        occurrence_at=NOW + DAY,
        origin="code",
        kwargs='{"full": true}',
        total_run_count=7,
        max_runs=9,
        overlap="skip",
        starts_at=NOW - DAY,
        description="for the board\nof directors",
    )
    desk.run("report", "succeeded", HOUR, 1.2 * SECOND, worker="celery@worker-1")
    desk.change("report", "create", ago=2 * HOUR, overlap=[None, "allow"])
    desk.change("report", "update", "as it takes long", overlap=["allow", "skip"])


def test_show_tells_all_there_is_about_one_routine(desk):
    add_report(desk)
    shown = desk.look("show", "report")
    run = desk.json("history", "report")[0]["id"]
    key = str(desk.ids["report"])

    expected = SHOW.replace("  RUN\n\n", f"  {run[:8]}\n\n").replace(" ID\n", f" {key}\n")
    assert squeezed(expected) == squeezed(shown)
    assert shown == desk.look("show", key)


def test_show_as_json(desk):
    add_report(desk)
    told = desk.json("show", "report")

    assert ("report", 7, "skip", []) == (
        *(told["name"], told["total_run_count"], told["overlap"], told["drift"]),
    )
    assert "2026-12-02T08:00:00+00:00" == told["next_runs"][0]
    assert (2, 1, 2) == (len(told["next_runs"]), len(told["runs"]), len(told["changes"]))
    assert {"overlap": ["allow", "skip"]} == told["changes"][0]["changes"]
    assert told["runs"] == desk.json("history", "report")
    assert told["changes"] == desk.json("history", "report", "--changes")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"active": False}, "None: it is off."),
        ({"error": "x"}, "None: it cannot be scheduled, see its error."),
        ({"waiting_for": uuid4()}, "Not known: it waits for the end of a run."),
        ({"max_runs": 1, "total_run_count": 1, "next_run_at": NOW}, "None."),
    ],
)
def test_show_says_why_nothing_is_due(small, values, says):
    small.routine("a", {"after": 60}, **values)

    assert f"\nNext occurrences\n{says}\n" in small.look("show", "a")
    assert [] == small.json("show", "a")["next_runs"]


def test_show_tells_where_the_code_says_otherwise(small):
    small.routine("tidy", {"timedelta": 60}, origin="code", kwargs='{"a": 1}')
    small.app.conf.beat_schedule = {
        "tidy": {"task": "tasks.do", "schedule": 30, "kwargs": {"a": 1}}
    }
    shown = small.look("show", "tidy")

    assert "The code says otherwise; the table is obeyed\n" in shown
    assert 'schedule  {"timedelta": 60}  {"timedelta": 30}\n' in squeezed(shown)
    drift = [{"field": "schedule", "code": {"timedelta": 30}, "database": {"timedelta": 60}}]
    assert drift == small.json("show", "tidy")["drift"]


def test_show_imports_the_code_to_know_what_it_says(small, tmp_path, monkeypatch):
    """As a scheduler would; an app names modules that nobody has imported yet."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "jobs_of_the_desk.py").write_text("raise RuntimeError('no \\x1b[2J configuration')")
    small.app.conf.include = ["jobs_of_the_desk"]
    small.routine("tidy", {"timedelta": 60}, origin="code")
    shown = small.look("show", "tidy")

    assert "What the code says is not known\nRuntimeError: no \\x1b[2J configuration\n" in shown
    assert None is small.json("show", "tidy")["drift"]


HISTORY = """\
DUE  STATE  CAUSE  LATE  TOOK  TRIES  WORKER  RUN  NOTE
2026-12-01 07:58 UTC (2 min ago)  running  schedule  20 s  -  1  -  RUN
2026-12-01 07:55 UTC (5 min ago)  missed x4  schedule  -  -  0  -  RUN  too late
"""
ALL = """\
DUE  ROUTINE  STATE  CAUSE  LATE  TOOK  TRIES  WORKER  RUN  NOTE
2026-12-01 07:55 UTC (5 min ago)  poll  missed x4  schedule  -  -  0  -  RUN  too late
2026-11-30 08:00 UTC (24 h ago)  invoices  failed  schedule  1 s  350 ms  1  -  RUN  ValueError: no \\x1b[2J address
"""


def without_ids(text):
    return re.sub(r"(?<=  )[0-9a-f]{8}(?=  |$)", "RUN", squeezed(text), flags=re.MULTILINE)


def test_history_tells_what_became_of_each_occurrence(desk):
    fill(desk)

    assert HISTORY == without_ids(desk.look("history", "poll"))
    assert ALL == without_ids(desk.look("history", "--failed"))


@pytest.mark.parametrize(
    ("args", "states"),
    [
        (("--failed", "--since", "2h"), ["missed"]),
        (("--failed", "--since", "2026-11-01T00:00Z"), ["missed", "failed"]),
        (("--state", "running", "--state", "missed"), ["missed", "running"]),
        (("--state", "running", "--failed", "--limit", "2"), ["missed", "running"]),
        (("invoices", "--since", "30h"), ["failed"]),
        (("invoices", "--state", "lost"), []),
        (("report", "--limit", "1"), ["succeeded"]),
    ],
)
def test_history_has_what_was_asked_for(small, args, states):
    fill(small)
    found = small.json("history", *args)

    assert states == [run["state"] for run in found]
    assert all({"id", "lateness", "duration", "error"} <= run.keys() for run in found)


def test_that_there_is_more_is_said_beside_it(small):
    fill(small)
    one = small.call("history", "report", "--limit", "1")
    two = small.call("history", "report", "--limit", "2")

    assert "There are more than these 1: see --limit.\n" == one.stderr
    assert (3, "") == (len(two.stdout.splitlines()), two.stderr)


def test_history_of_one_that_was_removed(desk):
    desk.routine("a", {"timedelta": 60})
    desk.run("a", "succeeded", took=SECOND)
    desk.change("a", "delete")
    with desk.engine.begin() as connection:
        connection.execute(tables.routines.delete())

    assert 1 == len(desk.json("history", str(desk.ids["a"])))
    assert ["delete"] == [change["action"] for change in desk.json("history", "a", "--changes")]


CHANGES = """\
WHEN  ROUTINE  WHAT  WHO  FIELDS  NOTE
2026-11-30 08:00 UTC (24 h ago)  invoices  disable  anna@ops-1  active: true → false  until it is fixed
"""


def test_history_of_changes(desk):
    fill(desk)

    assert CHANGES == squeezed(desk.look("history", "--changes", "--since", "2d"))
    assert 2 == len(desk.json("history", "invoices", "--changes"))
    assert [] == desk.json("history", "report", "--changes")
    code, told = desk.fail("history", "--changes", "--failed")
    assert (2, True) == (code, "--changes goes with neither --failed nor --state" in told)


def test_errors_shows_the_last_one(desk):
    fill(desk)
    run = next(each for each in desk.json("history", "invoices") if each["state"] == "failed")
    expected = (
        f"invoices: run {run['id']} failed, attempt 1\n"
        "due 2026-11-30 08:00 UTC (24 h ago); ended 2026-11-30 08:00:01 UTC (24 h ago)\n\n"
        'ValueError: no \\x1b[2J address\n  File "invoices.py", line 31, in send\n    raise\n'
    )

    assert expected == desk.look("errors", "invoices")
    assert expected == desk.look("errors", "invoices", run["id"])
    assert expected == desk.look("errors", str(desk.ids["invoices"]), run["id"][:8].upper())
    assert run == desk.json("errors", "invoices")


def test_errors_of_a_run_that_has_none(small):
    fill(small)
    missed = next(each for each in small.json("history", "poll") if each["state"] == "missed")

    assert small.look("errors", "poll", missed["id"]).endswith("\n\ntoo late\n")
    succeeded = small.json("history", "report")[0]["id"]
    assert small.look("errors", "report", succeeded).endswith("\n\nNo error was recorded.\n")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("report",), "no run of 'report' has failed, or is still kept"),
        (("report", "zz"), "there is no run zz of 'report': see its history"),
        (("report", "00000000"), "there is no run 00000000 of 'report': see its history"),
        (("invoices", "5"), "several runs of 'invoices' begin with 5: say more of it"),
        (("reprot",), "there is no routine 'reprot', and no run of one; there is 'report'"),
    ],
)
def test_errors_exits_with_1_where_there_is_none(small, args, says):
    fill(small)
    for _ in range(2):
        small.run("invoices", "failed", id=UUID(int=5 * 16**31 + uuid4().int % 2**64))

    assert (1, f"Error: {says}\n") == small.fail("errors", *args)


UPCOMING = """\
DUE  IN  NAME  SCHEDULE
2026-12-01 08:00:03 UTC  in 3 s  poll  every 15 s
2026-12-01 08:00:18 UTC  in 18 s  poll  every 15 s
2026-12-01 08:00:33 UTC  in 33 s  poll  every 15 s
"""


def test_upcoming_tells_what_is_due_in_order(desk):
    fill(desk)

    assert UPCOMING == squeezed(desk.look("upcoming", "--within", "40s"))
    hour = desk.json("upcoming", "--limit", "1000")
    assert {"poll", "fresh", "once 1"} == {each["name"] for each in hour}
    assert sorted(each["at"] for each in hour) == [each["at"] for each in hour]
    first = {"at": "2026-12-01T08:00:03+00:00", "id": str(desk.ids["poll"])}
    assert first | {"name": "poll", "task": "tasks.do", "words": "every 15 s"} == hour[0]
    assert 50 == len(desk.json("upcoming"))
    assert 3 == len(desk.json("upcoming", "--within", "99999999d", "--limit", "3"))


def test_of_what_is_overdue_the_oldest_comes_first_and_then_what_is_ahead(small):
    due = NOW - 30 * DAY
    small.routine("poll", {"timedelta": 1}, next_run_at=due, occurrence_at=due)
    expected = [due, *(NOW + n * SECOND for n in range(1, 4))]

    found = small.json("upcoming", "--limit", "4")
    assert [each.isoformat() for each in expected] == [each["at"] for each in found]
    assert expected[1].isoformat() == small.json("show", "poll")["next_runs"][1]


def test_nothing_upcoming_is_no_error(small):
    assert (0, "Nothing is going to be due.\n") == small.fail("upcoming")
    assert [] == small.json("upcoming")


@pytest.mark.parametrize("screen", [None, Screen(80, colour=True), Screen(30, colour=False)])
def test_what_others_have_written_neither_moves_nor_colours_a_terminal(small, monkeypatch, screen):
    desk = small
    desk.routine(
        HOSTILE,
        {"timedelta": 60},
        active=False,
        alert=HOSTILE[:16],
        description=HOSTILE,
        origin="db",
    )
    desk.run(HOSTILE, "failed", took=SECOND, error=HOSTILE, reason=HOSTILE, worker=HOSTILE)
    desk.change(HOSTILE, "disable", HOSTILE, active=[True, HOSTILE])
    if screen is not None:
        monkeypatch.setattr(rendering, "screen", lambda: screen)
    for args in (
        *(("list",), ("show", HOSTILE), ("history",), ("history", HOSTILE), ("errors", HOSTILE)),
        *(("history", "--changes"), ("history", HOSTILE, "--changes")),
        *(("list", "--json"), ("show", HOSTILE, "--json"), ("errors", HOSTILE, "--json")),
    ):
        printed = desk.look(*args)
        ours = re.sub("\x1b\\[[0-9;]*m", "", printed) if screen and screen.colour else printed
        assert ours.replace("\n", "").isprintable(), args
        if screen is None and "--json" not in args:
            assert SHOWN in ours
    if screen is not None and screen.colour:
        # Red is what has failed, not what says so of itself.
        assert "\x1b[31m[red]x" not in desk.look("list").splitlines()[1][:20]
    assert HOSTILE == desk.json("list")[0]["name"]


def test_ten_thousand_names_are_never_cut_in_a_pipe(small, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    small.routine("n" * 255, {"timedelta": 60})

    assert "n" * 255 in small.look("list")


@pytest.mark.parametrize(("name", "near"), [("reprot", "; there is 'report'"), ("zzz", "")])
def test_a_name_that_is_none_s_is_1_with_those_that_are_like_it(desk, name, near):
    fill(desk)

    told = f"Error: there is no routine {name!r}{near}\n"
    assert (1, told) == desk.fail("show", name) == desk.fail("list", name)
    told = f"Error: there is no routine {name!r}, and no run of one{near}\n"
    assert (1, told) == desk.fail("history", name) == desk.fail("history", name, "--changes")


@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("postgresql://u:secret@127.0.0.1:1/d", 3, "does not answer as it should: "),
        ("sqlite:////nowhere/at/all.db", 3, "does not answer as it should: unable to open"),
        ("sqlite://", 3, "no such table: "),
        ("postgresql+asyncpg://u:secret@h/d", 2, "app.conf.scheduler_db_uri = "),
        (None, 2, "scheduler_db_uri is not set"),
    ],
)
def test_a_database_that_is_not_there_is_3_and_a_wrong_setting_2(command, url, code, says):
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.scheduler_db_uri = url
    args = [command, *(["x"] if command in ("show", "errors") else [])]
    result = call(app, *args)

    assert (code, "") == (result.exit_code, result.stdout)
    assert says in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.scheduler_db_uri = f"sqlite:///{tmp_path}/typo.db"

    assert 3 == call(app, "list").exit_code
    assert [] == list(tmp_path.iterdir())


def test_looking_waits_for_nobody_who_writes(sqlite):
    desk = Desk(sqlite)
    desk.routine("a", {"timedelta": 60})
    with desk.engine.connect() as writer, writer.begin():
        assert 1 == len(desk.json("list"))
    desk.engine.dispose()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_helps_with_an_example(command):
    result = CliRunner().invoke(routines, [command, "--help"])

    assert 0 == result.exit_code
    if command in LOOKING:
        assert f"Examples:\n    celery -A proj routines {command}" in result.output
        assert "--json" in result.output


def test_a_typo_is_told_what_was_meant():
    result = CliRunner().invoke(routines, ["lsit"])

    assert (2, True) == (result.exit_code, "list" in result.output.partition("Did you mean")[2])


@pytest.fixture
def completed(processes, small, tmp_path, monkeypatch):
    """What a shell is offered after ``celery -A … routines``, by the real group."""
    from celery.bin.celery import celery

    source = f"from celery import Celery\napp = Celery(broker='memory://', set_as_current=False)\napp.conf.scheduler_db_uri = {small.app.conf.scheduler_db_uri!r}\n"
    processes.app("shelved", source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    shell = ShellComplete(celery, {}, "celery", "_CELERY_COMPLETE")

    def complete(*args, app="shelved"):
        *before, last = args
        found = shell.get_completions(["-A", app, "routines", *before], last)
        return [each.value for each in found]

    yield complete
    sys.modules.pop("shelved", None)


def test_a_shell_completes_commands_names_and_states(small, completed):
    fill(small)
    small.routine("report\x1b[2J", {"timedelta": 60})

    assert ["list"] == completed("li")
    assert ["report"] == completed("show", "rep")
    assert ["report"] == completed("history", "rep")
    assert ["broken", "fresh", "invoices", "poll", "report"] == completed("list", "report", "")
    assert ["failed"] == completed("history", "--state", "f")
    assert [] == completed("show", "rep", app="no_such_module")
    call(small.app, "remove", "poll", "--yes")
    assert ([], ["poll"]) == (completed("show", "po"), completed("restore", "p"))


def test_celery_pays_for_no_command_that_it_does_not_run():
    script = (
        "import sys, celery.bin.celery\n"
        "kit = {name for name in sys.modules if name.startswith('celery_sqlalchemy_kit.')}\n"
        "print(sorted(name for name in kit if '.cli.' in name or '.client' in name), 'rich' in sys.modules)\n"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )

    assert "[] False\n" == told.stdout


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_a_real_terminal_has_its_width_and_colours(small, environ):
    fill(small)
    shown, hidden = pty.openpty()
    command = [sys.executable, "-W", "ignore", "-m", "celery", "routines", "list", "report", "poll"]
    url = small.app.conf.scheduler_db_uri
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=hidden,
        stderr=subprocess.PIPE,
        env={**os.environ, "SCHEDULER_DB_URI": url, "COLUMNS": "70", "TERM": "xterm", **environ},
    )
    os.close(hidden)
    printed = b""
    while True:
        try:
            printed += os.read(shown, 10_000)
        except OSError:  # its other side is closed
            break
    os.close(shown)
    errors = process.stderr.read()
    process.stderr.close()

    assert (0, b"") == (process.wait(), errors)
    assert (not environ) == (b"\x1b[" in printed)
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", printed).decode().splitlines()
    assert 70 >= max(map(len, plain)) > 60
    assert len(plain) > 3  # wrapped
