"""``celery routines run``, ``backfill``, ``once``, ``reschedule`` and ``cancel``."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from celery import Celery
from commands import Commands

from celery_sqlalchemy_kit.cli import consent, outcome
from celery_sqlalchemy_kit.clock import SettableClock
from celery_sqlalchemy_kit.details import RunDetails
from celery_sqlalchemy_kit.routines import State
from celery_sqlalchemy_kit.testing import ManualBeat

UTC = timezone.utc


@pytest.fixture
def cli(sqlite):
    return Commands(sqlite).migrated()


@pytest.fixture
def report(cli):
    return cli.routines.create("report", "t", 3600, kwargs={"a": 1})


@pytest.fixture
def scheduler(cli):
    """Publishes what was ordered, and returns that."""
    clock = SettableClock(datetime.now(UTC))
    beat = ManualBeat(cli.url, clock)
    beat.start()

    def run():
        clock.set(datetime.now(UTC) + timedelta(seconds=1))
        return beat.run()

    run.finish = beat.finish
    yield run
    beat.engine.dispose()


@pytest.fixture
def ends(scheduler, monkeypatch):
    """While a command waits, runs end in this state."""

    def set_up(state, result=None, app=None):
        def pause(seconds):
            for run in scheduler():
                if app is not None:
                    app.backend.mark_as_done(str(run.id), result)
                scheduler.finish(run, state)

        monkeypatch.setattr(outcome, "pause", pause)

    return set_up


def test_a_routine_is_run_now_and_its_run_told(cli, report, scheduler):
    key = UUID(cli("run", "report", "--note", "again").strip())

    (sent,) = scheduler()
    assert (key, {"a": 1}, "manual") == (sent.id, dict(sent.kwargs), cli.routines.run(key).cause)
    assert ("run", {}, "again") == cli.notes("report")[0]


def test_a_run_may_be_given_other_arguments(cli, report, scheduler):
    args = ("--args", "[1]", "--kwargs", '{"b": 2}', "--options", '{"queue": "q"}')
    key = cli.json("run", str(report.id), *args)["run_id"]

    (sent,) = scheduler()
    assert (key, (1,), {"b": 2}, {"queue": "q"}) == (
        *(str(sent.id), sent.args),
        *(dict(sent.kwargs), dict(sent.options)),
    )


@pytest.mark.parametrize(("state", "code"), [(State.SUCCEEDED, 0), (State.FAILED, 1)])
def test_the_end_of_a_run_is_waited_for(cli, report, ends, state, code):
    ends(state)
    key, told = cli("run", "report", "--wait", code=code).splitlines()

    assert state.value == cli.routines.run(UUID(key)).state
    assert told.startswith(f"{state.value} after 0.")


def test_its_result_is_told_if_there_is_a_result_backend(cli, report, ends):
    cli.app.conf.result_backend = "cache+memory://"
    ends(State.SUCCEEDED, {"rows": 3}, cli.app)

    assert 'result: {"rows": 3}' == cli("run", "report", "--wait").splitlines()[-1]
    told = cli.json("run", "report", "--wait")
    assert ("succeeded", True, {"rows": 3}) == (told["state"], told["ended"], told["result"])


def test_waiting_has_an_end_of_its_own(cli, report):
    told = cli("run", "report", "--wait", "--timeout", "0s", code=1)
    assert told.endswith("\nstill claimed\n")
    told = cli.json("run", "report", "--wait", "--timeout", "10ms", code=1)
    assert ("claimed", False) == (told["state"], told["ended"])


def test_what_overlaps_is_refused(cli):
    cli.routines.create("alone", "t", 3600, overlap="skip")
    cli("run", "alone")

    assert "the run before it is unfinished" in cli.refused("run", "alone")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("run", "nope"), 1, "there is no routine 'nope'"),
        (("run", "report", "--kwargs", "no"), 2, "is no JSON"),
        (("run", "report", "--options", '{"task_id": "1"}'), 1, "task_id"),
        (("run", "report", "--timeout", "5s"), 2, "--timeout is that of --wait"),
        (("run", "report", "--wait", "--timeout", "soon"), 2, "'soon' is no duration"),
        (("backfill", "report"), 2, "--from"),
        (("backfill", "report", "--from", "then"), 2, "'then' is no instant"),
        (("backfill", "nope", "--from", "2026-01-01T00:00Z"), 1, "there is no routine 'nope'"),
        (
            ("backfill", "report", "--from", "2026-01-01T00:00Z", "--to", "2026-12-01T00:00Z"),
            1,
            "more than 1000",
        ),
        (
            ("backfill", "report", "--from", "2026-01-01T00:00Z", "--rate", "0"),
            1,
            "per_second = 0.0",
        ),
        (("backfill", "report", "--from", "2026-01-01T00:00Z", "--limit", "0"), 2, "--limit"),
        (("once", "t", "--at", "now", "--in", "5s"), 2, "exclude each other"),
        (("once", "t", "--args", '{"a": 1}'), 2, "allowed is a JSON array"),
        (("once", "x" * 256), 1, "1 to 255 characters"),
        (("once", "t", "--name", "report"), 1, "taken"),
        (("reschedule", str(uuid4()), "--in", "5s"), 1, "there is no one-off"),
        (("reschedule", "mail"), 2, "give --at or --in"),
        (("reschedule", "mail", "--in", "5m"), 1, "there is no one-off 'mail'"),
        (("reschedule", "report", "--in", "5m"), 1, "there is no one-off 'report': that is"),
        (("cancel", "' OR 1=1 --"), 1, 'there is no one-off "\' OR 1=1 --"'),
        (("cancel", "report"), 1, "there is no one-off 'report': that is a routine"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_ordered(cli, report, args, code, says):
    assert says in cli.refused(*args, code=code)
    assert [] == cli.routines.history()
    assert [report] == cli.routines.list()


def test_a_backfill_is_shown_then_ordered(database):
    cli = Commands(database).migrated()
    cli.routines.create("report", "t", "0 0 * * *")
    args = (
        "backfill",
        "report",
        "--from",
        "2026-01-01T00:00Z",
        "--to",
        "2026-01-31T00:00Z",
        "--note",
        "prices",
    )
    told = cli(*args, "--dry-run").splitlines()

    assert ["2026-01-01 00:00 UTC", "2026-01-10 00:00 UTC"] == [told[0], told[9]]
    assert ["… and 11 more …", "2026-01-22 00:00 UTC"] == told[10:12]
    assert ["2026-01-31 00:00 UTC", "31 occurrences"] == told[-2:]
    assert [] == cli.routines.history("report")

    assert "ordered 31 runs" == cli(*args).splitlines()[-1]
    found = cli.routines.history("report")
    assert datetime(2026, 1, 1, tzinfo=UTC) == min(run.scheduled_for for run in found)
    assert (31, {"backfill"}) == (len(found), {run.cause for run in found})
    assert ("backfill", "prices") == cli.notes("report")[0][::2]
    assert "0 occurrences; 31 left out, as they have run or are going to\n" == cli(*args)
    assert 31 == len(cli.json(*args, "--again")["run_ids"])


def test_a_backfill_without_an_end_goes_up_to_now(cli):
    cli.routines.create("report", "t", "0 * * * *")
    told = cli.json("backfill", "report", "--from", "3h", "--dry-run")
    assert (False, 3, []) == (told["done"], len(told["occurrences"]), told["run_ids"])


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_a_backfill_asks_on_a_terminal(cli, monkeypatch, answer, code):
    monkeypatch.setattr(consent, "_is_terminal", lambda: True)
    cli.routines.create("report", "t", "0 0 * * *")
    args = ("backfill", "report", "--from", "2026-01-01T00:00Z", "--to", "2026-01-03T00:00Z")
    result = cli.call(*args, said=answer)

    assert code == result.exit_code
    assert "Run report for 3 occurrences?" in result.stderr
    assert (3 if code == 0 else 0) == len(cli.routines.history("report"))


def test_a_backfill_of_which_the_schedule_changes_while_it_asks_is_not_ordered(cli, monkeypatch):
    cli.routines.create("report", "t", "0 0 * * *")

    def confirm(*args, **kwargs):
        cli.routines.update("report", schedule="0 1 * * *")
        return True

    monkeypatch.setattr(consent, "_is_terminal", lambda: True)
    monkeypatch.setattr(consent.click, "confirm", confirm)
    args = ("backfill", "report", "--from", "2026-01-01T00:00Z", "--to", "2026-01-03T00:00Z")
    assert "its schedule has changed meanwhile" in cli.refused(*args)
    assert [] == cli.routines.history("report")


def test_a_task_runs_once(database):
    cli = Commands(database).migrated()
    given = ("--args", "[42]", "--kwargs", '{"a": 1}', "--options", '{"queue": "q"}')
    key = UUID(cli("once", "t", *given, "--in", "1h", "--name", "mail").strip())

    pending = cli.routines.get("mail")
    assert (key, "once", [42], {"a": 1}) == (
        pending.id,
        pending.origin,
        pending.args,
        pending.kwargs,
    )
    assert {"queue": "q"} == pending.options
    left = pending.next_run_at - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)

    told = cli.json("reschedule", "mail", "--at", "2100-01-01T09:00:00+01:00")
    assert {"id": str(key), "at": "2100-01-01T08:00:00+00:00"} == told
    assert "mail runs at 2100-01-02 00:00 UTC\n" == cli(
        "reschedule", "mail", "--at", "2100-01-02T00:00Z"
    )
    assert datetime(2100, 1, 2, tzinfo=UTC) == cli.routines.get(key).next_run_at

    assert "cancelled mail\n" == cli("cancel", "mail", "--note", "not needed")
    assert "cancelled" == cli.routines.history(key)[0].reason
    assert ("cancel", {}, "not needed") == cli.notes("mail")[0]


def test_without_a_time_it_runs_now_and_can_then_no_longer_be_put_off(cli, scheduler):
    key = cli.json("once", "t")["id"]
    (run,) = scheduler()
    scheduler.finish(run)

    assert "cannot be put off: its run is succeeded" in cli.refused("reschedule", key, "--in", "5s")


def test_what_is_too_late_to_cancel_fails_and_the_others_are_cancelled(cli, scheduler):
    over, named = cli("once", "t").strip(), cli("once", "t", "--in", "1h", "--name", "mail").strip()
    (run,) = scheduler()
    scheduler.finish(run)

    told = cli("cancel", over, "mail", code=1)
    assert f"too late: {over} has begun, or is over\ncancelled mail\n" == told
    told = cli.json("cancel", over, named, code=1)
    assert {"cancelled": [], "too_late": [over, named]} == told


def test_of_several_to_cancel_none_is_if_one_is_not_there(cli):
    cli("once", "t", "--in", "1h", "--name", "mail")

    assert "there is no one-off 'nope'" in cli.refused("cancel", "mail", "nope")
    assert cli.routines.get("mail").active


def test_a_task_that_the_app_does_not_know_is_a_warning(cli):
    result = cli.call("once", "nosuch", "--in", "1h")

    assert (0, "Warning: this app knows no task 'nosuch'\n") == (result.exit_code, result.stderr)


def test_what_cannot_be_json_is_told_as_python_writes_it():
    told = outcome.Outcome(run_in(State.SUCCEEDED), ended=True, result={1, 2})

    assert ["succeeded", 'result: "{1, 2}"'] == told.lines()
    assert "{1, 2}" == told.to_json()["result"]


def test_why_a_run_has_failed_is_told():
    failed = run_in(State.FAILED, reason="r", error="a\nb")

    assert ["failed", "reason: r", "error: a", "error: b"] == outcome.Outcome(failed, True).lines()


def test_an_outage_while_a_run_is_waited_for_is_waited_out_and_said_once(capsys, monkeypatch):
    monkeypatch.setattr(outcome, "pause", lambda seconds: None)
    away = sa.exc.OperationalError("", {}, sqlite3.OperationalError("unable to open database file"))
    answers = iter([away, away, run_in(State.SUCCEEDED)])

    class Routines:
        def run(self, key):
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    app = Celery(set_as_current=False)
    assert outcome.await_end(Routines(), app, uuid4(), timedelta(seconds=30)).succeeded
    told = capsys.readouterr().err
    assert "Warning: the database does not answer; waiting goes on\n" == told


def run_in(state, **values):
    of = {"id": uuid4(), "routine_id": uuid4(), "routine_name": "r", "namespace": "", "task": "t"}
    of |= {"args": [], "kwargs": {}, "options": {}, "cause": "manual", "state": state.value}
    return RunDetails(scheduled_for=datetime.now(UTC), **of, **values)
