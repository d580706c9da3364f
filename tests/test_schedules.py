"""Schedules as values: what is read, what is refused, what is written, how intervals reckon."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab as celery_crontab
from celery.schedules import schedule as celery_schedule
from hypothesis import given
from hypothesis import strategies as st
from strategies import instants, intervals, properties

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import (
    Crontab,
    Interval,
    from_json,
    loads,
    parse,
    rewritten,
    to_celery,
)
from celery_sqlalchemy_kit.schedules.schedule import shown

UTC = timezone.utc
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


class OwnSchedule(celery_schedule):
    """A schedule class of a user's own."""


class OwnCrontab(celery_crontab):
    """A crontab class of a user's own."""


def named(value):
    """The id of a case: the same in every process, so without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", shown(value))


def crontab_in(zone, **fields):
    made = celery_crontab(**fields)
    made.tz = zone
    return made


# -- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (15, {"timedelta": 15}),
        (15.0, {"timedelta": 15}),
        (0.5, {"timedelta": 0.5}),
        (0.01, {"timedelta": 0.01}),
        (3_155_760_000, {"timedelta": 3_155_760_000}),
        (timedelta(minutes=5), {"timedelta": 300}),
        (timedelta(days=1, microseconds=1), {"timedelta": 86400.000001}),
        (celery_schedule(30), {"timedelta": 30}),
        (celery_schedule(timedelta(hours=1)), {"timedelta": 3600}),
        ({"timedelta": 1.5}, {"timedelta": 1.5}),
        (Interval(timedelta(seconds=3)), {"timedelta": 3}),
        ({"minute": "*"}, {"minute": "*"}),
        ({"hour": 9, "minute": "0"}, {"hour": 9, "minute": "0"}),
        ({"minute": [30, 0]}, {"minute": [30, 0]}),
        ({"minute": (0, "30-40/5")}, {"minute": [0, "30-40/5"]}),
        ({"minute": 0, "timezone": "Europe/Berlin"}, {"minute": 0, "timezone": "Europe/Berlin"}),
        (celery_crontab(), {"minute": "*"}),
        (celery_crontab(minute=0, hour="9-17"), {"minute": 0, "hour": "9-17"}),
        (celery_crontab(minute={30, 0}), {"minute": [0, 30]}),
        (celery_crontab(minute=range(0, 60, 20)), {"minute": [0, 20, 40]}),
        (celery_crontab(minute=iter((5, 7))), {"minute": [5, 7]}),
        (celery_crontab(minute=[30, 0]), {"minute": [30, 0]}),
        (celery_crontab(hour=3, day_of_week="mon"), {"hour": 3, "day_of_week": "mon"}),
        (crontab_in(BERLIN, minute=0), {"minute": 0, "timezone": "Europe/Berlin"}),
        (crontab_in("Asia/Tokyo", minute=0), {"minute": 0, "timezone": "Asia/Tokyo"}),
        (crontab_in(SimpleNamespace(zone="Asia/Tokyo")), {"minute": "*", "timezone": "Asia/Tokyo"}),
        (crontab_in(timezone(timedelta(hours=2)), minute=0), {"minute": 0}),
    ],
    ids=named,
)  # fmt: skip
def test_a_value_from_code_is_stored_as(value, stored):
    written = parse(value).to_json()

    assert json.dumps(stored) == json.dumps(written)
    assert parse(value) == from_json(json.loads(json.dumps(written)))


def test_the_zone_that_a_celery_crontab_took_from_its_app_is_not_stored():
    """Celery keeps both in one place; a zone equal to the default is taken for the app's."""
    assert {"minute": 0} == parse(crontab_in(BERLIN, minute=0), timezone="Europe/Berlin").to_json()
    named_utc = parse(crontab_in(UTC, minute=0), timezone="Europe/Berlin")
    assert {"minute": 0, "timezone": "UTC"} == named_utc.to_json()


@pytest.mark.parametrize("value", [{"timedelta": 15}, {"minute": 0, "hour": [9, 17]}])
def test_what_to_json_gives_is_the_callers_own(value):
    schedule = from_json(value)
    schedule.to_json().clear()
    for part in schedule.to_json().values():
        if isinstance(part, list):
            part.append(3)

    assert value == schedule.to_json()


# -- refusing ---------------------------------------------------------------------------------

