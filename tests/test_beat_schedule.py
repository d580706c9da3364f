"""A beat_schedule as definitions."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule, solar
from hypothesis import given
from hypothesis import strategies as st
from strategies import properties

from celery_sqlalchemy_kit import After, schedules
from celery_sqlalchemy_kit.config import zone_name
from celery_sqlalchemy_kit.exchange import Definition, beat_schedule
from celery_sqlalchemy_kit.routines import CatchUp


class Odd(schedule):
    """Of a class of the user's own."""


@pytest.fixture
def app():
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.timezone = "Europe/Berlin"
    yield app
    app.close()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (30, 30),
        (30.5, 30.5),
        (timedelta(minutes=1), 60),
        (schedule(60), 60),
        (crontab(minute=0, hour=9), {"minute": 0, "hour": 9}),
        (solar("sunset", 52.5, 13.4), {"solar": "sunset", "latitude": 52.5, "longitude": 13.4}),
        ("0 9 * * *", {"cron": "0 9 * * *"}),
        (After(5), {"after": 5}),
    ],
)
def test_schedules_as_they_stand_in_code(said, expected):
    found = beat_schedule.read({"a": {"task": "t", "schedule": said}})

    assert ([Definition("a", "t", schedules.parse(expected))], []) == found


def test_what_an_entry_says():
    entry = {
        "task": "t",
        "schedule": 30,
        "args": (1, (2, 3)),
        "kwargs": {"x": 1},
        "options": {"queue": "slow"},
        "relative": False,
    }
    expected = Definition(
        "a", "t", schedules.parse(30), args=(1, [2, 3]), kwargs={"x": 1}, options={"queue": "slow"}
    )

    assert ([expected], []) == beat_schedule.read({"a": entry})
    assert CatchUp.LATEST is expected.catch_up


def test_entries_of_an_app(app):
    @app.on_after_configure.connect
    def declare(sender, **_):
        sender.add_periodic_task(30, app.signature("proj.poll"), name="poll")

    app.conf.beat_schedule = {"nightly": {"task": "t", "schedule": crontab(minute=0, hour=9)}}
    app.finalize()
    app.on_after_configure.send(app)

    found = {
        e.name: e for e in beat_schedule.read(app.conf.beat_schedule, zone_name(app)).definitions
    }

    assert {"nightly", "poll"} == set(found)
    assert "Europe/Berlin" == found["nightly"].schedule.zone


def test_an_entry_that_is_an_object(app):
    entry = ScheduleEntry("a", "t", schedule=30, args=(1,), options={"queue": "q"}, app=app)
    expected = Definition("a", "t", schedules.parse(30), args=(1,), options={"queue": "q"})

    assert ([expected], []) == beat_schedule.read({"a": entry})


def test_a_list_of_schedules_is_a_routine_each():
    found = beat_schedule.read({"a": {"task": "t", "schedule": [30, 60]}})

    assert ['a {"timedelta": 30}', 'a {"timedelta": 60}'] == [e.name for e in found.definitions]


@pytest.mark.parametrize("nothing", [None, {}])
def test_nothing_is_nothing(nothing):
    assert ([], []) == beat_schedule.read(nothing)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"task": "t", "schedule": 30, "relative": True}, "relative cannot be kept; use a crontab"),
        ({"task": "t", "schedule": schedule(30, relative=True)}, "relative=True cannot be kept"),
        ({"task": "t", "schedule": crontab(nowfun=datetime.now)}, "nowfun cannot be kept"),
        ({"task": "t", "schedule": Odd(30)}, "is no schedule; allowed are"),
        ({"task": "t"}, "schedule null: is no schedule"),
        ({"schedule": 30}, "task = None: allowed are 1 to 255 characters"),
        ({"task": "t", "schedule": 30, "enabled": True}, "unknown key 'enabled'; allowed are task,"),
        ({"task": "t", "schedule": 30, "args": {1}}, "args = {1}: allowed is a list or a tuple"),
        ({"task": "t", "schedule": 30, "kwargs": {"a": object}}, "is no JSON"),
        (
            {"task": "t", "schedule": 30, "options": {"expires": datetime(2026, 1, 1, tzinfo=timezone.utc)}},
            "is no JSON",
        ),
        ({"task": "t", "schedule": 30, "options": {"task_id": "x"}}, "options: task_id cannot be set"),
        ({"task": "t", "schedule": 30, "options": {"headers": [1]}}, "allowed is a mapping as headers"),
        (15, "task = None"),
        (None, "task = None"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_told_and_the_rest_is_taken(entry, problem):
    found = beat_schedule.read({"odd": entry, "a": {"task": "t", "schedule": 30}})

    assert [Definition("a", "t", schedules.parse(30))] == found.definitions
    (told,) = found.problems
    assert told.startswith("'odd': ")
    assert problem in told


THINGS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        [object(), {1: 2}, {"a": {1}}, [[]], (), crontab(), Odd(1), timedelta.max, b"x"]
    ),
)


@properties
@given(
    entry=THINGS
    | st.dictionaries(
        st.sampled_from([*beat_schedule.KEYS, "more", 5]),
        THINGS | st.lists(THINGS, max_size=2),
    )
)
def test_whatever_an_entry_holds_the_others_are_read(entry):
    found = beat_schedule.read({"odd": entry, "a": {"task": "t", "schedule": 30}})

    assert "a" == found.definitions[-1].name
    assert len(found.definitions) > 1 or found.problems
