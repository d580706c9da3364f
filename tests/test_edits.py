from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import ConflictError, NotFoundError, RoutineError, ScheduleError, tables
from celery_sqlalchemy_kit.client import Wanted
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.schedules import parse

UTC = timezone.utc
MINUTE = timedelta(minutes=1)


@pytest.fixture
def made(beat, routines):
    """A scheduler, and a routine that somebody has made."""
    scheduler = beat()
    routines.create("report", "reports.build", 60, kwargs={"full": True})
    scheduler.run()
    return scheduler


def test_what_is_made_is_run_with_what_was_said(beat, routines, clock):
    scheduler = beat()
    said = {
        "args": (1,),
        "kwargs": {"a": "ä"},
        "options": {"queue": "slow"},
        "catch_up": "all",
        "overlap": "queue",
        "jitter": timedelta(seconds=2),
        "starts_at": clock.now(),
        "ends_at": clock.now() + timedelta(days=1),
        "max_runs": 7,
        "description": "builds",
    }
    made = routines.create("report", "reports.build", timedelta(minutes=1), **said)

    assert made == routines.get("report") == routines.get(made.id)
    assert (made.schedule, made.origin, made.active) == (parse(60), "db", True)
    assert made.to_json() | {"args": [1], "jitter": 2.0, "words": "every 60 s"} == made.to_json()
    scheduler.run()
    clock.set(routines.next_runs("report", 1)[0])
    (run,) = scheduler.run()
    assert (run.task, run.args, run.kwargs) == ("reports.build", (1,), {"a": "ä"})
    assert run.options == {"queue": "slow"}


def test_a_name_is_taken_once_and_may_be_updated_or_kept(made, routines):
    with pytest.raises(ConflictError, match="there is a routine 'report' already"):
        routines.create("report", "other", 5)

    assert routines.create("report", "other", 5, if_exists="keep").task == "reports.build"
    updated = routines.create("report", "other", 5, if_exists="update")
    assert (updated.task, updated.schedule, updated.kwargs) == ("other", parse(5), {"full": True})
    with pytest.raises(RoutineError, match="allowed are error, update and keep"):
        routines.create("report", "other", 5, if_exists="replace")
    assert routines.create("Report", "other", 5).name == "Report"


def test_a_change_of_the_schedule_is_obeyed_and_the_rest_stays(made, routines, clock):
    routines.update("report", schedule=5, note="more often")

    made.run()
    clock.set(routines.get("report").next_run_at)
    (run,) = made.run()
    assert run.kwargs == {"full": True}
    change, _ = routines.changes("report")
    assert (change.action, change.note, change.changed_by) == ("update", "more often", "ada@desk")
    assert change.changes == {"schedule": ({"timedelta": 60}, {"timedelta": 5})}


def test_a_routine_keeps_its_name(made, routines):
    with pytest.raises(RoutineError, match="unknown field 'name'"):
        routines.update("report", name="other")
    assert ["report"] == [routine.name for routine in routines.list()]


def test_a_note_that_not_every_database_takes_is_kept_with_escapes(made, routines):
    routines.disable("report", note="a\0b\ud800ü")

    assert "a\\x00b\\ud800ü" == routines.changes("report")[0].note