CRONTAB_KEYS = "minute, hour, day_of_week, day_of_month, month_of_year, timezone"
TABLE = (
    'allowed are {"timedelta": seconds}, {"cron": "0 9 * * MON-FRI"}, {"once": instant}, {"solar": '
)
CODE = "a number of seconds, a timedelta, a cron string, "
BOUNDS = "allowed are 0.01 to 3155760000 seconds (100 years)"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"minuts": 5}, f"schedule {{\"minuts\": 5}}: unknown key 'minuts'; {TABLE}"),
        ({"minute": 5, "huor": 3}, f"unknown key 'huor'; allowed are {CRONTAB_KEYS}"),
        ({"minute": 5, 3: 3}, "unknown key 3"),
        ({"minuts" * 1000: 5}, "unknown key 'minutsminuts"),
        ({"minute": 5, "x" * 5000: 3}, "unknown key 'xxx"),
        ({"timedelta": 5, "x" * 5000: 3}, "unknown key 'xxx"),
        ({"\ud800": 1}, "unknown key '\\ud800'"),
        ({"minute": "\ud800\0"}, 'minute "\\ud800\\u0000"'),
        ({}, "schedule {}: says no time"),
        ({"timezone": "UTC"}, "says no time"),
        ({"timedelta": 15, "minute": 3}, "unknown key 'minute'; allowed are timedelta"),
        ({"timedelta": True}, f"a number of seconds; {BOUNDS}"),
        ({"timedelta": "15"}, f'schedule {{"timedelta": "15"}}: an interval is a number of seconds; {BOUNDS}'),
        ({"timedelta": None}, "a number of seconds"),
        ({"timedelta": math.nan}, f"out of bounds; {BOUNDS}"),
        ({"timedelta": math.inf}, f"out of bounds; {BOUNDS}"),
        ({"timedelta": 10**400}, f"out of bounds; {BOUNDS}"),
        ({"timedelta": -(10**400)}, f"out of bounds; {BOUNDS}"),
        ({"timedelta": 3_155_760_001}, f"out of bounds; {BOUNDS}"),
        ({"timedelta": 0.0099}, f"out of bounds; {BOUNDS}"),
        ({"timedelta": 0}, f"out of bounds; {BOUNDS}"),
        ({"timedelta": -15}, f"out of bounds; {BOUNDS}"),
        ({"hour": 25}, 'schedule {"hour": 25}: hour 25; allowed are 0-23, as a number, a text'),
        ({"minute": 60}, "minute 60; allowed are 0-59"),
        ({"minute": -1}, "minute -1; allowed are 0-59"),
        ({"day_of_month": 0}, "day_of_month 0; allowed are 1-31"),
        ({"month_of_year": 13}, "month_of_year 13; allowed are 1-12 or jan-dec"),
        ({"day_of_week": 7}, "day_of_week 7; allowed are 0-6 or sun-sat"),
        ({"day_of_week": "jan"}, 'day_of_week "jan"; allowed are 0-6 or sun-sat'),
        ({"month_of_year": "mon"}, 'month_of_year "mon"'),
        ({"minute": "mon"}, 'minute "mon"'),
        ({"minute": "*/0"}, 'minute "*/0"'),
        ({"minute": "5/10"}, 'minute "5/10"'),
        ({"minute": "*/15 junk"}, 'minute "*/15 junk"'),
        ({"minute": "1-2-3"}, 'minute "1-2-3"'),
        ({"minute": "1,,2"}, 'minute "1,,2"'),
        ({"minute": "1_0"}, 'minute "1_0"'),
        ({"minute": "٥"}, 'minute "٥"'),
        ({"minute": ""}, 'minute ""'),
        ({"minute": []}, "minute []"),
        ({"minute": [60]}, "minute [60]"),
        ({"minute": [[1]]}, "minute [[1]]"),
        ({"minute": {0}}, "minute {0}"),
        ({"minute": True}, "minute true"),
        ({"minute": 5.0}, "minute 5.0"),
        ({"minute": None}, "minute null"),
        ({"minute": 10**5000}, "minute "),
        ({"minute": "1," * 100_000 + "1"}, "minute "),
        ({"minute": [1] * 100_000}, "minute "),
        ({"minute": ["1," * 200 + "1"] * 400}, "minute "),
        ({"day_of_month": 31, "month_of_year": 2}, "never matches: month_of_year 2 has no day_of_month 31"),
        ({"day_of_month": "30", "month_of_year": "feb"}, 'never matches: month_of_year "feb" has no day_of_month "30"'),
        ({"day_of_month": 31, "month_of_year": [4, 6, 9, 11, 2]}, "never matches"),
        ({"minute": 0, "timezone": "Europe/Atlantis"}, 'unknown time zone "Europe/Atlantis"'),
        ({"minute": 0, "timezone": "Europe"}, 'unknown time zone "Europe"'),
        ({"minute": 0, "timezone": "../../etc/passwd"}, 'unknown time zone "../../etc/passwd"'),
        ({"minute": 0, "timezone": "/etc/localtime"}, 'unknown time zone "/etc/localtime"'),
        ({"minute": 0, "timezone": "x" * 5000}, "unknown time zone"),
        ({"minute": 0, "timezone": "a\0b"}, "unknown time zone"),
        ({"minute": 0, "timezone": ""}, 'unknown time zone ""'),
        ({"minute": 0, "timezone": None}, "unknown time zone null"),
        ({"minute": 0, "timezone": 1}, "unknown time zone 1"),
        (None, f"schedule null: is no schedule; {TABLE}"),
        (15, "schedule 15: is no schedule"),
        ("0 9 * * *", 'schedule "0 9 * * *": is no schedule'),
        ([], "schedule []: is no schedule"),
    ],
    ids=named,
)  # fmt: skip
def test_a_value_of_the_table_that_is_no_schedule_is_refused_with_what_is_allowed(value, says):
    with pytest.raises(ScheduleError) as caught:
        from_json(value)

    assert says in str(caught.value)
    assert len(str(caught.value).encode()) < 1000
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (True, "schedule true: an interval is a number of seconds"),
        (timedelta(0), f"out of bounds; {BOUNDS}"),
        (timedelta(days=-1), "out of bounds"),
        (timedelta.max, "out of bounds"),
        (math.nan, "out of bounds"),
        (None, f"schedule null: is no schedule; allowed are {CODE}"),
        ("15", 'schedule "15": allowed are five fields, minute, hour, day of month, month and day of week'),
        ("", 'schedule "": allowed are five fields'),
        (b"0 9 * * *", "is no schedule"),
        (datetime(2026, 1, 1).date(), "is no schedule"),
        ((0, 9), "is no schedule"),
        (object(), "is no schedule"),
        (OwnSchedule(15), "is no schedule"),
        (OwnCrontab(minute=0), "is no schedule"),
        (celery_schedule(15, relative=True), "relative=True cannot be kept"),
        (celery_schedule(None), "run_every is None"),
        (celery_crontab(minute=0, nowfun=lambda: NOON), "nowfun cannot be kept"),
        (celery_crontab(minute=[True]), "minute [true]"),
    ],
    ids=named,
)  # fmt: skip
def test_a_value_from_code_that_is_no_schedule_is_refused_with_what_is_allowed(value, says):
    with pytest.raises(ScheduleError) as caught:
        parse(value)

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "value",
    [
        {"minute": 0},
        celery_crontab(),
        from_json({"minute": 0}),
        "0 9 * * *",
        {"cron": "0 9 * * *"},
        parse("0 9 * * *"),
        datetime(2026, 1, 1),
    ],
    ids=named,
)
def test_an_unknown_default_zone_is_refused(value):
    with pytest.raises(ScheduleError, match='unknown time zone "Europe/Atlantis"'):
        parse(value, timezone="Europe/Atlantis")


