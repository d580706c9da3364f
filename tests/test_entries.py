"""Several routines of one task, and what is refused where a task is defined."""

from __future__ import annotations

import logging

import pytest
from celery import Celery

from celery_sqlalchemy_kit import After, AsyncTask, DeclarationError, SyncTask, routine
from celery_sqlalchemy_kit.registrar import declared
from celery_sqlalchemy_kit.schedules import parse

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests")


@pytest.fixture
def app():
    app = Celery(broker="memory://", backend="cache+memory://", set_as_current=False)
    yield app
    app.close()


def found(app, timezone="UTC"):
    return {each.name: each for each in declared(app, timezone)}


def run(*args, **kwargs):
    pass


def declare(**attributes):
    return type("Report", (SyncTask,), {"name": "report", "run": run, **attributes})


@pytest.mark.parametrize("kind", [list, tuple])
def test_each_schedule_of_a_list_is_a_routine_named_by_it(app, kind):
    declare(schedule=kind([15, "0 9 * * *"]), kwargs={"x": 1}, options={"queue": "slow"})

    routines = found(app)

    assert {
        'report {"timedelta": 15}': parse(15),
        'report {"cron": "0 9 * * *"}': parse("0 9 * * *"),
    } == {name: each.schedule for name, each in routines.items()}
    for each in routines.values():
        assert ("report", {"x": 1}, {"queue": "slow"}) == (each.task, each.kwargs, each.options)


def test_the_order_in_a_list_and_the_way_a_schedule_is_written_do_not_name_another_routine(app):
    declare(schedule=[{"hour": 9, "minute": 0}, 15])
    one = set(found(app))
    declare(schedule=[15.0, {"minute": 0, "hour": 9}])

    assert one == set(found(app))


def test_a_list_of_one_is_named_as_the_others_are(app):
    declare(schedule=[15])

    assert ['report {"timedelta": 15}'] == list(found(app))


def test_a_list_of_a_function_and_of_beat_schedule(app):
    @routine(schedule=[15, After(5)], name="tidy")
    def tidy():
        pass

    app.conf.beat_schedule = {"nightly": {"task": "report", "schedule": [30, 60]}}

    assert [
        'nightly {"timedelta": 30}',
        'nightly {"timedelta": 60}',
        'tidy {"after": 5}',
        'tidy {"timedelta": 15}',
    ] == sorted(found(app))


def test_routines_with_names_of_their_own_share_what_they_do_not_say(app):
    class Report(AsyncTask):
        name = "report"
        routines = {
            "north": {"schedule": 15, "args": [1], "kwargs": {"region": "north"}},
            "south": {"schedule": [30, 60], "options": {"queue": "slow"}},
        }
        args = (0,)
        kwargs = {"region": "all"}

        async def execute(self, *args, **kwargs):
            pass

    routines = found(app)

    assert {
        "north": ((1,), {"region": "north"}, {}),
        'south {"timedelta": 30}': ((0,), {"region": "all"}, {"queue": "slow"}),
        'south {"timedelta": 60}': ((0,), {"region": "all"}, {"queue": "slow"}),
    } == {name: (each.args, each.kwargs, each.options) for name, each in routines.items()}
    assert {"report"} == {each.task for each in routines.values()}


def test_routines_with_names_of_their_own_besides_the_tasks_schedule(app):
    @routine(schedule=15, name="tidy", routines={"weekly": {"schedule": "@weekly"}})
    def tidy():
        pass

    assert {"tidy", "weekly"} == set(found(app))


def test_routines_alone_make_a_class_a_task(app):
    class Report(SyncTask):
        routines = {"north": {"schedule": 15}}

        def run(self):
            pass

    (north,) = found(app).values()
    assert app.tasks[north.task].routines == Report.routines


def test_a_name_that_two_tasks_give_is_told(app, caplog):
    declare(routines={"north": {"schedule": 15}})
    declare(name="other", routines={"north": {"schedule": 30}})

    with caplog.at_level(logging.WARNING):
        (north,) = found(app).values()

    assert "'north' is declared twice, for" in caplog.text
    assert "the last is taken" in caplog.text
    assert north.task in {"report", "other"}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"schedule": [15, "61 * * * *"]}, "task 'report': schedule .*minute \"61\".*0-59"),
        ({"schedule": []}, r"task 'report': schedule \[\]: is no schedule; allowed"),
        ({"schedule": [[15]]}, r"task 'report': schedule \[15\]: is no schedule; allowed"),
        ({"routines": {"north": {}}}, r"'report': routines\['north'\]: schedule null.*allowed"),
        ({"routines": [15]}, r"task 'report': routines = \[15\]: allowed is a dict of dicts"),
        ({"routines": {"north": 15}}, r"routines\['north'\] = 15: allowed is a dict"),
        (
            {"routines": {"north": {"schedule": 15, "cron": 1}}},
            r"routines\['north'\]: unknown key 'cron'; allowed are schedule, args, kwargs, options",
        ),
        (
            {"routines": {"north": {"schedule": {"hour": 25}}}},
            r"routines\['north'\]: .*hour 25; allowed are 0-23",
        ),
    ],
)
def test_what_is_wrong_is_said_where_the_task_is_defined(attributes, said):
    with pytest.raises(DeclarationError, match=said):
        declare(**attributes)


def test_a_name_that_gets_too_long_is_refused_with_what_to_do(app):
    minutes, days = (",".join(map(str, range(1, n))) for n in (60, 32))
    declare(schedule=[f"{minutes} * {days} * *"])

    with pytest.raises(DeclarationError, match=r"more than 255 characters.*routines"):
        found(app)


@pytest.mark.parametrize("schedule", ["0 9 * * *", {"hour": 9}, [{"cron": "0 9 * * *"}]])
def test_the_zone_is_the_apps(app, schedule):
    declare(schedule=schedule)

    (report,) = found(app, "Europe/Berlin").values()

    assert "Europe/Berlin" == report.schedule.zone