def test_what_is_the_same_already_is_no_change(made, routines):
    before = routines.get("report")

    assert routines.update("report", schedule=60, kwargs={"full": True}) == before
    assert routines.update("report") == before
    assert ["create"] == [change.action for change in routines.changes()]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"schedule": "0 25 * * *"}, "25"),
        ({"schedule": None}, "no schedule"),
        ({"overlap": "never"}, "overlap = 'never': allowed is one of allow, skip, queue"),
        ({"jitter": -1}, "jitter = '-1': allowed are seconds"),
        ({"kwargs": [1]}, "kwargs = .*allowed is a dict"),
        ({"kwargs": {"a": {1, 2}}}, "kwargs = .*is no JSON"),
        ({"args": "abc"}, "args = 'abc': allowed is a list"),
        ({"args": [float("nan")]}, "args = .*is no JSON"),
        ({"options": {"task_id": "x"}}, "options: task_id cannot be set"),
        ({"kwargs": {"a": "\ud800"}}, "kwargs = .*allowed is no half a surrogate"),
        ({"task": ""}, "task = '': allowed is a text of 1 to 255 characters"),
        ({"task": "x" * 256}, "allowed is a text of 1 to 255 characters"),
        ({"task": "a\0b"}, r"task = 'a\\x00b': allowed is a text of .* without NUL"),
        ({"task": "\ud800"}, r"task = '\\ud800': allowed is a text of .* or half a surrogate"),
        ({"description": 5}, "description = 5: allowed is a text"),
        ({"description": "a\0b"}, r"description = 'a\\x00b': allowed is a text without NUL"),
        ({"description": "ü" * 32_768}, "allowed is a text of at most 65535 octets"),
        ({"active": "no"}, "active = 'no': allowed is true or false"),
        ({"max_runs": 1.5}, "max_runs = 1.5: allowed is a whole number"),
        ({"max_runs": True}, "max_runs = True"),
        ({"max_runs": 2**31}, "max_runs = 2147483648: allowed is a whole number from 0 to 2147483647"),
        ({"starts_at": datetime(2026, 1, 1)}, "starts_at = .*with a time zone"),
        (
            {"starts_at": datetime(2026, 1, 2, tzinfo=UTC), "ends_at": datetime(2026, 1, 1, tzinfo=UTC)},
            "ends_at = .*no instant before starts_at",
        ),
        ({"next_run_at": None}, "unknown field 'next_run_at'; allowed are task, schedule"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_cannot_be_scheduled_is_refused_and_nothing_changes(routines, made, said, told):
    before = routines.get("report")
    schedule = said.get("schedule", 60)
    rest = {name: value for name, value in said.items() if name not in ("task", "schedule")}

    with pytest.raises((RoutineError, ScheduleError), match=told):
        routines.update("report", **said)
    with pytest.raises((RoutineError, ScheduleError), match=told):
        routines.create("other", said.get("task", "t"), schedule, **rest)

    assert before == routines.get("report")
    assert ["report"] == [routine.name for routine in routines.list()]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_tasks_that_the_settings_do_not_allow_are_refused(routines, made, app, clock):
    from celery_sqlalchemy_kit.client.verbs import Verbs

    app.conf.scheduler_allowed_tasks = ["reports.*"]
    routines.verbs = Verbs(app, "ada", clock)

    with pytest.raises(RoutineError, match="scheduler_allowed_tasks allows reports"):
        routines.create("evil", "os.system", 5)
    with pytest.raises(RoutineError, match="scheduler_allowed_tasks"):
        routines.once("os.system")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_row_that_cannot_be_read_is_shown_and_healed(routines, made, database):
    engine = sa.create_engine(database, future=True)
    broken = {"name": "broken", "task": "t", "schedule": "{nonsense", "jitter": 0}
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO routines (name, task, schedule, kwargs) VALUES (:n, 't', :s, '{x')"
            ),
            {"n": "broken", "s": broken["schedule"]},
        )
    engine.dispose()

    shown = routines.get("broken")
    assert (shown.schedule, shown.schedule_json, shown.kwargs) == (None, "{nonsense", "{x")
    assert "not JSON" in shown.error
    assert shown.words == "unreadable"
    healed = routines.update("broken", schedule=5, kwargs={})
    assert (healed.schedule, healed.error) == (parse(5), None)


def test_patterns_switch_what_they_match_and_tell_what_was_so_already(made, routines, clock):
    for name in ("report.daily", "report.weekly", "tidy"):
        routines.create(name, "t", 60, active=name != "report.weekly")

    assert routines.disable("report*", note="until fixed") == ["report", "report.daily"]
    assert routines.disable("report.*") == []
    off = [routine.name for routine in routines.list(Wanted(active=False))]
    assert off == ["report", "report.daily", "report.weekly"]
    made.run()
    clock.set(routines.get("tidy").next_run_at)
    assert ["tidy"] == [run.routine_name for run in made.run()]
    assert routines.enable("report", "tidy") == ["report"]
    noted = [change.routine_name for change in routines.changes() if change.note]
    assert sorted(noted) == ["report", "report.daily", "report.weekly"]