def test_an_unknown_default_zone_does_not_matter_to_what_needs_none():
    assert {"timedelta": 3} == parse(3, timezone="Europe/Atlantis").to_json()
    assert "UTC" == parse({"minute": 0, "timezone": "UTC"}, timezone="Europe/Atlantis").zone


# -- JSON text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"minute": 0', "not JSON"),
        ("[" * 9000, "not JSON"),
        ('{"timedelta": ' + "1" * 9000 + "}", "schedule "),
        ('{"minute": "' + "1," * 9000 + '1"}', "longer than 10000 characters"),
        ('{"timedelta": NaN}', "out of bounds"),
        ('{"timedelta": 1e999}', "out of bounds"),
        ("null", "is no schedule"),
    ],
    ids=lambda text: text[:30],
)
def test_text_that_is_no_schedule_is_refused(text, says):
    with pytest.raises(ScheduleError, match=says) as caught:
        loads(text, "UTC")

    assert len(str(caught.value)) < 1000


def test_the_same_text_and_zone_give_the_same_object():
    text = '{"minute": 0, "hour": 9}'

    assert loads(text, "UTC") is loads(text, "UTC")
    assert loads(text, "UTC") is not loads(text, "Europe/Berlin")
    assert loads(text, "UTC") == from_json({"minute": 0, "hour": 9})


# -- equality ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"timedelta": 15}, {"timedelta": 15.0}),
        ({"minute": 0}, {"minute": "0"}),
        ({"minute": 0}, {"minute": [0]}),
        ({"minute": 0}, {"minute": 0, "hour": "*"}),
        ({"minute": 0, "hour": 9}, {"hour": 9, "minute": 0}),
        ({"minute": "*/30"}, {"minute": "0,30"}),  # the hour is a wildcard in both
        ({"day_of_week": "mon-fri"}, {"day_of_week": "Monday, 2, wed-5"}),
        ({"day_of_week": "tues,thurs"}, {"day_of_week": "2,4"}),  # three letters count
        ({"every": 1.5, "period": "minutes"}, {"timedelta": 90}),
        ({"month_of_year": "nov-feb"}, {"month_of_year": [1, 2, 11, 12]}),
        ({"hour": "22-3/2"}, {"hour": [22, 0, 2]}),
    ],
)
def test_schedules_of_one_meaning_are_equal(one, other):
    assert from_json(one) == from_json(other)
    assert hash(from_json(one)) == hash(from_json(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"timedelta": 15}, {"timedelta": 15.000001}),
        ({"minute": 0}, {"minute": 1}),
        ({"minute": 0}, {"minute": 0, "timezone": "UTC"}),
        # They part when the clocks are changed: the one follows real time, the other the wall.
        ({"minute": "*/30", "hour": 2}, {"minute": "0,30", "hour": 2}),
        ({"minute": 0}, {"minute": 0, "hour": "0-23"}),
    ],
)
def test_schedules_of_different_meaning_differ(one, other):
    assert from_json(one) != from_json(other)


def test_the_default_zone_is_no_part_of_a_crontab_but_decides_when_it_is_due():
    """Equal, and with the same JSON, yet each reckons for itself, in whatever order."""
    utc = loads('{"minute": 0, "hour": 9}', "UTC")
    berlin = loads('{"minute": 0, "hour": 9}', "Europe/Berlin")

    assert utc == berlin
    assert utc.to_json() == berlin.to_json()
    for _ in range(2):
        assert datetime(2026, 5, 6, 9, tzinfo=UTC) == utc.next_after(NOON)
        assert datetime(2026, 5, 6, 7, tzinfo=UTC) == berlin.next_after(NOON)


def test_a_schedule_that_is_parsed_again_takes_the_default_zone_of_the_second_time():
    schedule = parse(parse({"minute": 0, "hour": 9}), timezone="Europe/Berlin")

    assert datetime(2026, 5, 6, 7, tzinfo=UTC) == schedule.next_after(NOON)


@pytest.mark.parametrize(
    "value",
    [
        15,
        {"minute": [0, 30], "timezone": "Europe/Berlin"},
        "0 9 L * FRI#2",
        datetime(2026, 12, 1, tzinfo=UTC),
    ],
)
def test_a_copied_or_pickled_schedule_is_equal_and_works(value):
    schedule = parse(value)
    due = schedule.next_after(NOON)

    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert schedule == twin
        assert due == twin.next_after(NOON)


@properties
@given(intervals)
def test_an_interval_survives_the_table_to_the_microsecond(interval):
    assert interval == loads(json.dumps(interval.to_json()), "UTC")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (15, ["every 15 s"]),
        (0.5, ["every 0.5 s"]),
        ({"every": 1, "period": "hours"}, ["every 3600 s"]),
        ({"hour": 9, "minute": 0}, ["9:00", "UTC"]),
        ({"minute": [0, 30], "timezone": "Asia/Tokyo"}, ["30", "Asia/Tokyo"]),
        ({"day_of_week": "mon-fri"}, ["Monday", "Friday"]),
        ("0 9 * * MON-FRI", ["9:00", "Monday", "Friday", "UTC"]),
    ],
)
def test_in_words(value, words):
    said = parse(value).words()

    assert all(word in said for word in words)


# -- every so many of a period, as others write it ------------------------------------------------

PERIODS = "microseconds, milliseconds, seconds, minutes, hours, days, weeks"