def test_no_name_is_switched_if_one_of_them_is_nobodys(made, routines):
    with pytest.raises(NotFoundError, match="no routine matches 'x\\*'"):
        routines.disable("report", "x*")
    with pytest.raises(NotFoundError, match="there is no routine 'reprot'; there is 'report'"):
        routines.disable("report", "reprot")

    assert routines.get("report").active


def test_what_was_removed_comes_back_as_it_was(made, routines, clock):
    before = routines.update("report", schedule={"minute": 5}, active=False)
    routines.delete("report", note="old")
    with pytest.raises(NotFoundError):
        routines.get("report")
    with pytest.raises(NotFoundError, match="no routine 'other' has been removed"):
        routines.restore("other")

    restored = routines.restore("report")
    assert (restored.id, restored.schedule, restored.active) == (before.id, before.schedule, False)
    with pytest.raises(ConflictError):
        routines.restore("report")
    actions = [change.action for change in routines.changes("report")]
    assert actions == ["restore", "delete", "update", "create"]


def test_what_a_running_scheduler_declares_is_not_removed_unless_forced(beat, routines):
    beat(Declared("poll", "poll", parse(5)))

    with pytest.raises(ConflictError, match="declared in the code of a running scheduler"):
        routines.delete("poll")
    assert routines.delete("poll", force=True).name == "poll"


def test_routines_are_listed_by_what_they_are(made, routines):
    routines.create("Report", "other", 60)
    routines.create("a_b", "t", 60, active=False)
    routines.create("aXb", "t", 60)
    routines.once("t")

    def names(*patterns, **wanted):
        return [each.name for each in routines.list(Wanted(patterns, **wanted))]

    assert sorted(names()) == ["Report", "aXb", "a_b", "report"]
    assert names("report") == ["report"]
    assert names("r*") == ["report"]
    assert names("a_b") == ["a_b"]
    assert sorted(names("a?b")) == ["aXb", "a_b"]
    assert names("[a]_*") == ["a_b"]
    assert names(tasks=["t"], active=True) == ["aXb"]
    assert names(origin="code") == names(troubled=True) == []
    assert len(names(one_offs=None)) == 1
    assert len(names(one_offs=True)) == 5


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_long_list_is_read_page_by_page(routines, made, monkeypatch):
    from celery_sqlalchemy_kit.store import routine_list

    monkeypatch.setattr(routine_list, "PAGE", 3)
    for n in range(10):
        routines.create(f"r{n}", "t", 60)

    everything = [routine.name for routine in routines.list()]
    assert everything == sorted(["report", *(f"r{n}" for n in range(10))])
    first = [routine.name for routine in routines.list(limit=4)]
    rest = [routine.name for routine in routines.list(after=first[-1])]
    assert (first, rest) == (everything[:4], everything[4:])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_namespaces_do_not_see_each_other(routines, made, app, clock):
    from celery_sqlalchemy_kit.client.verbs import Verbs

    key = routines.get("report").id
    app.conf.scheduler_namespace = "other"
    routines.verbs = Verbs(app, "ada", clock)

    assert routines.list() == []
    for asked in ("report", key):
        with pytest.raises(NotFoundError):
            routines.get(asked)
    with pytest.raises(NotFoundError):
        routines.history("report")
    assert routines.create("report", "t", 5).namespace == "other"


def test_old_changes_are_pruned_with_old_runs(made, routines, clock):
    now = clock.now()
    engine = made.engine
    with engine.begin() as connection:
        long_ago = now - timedelta(days=400)
        connection.execute(tables.changes.update().values(changed_at=long_ago))
    routines.update("report", schedule=5)

    made.store.prune(now, now - timedelta(days=365), limit=10)

    assert ["update"] == [change.action for change in routines.changes()]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_id_of_nobody_is_told(routines, made):
    with pytest.raises(NotFoundError, match="there is no routine"):
        routines.get(uuid4())