@pytest.mark.parametrize(
    ("every", "period", "seconds"),
    [
        (30, "seconds", 30),
        (10_000, "microseconds", 0.01),
        (10_001, "microseconds", 0.010001),
        (10, "milliseconds", 0.01),
        (1_500, "milliseconds", 1.5),
        (0.5, "seconds", 0.5),
        (1.5, "minutes", 90),
        (1, "hours", 3600),
        (0.25, "days", 21_600),
        (1, "days", 86_400),
        (2, "weeks", 1_209_600),
        (36_525, "days", 3_155_760_000),
        (3_155_760_000_000_000, "microseconds", 3_155_760_000),
    ],
)
def test_every_so_many_of_a_period_is_an_interval(every, period, seconds):
    for value in ({"every": every, "period": period}, {"period": period, "every": every}):
        assert {"timedelta": seconds} == from_json(value).to_json()
        assert parse(value) == from_json({"timedelta": seconds})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"every": 30}, f"period null; allowed are {PERIODS}"),
        ({"every": 30, "period": "second"}, f'period "second"; allowed are {PERIODS}'),
        ({"every": 30, "period": "Seconds"}, f'period "Seconds"; allowed are {PERIODS}'),
        ({"every": 30, "period": "months"}, 'period "months"; allowed are'),
        ({"every": 30, "period": ["days"]}, 'period ["days"]; allowed are'),
        ({"every": 30, "period": 1}, "period 1; allowed are"),
        ({"period": "days"}, f"every null: a number of days; {BOUNDS}"),
        ({"every": "30", "period": "days"}, f'every "30": a number of days; {BOUNDS}'),
        ({"every": True, "period": "days"}, f"every true: a number of days; {BOUNDS}"),
        ({"every": 0, "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": -1, "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": 9_999, "period": "microseconds"}, f"out of bounds; {BOUNDS}"),
        ({"every": 36_526, "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": 36_525.01, "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": 3_155_760_000_000_001, "period": "microseconds"}, f"out of bounds; {BOUNDS}"),
        ({"every": 10**400, "period": "microseconds"}, f"out of bounds; {BOUNDS}"),
        ({"every": -(10**400), "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": -1e300, "period": "weeks"}, f"out of bounds; {BOUNDS}"),
        ({"every": 10**400, "period": "weeks"}, f"out of bounds; {BOUNDS}"),
        ({"every": math.nan, "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": math.inf, "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": 5e-324, "period": "days"}, f"out of bounds; {BOUNDS}"),
        ({"every": 30, "period": "days", "at": 9}, "unknown key 'at'; allowed are every, period"),
        ({"every": 30, "period": "days", "timezone": "UTC"}, "unknown key 'timezone'"),
    ],
    ids=named,
)  # fmt: skip
def test_what_is_no_number_of_a_period_is_refused_with_what_is_allowed(value, says):
    with pytest.raises(ScheduleError) as caught:
        from_json(value)

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ('{"every": 30, "period": "seconds"}', {"timedelta": 30}),
        ('{"period":"days","every":0.5}', {"timedelta": 43_200}),
        ('{"timedelta": 30}', None),
        ('{"cron": "0 9 * * *"}', None),
        ('{"minute": 0}', None),
        ("not JSON", None),
    ],
)
def test_what_others_write_is_rewritten_and_nothing_else(text, stored):
    written = rewritten(text, "UTC")

    assert stored == (written and json.loads(written))
    if written:
        assert loads(text, "UTC") == loads(written, "UTC")
        assert rewritten(written, "UTC") is None


# -- celery's objects -------------------------------------------------------------------------


def test_an_interval_as_celerys_schedule():
    made = to_celery(parse(90))

    assert type(made) is celery_schedule
    assert timedelta(seconds=90) == made.run_every
    assert made is to_celery(parse(90))


def test_a_crontab_as_celerys_crontab_shows_fields_that_cron_understands():
    """Monitors put the fields as written into a cron line: no lists, no names, no blanks."""
    value = {"minute": [0, 30], "hour": "9-17/2", "day_of_week": "mon-fri", "month_of_year": "jan"}
    made = to_celery(parse(value, timezone="Europe/Berlin"))

    assert type(made) is celery_crontab
    assert ("0,30", "9-17/2") == (made._orig_minute, made._orig_hour)
    assert ("1,2,3,4,5", "*", "1") == (
        made._orig_day_of_week, made._orig_day_of_month, made._orig_month_of_year,
    )  # fmt: skip
    assert "Europe/Berlin" == str(made.tz)


def test_equal_crontabs_in_different_zones_are_different_to_celery():
    assert "UTC" == str(to_celery(parse({"minute": 0}, timezone="UTC")).tz)
    assert "Asia/Tokyo" == str(to_celery(parse({"minute": 0}, timezone="Asia/Tokyo")).tz)
    assert to_celery(parse({"minute": 0})) is to_celery(parse({"minute": 0}))


@pytest.mark.parametrize(
    "value", [15, {"minute": 7, "hour": "*/2"}, {"timezone": "Asia/Tokyo", "hour": 3}]
)
def test_what_celery_is_given_reads_back_as_the_same_schedule(value):
    assert parse(value) == parse(to_celery(parse(value)))


# -- intervals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "instant", "anchor", "expected"),
    [
        (15, NOON, None, NOON + timedelta(seconds=15)),
        (15, NOON, NOON, NOON + timedelta(seconds=15)),
        (15, NOON - timedelta(microseconds=1), NOON, NOON),
        (15, NOON + timedelta(seconds=14.999999), NOON, NOON + timedelta(seconds=15)),
        (15, NOON, NOON - timedelta(seconds=1), NOON + timedelta(seconds=14)),
        (15, NOON, NOON + timedelta(seconds=1), NOON + timedelta(seconds=1)),
        (0.1, NOON, NOON - timedelta(days=365), NOON + timedelta(seconds=0.1)),
        # Elapsed time: a day is 24 hours, also when the clocks are changed in between.
        (86_400, datetime(2026, 3, 28, 8, tzinfo=UTC), None, datetime(2026, 3, 29, 8, tzinfo=UTC)),
    ],
)
def test_the_next_of_an_interval(seconds, instant, anchor, expected):
    assert expected == parse(seconds).next_after(instant, anchor=anchor)


def test_an_interval_counts_elapsed_time_whatever_the_zone_of_the_instants():
    before = datetime(2026, 3, 28, 12, tzinfo=BERLIN)

    assert datetime(2026, 3, 29, 11, tzinfo=UTC) == parse(86_400).next_after(before)
    assert UTC is parse(86_400).next_after(before).tzinfo


def test_beyond_the_last_year_an_interval_is_never_due_again():
    last = datetime.max.replace(tzinfo=UTC)
    first = datetime.min.replace(tzinfo=UTC)
    century = parse(3_155_760_000)

    assert century.next_after(last) is None
    assert century.next_after(last, anchor=first) is None
    assert century.latest(first, after=first, anchor=last) is None
    assert 99 == century.count(after=first, until=last)


def test_a_naive_instant_is_refused():
    for value in (15, {"minute": 0}):
        with pytest.raises(ValueError, match="time zone"):
            parse(value).next_after(datetime(2026, 1, 1))


@properties
@given(intervals, instants, instants | st.none())
def test_the_next_of_an_interval_is_the_first_on_its_grid(interval, instant, anchor):
    due = interval.next_after(instant, anchor=anchor)

    assert instant < due <= instant + interval.every
    assert timedelta(0) == (due - (anchor or instant)) % interval.every


@properties
@given(intervals, instants, instants, st.floats(0, 1))
def test_from_anywhere_between_two_the_next_is_the_same(interval, instant, anchor, share):
    due = interval.next_after(instant, anchor=anchor)
    between = due - (due - instant) * share

    if between < due:
        assert due == interval.next_after(between, anchor=anchor)


@properties
@given(intervals, instants, instants | st.none(), st.integers(0, 30), st.floats(0, 0.99))
def test_latest_and_count_of_an_interval_agree_with_going_from_one_to_the_next(
    interval, after, anchor, steps, share
):
    walked = []
    at = after
    for _ in range(steps):
        at = interval.next_after(at, anchor=anchor or after)
        walked.append(at)
    following = interval.next_after(at, anchor=anchor or after)
    until = at + (following - at) * share
    if until == following:
        until = at

    assert len(walked) == interval.count(after=after, until=until, anchor=anchor)
    newest = interval.latest(until, after=after, anchor=anchor)
    assert (walked[-1] if walked else None) == newest


@properties
@given(intervals, instants, instants)
def test_nothing_lies_in_a_stretch_that_ends_before_it_begins(interval, after, anchor):
    until = after - timedelta(seconds=1)

    assert 0 == interval.count(after=after, until=until, anchor=anchor)
    assert interval.latest(until, after=after, anchor=anchor) is None


def test_kinds_are_frozen():
    kinds = {
        "every": 15,
        "timezone": {"minute": 0},
        "fields": "0 9 * * *",
        "at": NOON,
        "delay": {"after": 5},
    }
    for name, schedule in ((name, parse(value)) for name, value in kinds.items()):
        with pytest.raises(AttributeError):
            setattr(schedule, name, None)
    assert isinstance(parse(15), Interval)
    assert isinstance(parse({"minute": 0}), Crontab)
