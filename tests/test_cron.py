"""Cron strings: what may stand in them, what they mean, and what is refused with which words.

Judges: `walls`, which walks every minute, and the library cronsim.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab as celery_crontab
from cronsim import CronSim, CronSimError
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import ZONES, crons, lines, properties, read, zones
from walls import DAY, HOUR, UTC, Told, changes, going, stretch, utc

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import Cron, from_json, loads, parse, to_celery

# -- what a line means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "minutes"),
    [
        ("0", [0]),
        ("59", [59]),
        ("007", [7]),
        ("*", list(range(60))),
        ("*/15", [0, 15, 30, 45]),
        ("*/60", [0]),
        ("*/9999", [0]),
        ("0-10/5", [0, 5, 10]),
        ("10/15", [10, 25, 40, 55]),  # from 10 on
        ("59/2", [59]),
        ("5-5", [5]),
        ("5-5/20", [5]),  # a range of one
        ("50-10/5", [0, 5, 10, 50, 55]),  # past the top, and on from the bottom
        ("58-1", [0, 1, 58, 59]),
        ("58-1/3", [1, 58]),
        ("1,3,3,1-2", [1, 2, 3]),
        ("*/30,7", [0, 7, 30]),
    ],
)
def test_minutes(line, minutes):
    assert tuple(minutes) == parse(f"{line} * * * *").fields.minute


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("22-3", [0, 1, 2, 3, 22, 23]),
        ("22-3/2", [0, 2, 22]),
        ("23-0", [0, 23]),
        ("20/2", [20, 22]),
        ("*/5", [0, 5, 10, 15, 20]),
    ],
)
def test_hours(text, hours):
    assert tuple(hours) == parse(f"0 {text} * * *").fields.hour


@pytest.mark.parametrize(
    ("text", "months"),
    [
        ("JAN", [1]),
        ("jan-MAR,Dec", [1, 2, 3, 12]),
        ("january,sept", [1, 9]),
        ("NOV-FEB", [1, 2, 11, 12]),
        ("11-2", [1, 2, 11, 12]),
        ("*/3", [1, 4, 7, 10]),
        ("2/5", [2, 7, 12]),
        ("oct/2", [10, 12]),
    ],
)
def test_months(text, months):
    assert tuple(months) == parse(f"0 0 1 {text} *").fields.month_of_year


@pytest.mark.parametrize(
    ("text", "weekdays"),
    [
        ("0", [0]),
        ("7", [0]),
        ("0-7", [0, 1, 2, 3, 4, 5, 6]),
        ("1-7", [0, 1, 2, 3, 4, 5, 6]),
        ("6-7", [0, 6]),
        ("5-0", [0, 5, 6]),
        ("7-1", [0, 1]),
        ("7-0", [0]),
        ("0-0", [0]),
        ("*/2", [0, 2, 4, 6]),
        ("*/7", [0]),
        ("1/2", [0, 1, 3, 5]),  # 1, 3, 5 and 7
        ("0-7/7", [0]),
        ("FRI-MON", [0, 1, 5, 6]),
        ("Fri-mon/2", [0, 5]),
        ("sat-SUN", [0, 6]),
        ("sun-sat", [0, 1, 2, 3, 4, 5, 6]),
        ("Monday,tues,WEDNESDAY,thurs", [1, 2, 3, 4]),
    ],
)
def test_weekdays(text, weekdays):
    assert tuple(weekdays) == parse(f"0 0 * * {text}").fields.days.of_week


@pytest.mark.parametrize(
    ("line", "days"),
    [
        # The number or the weekday where neither begins with a star.
        ("0 0 13 * FRI", ["2026-01-02", "2026-01-09", "2026-01-13", "2026-01-16", "2026-01-23"]),
        ("0 0 1 * MON#1", ["2026-01-01", "2026-01-05", "2026-02-01", "2026-02-02", "2026-03-01"]),
        ("0 0 31 2 MON", ["2026-02-02", "2026-02-09", "2026-02-16", "2026-02-23", "2027-02-01"]),
        ("0 0 L * 0-6/6,1L", ["2026-01-03", "2026-01-04", "2026-01-10", "2026-01-11", "2026-01-17"]),
        # Both where one does: odd days that are Mondays; the first Monday, if it is the first.
        ("0 0 */2 * MON", ["2026-01-05", "2026-01-19", "2026-02-09", "2026-02-23", "2026-03-09"]),
        ("0 0 */31 * MON", ["2026-06-01", "2027-02-01", "2027-03-01", "2027-11-01", "2028-05-01"]),
        ("0 0 1-7 * */7", ["2026-01-04", "2026-02-01", "2026-03-01", "2026-04-05", "2026-05-03"]),
        ("0 0 31 * *", ["2026-01-31", "2026-03-31", "2026-05-31", "2026-07-31", "2026-08-31"]),
        # The last day, and the last from Monday to Friday.
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("0 0 l 2 *", ["2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28", "2030-02-28"]),
        ("0 0 LW * *", ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30", "2026-05-29"]),
        ("0 0 lw,15 * *", ["2026-01-15", "2026-01-30", "2026-02-15", "2026-02-27", "2026-03-15"]),
        ("0 0 L,LW 1-2 *", ["2026-01-30", "2026-01-31", "2026-02-27", "2026-02-28", "2027-01-29"]),
        # Counted weekdays.
        ("0 0 * * FRI#2", ["2026-01-09", "2026-02-13", "2026-03-13", "2026-04-10", "2026-05-08"]),
        ("0 0 * * friday#2", ["2026-01-09", "2026-02-13", "2026-03-13", "2026-04-10", "2026-05-08"]),
        ("0 0 * * 5#5", ["2026-01-30", "2026-05-29", "2026-07-31", "2026-10-30", "2027-01-29"]),
        ("0 0 * * 7#1,0#2", ["2026-01-04", "2026-01-11", "2026-02-01", "2026-02-08", "2026-03-01"]),
        ("0 0 * * 5L", ["2026-01-30", "2026-02-27", "2026-03-27", "2026-04-24", "2026-05-29"]),
        ("0 0 * * 7l,0L", ["2026-01-25", "2026-02-22", "2026-03-29", "2026-04-26", "2026-05-31"]),
        ("0 0 * 2 1,5L", ["2026-02-02", "2026-02-09", "2026-02-16", "2026-02-23", "2026-02-27"]),
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29", "2040-02-29", "2044-02-29"]),
        # Monday, 29 February; it came in 2016.
        ("0 0 */29,29 2 1#5", ["2044-02-29", "2072-02-29", "2112-02-29", "2140-02-29", "2168-02-29"]),
    ],
)  # fmt: skip
def test_days(line, days):
    upcoming = parse(line).upcoming(utc(2025, 12, 31, 12), 5)

    assert days == [str(day.date()) for day in upcoming]


@pytest.mark.parametrize(
    ("macro", "line"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        (" @Daily\n", "0 0 * * *"),
    ],
)
def test_a_macro_is_a_line(macro, line):
    assert parse(line) == parse(macro)
    assert {"cron": macro} == parse(macro).to_json()
    assert parse(line).words() == parse(macro).words()


@properties
@given(lines(), zones, st.data())
def test_over_days_a_line_is_due_as_told(line, zone, data):
    """Every minute of four days walked, a change of clocks in their middle."""
    schedule = read(line, zone)
    assume(schedule is not None)
    middle = data.draw(st.sampled_from(changes(zone, 2026, 2026) or [utc(2026, 2, 28)]))
    minutes = stretch(zone, middle - 2 * DAY, middle + 2 * DAY)
    expected = Told(line).due(minutes)

    assert expected == schedule.upcoming(minutes.begin, len(expected))
    assert len(expected) == schedule.count(after=minutes.begin, until=minutes.end)


@properties
@given(lines())
def test_over_years_a_line_matches_the_days_that_are_told(line):
    told = Told(line)
    days = [utc(2027, 12, 1) + number * DAY for number in range(2 * 366)]
    expected = [day for day in days if told.matches(day.date())]
    schedule = read(f"0 0 {line.split(maxsplit=2)[2]}")
    if schedule is None:
        assert [] == expected
    else:
        assert expected == going(schedule, days[0] - HOUR, days[-1])


# -- what is refused --------------------------------------------------------------------------

FIVE = (
    "allowed are five fields, minute, hour, day of month, month and day of week, in at most 1000 "
    "characters, or one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
)
FORMS = 'as "*", "*/2", "1-3", "1,3", "10/15"'
MINUTE = f"allowed are 0-59, {FORMS}"
OF_MONTH = f'allowed are 1-31, {FORMS}, "L", "LW"'
OF_WEEK = f'allowed are 0-7 or sun-sat, {FORMS}, "FRI#2", "5L"'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", FIVE),
        (" ", FIVE),
        ("0 9 * *", FIVE),
        ("0 0 9 * * *", FIVE),
        ("0 9 * * * root", FIVE),
        ("@reboot", FIVE),
        ("@fortnightly", FIVE),
        ("@daily 5", FIVE),
        ("@", FIVE),
        ("0 9 * * * # daily", FIVE),
        ("every 5 minutes", FIVE),
        ("0 " * 5000, FIVE),
        ("0," * 500 + "0 9 * * *", FIVE),
        ("60 * * * *", f'minute "60"; {MINUTE}'),
        ("-1 * * * *", f'minute "-1"; {MINUTE}'),
        ("0 24 * * *", f'hour "24"; allowed are 0-23, {FORMS}'),
        ("0 0 0 * *", f'day of month "0"; {OF_MONTH}'),
        ("0 0 32 * *", f'day of month "32"; {OF_MONTH}'),
        ("0 0 * 0 *", f'month "0"; allowed are 1-12 or jan-dec, {FORMS}'),
        ("0 0 * 13 *", f'month "13"; allowed are 1-12 or jan-dec, {FORMS}'),
        ("0 0 * * 8", f'day of week "8"; {OF_WEEK}'),
        ("0 0 ? * *", f'day of month "?"; {OF_MONTH}'),
        ("0 0 * * ?", f'day of week "?"; {OF_WEEK}'),
        ("H * * * *", f'minute "H"; {MINUTE}'),
        ("1, * * * *", f'minute "1,"; {MINUTE}'),
        (",1 * * * *", f'minute ",1"; {MINUTE}'),
        ("1,,2 * * * *", f'minute "1,,2"; {MINUTE}'),
        (", * * * *", f'minute ","; {MINUTE}'),
        ("*/0 * * * *", f'minute "*/0"; {MINUTE}'),
        ("*/ * * * *", f'minute "*/"; {MINUTE}'),
        ("/5 * * * *", f'minute "/5"; {MINUTE}'),
        ("*/5/5 * * * *", f'minute "*/5/5"; {MINUTE}'),
        ("*-5 * * * *", f'minute "*-5"; {MINUTE}'),
        ("5- * * * *", f'minute "5-"; {MINUTE}'),
        ("1-2-3 * * * *", f'minute "1-2-3"; {MINUTE}'),
        ("5-60 * * * *", f'minute "5-60"; {MINUTE}'),
        ("** * * * *", f'minute "**"; {MINUTE}'),
        ("1.5 * * * *", f'minute "1.5"; {MINUTE}'),
        ("٥ * * * *", f'minute "٥"; {MINUTE}'),
        ("MON * * * *", f'minute "MON"; {MINUTE}'),
        ("L * * * *", f'minute "L"; {MINUTE}'),
        ("0 0 MON * *", f'day of month "MON"; {OF_MONTH}'),
        ("0 0 L-3 * *", f'day of month "L-3"; {OF_MONTH}'),
        ("0 0 1-L * *", f'day of month "1-L"; {OF_MONTH}'),
        ("0 0 L/2 * *", f'day of month "L/2"; {OF_MONTH}'),
        ("0 0 15W * *", f'day of month "15W"; {OF_MONTH}'),
        ("0 0 WL * *", f'day of month "WL"; {OF_MONTH}'),
        ("0 0 * MON *", 'month "MON"; allowed are 1-12 or jan-dec'),
        ("0 0 * L *", 'month "L"; allowed are 1-12'),
        ("0 0 * ja *", 'month "ja"; allowed are 1-12'),
        ("0 0 * januray *", 'month "januray"; allowed are 1-12'),
        ("0 0 * * JAN", f'day of week "JAN"; {OF_WEEK}'),
        ("0 0 * * L", f'day of week "L"; {OF_WEEK}'),
        ("0 0 * * LW", f'day of week "LW"; {OF_WEEK}'),
        ("0 0 * * 8L", f'day of week "8L"; {OF_WEEK}'),
        ("0 0 * * L5", f'day of week "L5"; {OF_WEEK}'),
        # The last Friday is 5L; this is neither that nor every Friday.
        ("0 0 * * FRIL", f'day of week "FRIL"; {OF_WEEK}'),
        ("0 0 * * FRIL-SUN", f'day of week "FRIL-SUN"; {OF_WEEK}'),
        ("0 0 * * 1-5L", f'day of week "1-5L"; {OF_WEEK}'),
        ("0 0 * * FRI#0", f'day of week "FRI#0"; {OF_WEEK}'),
        ("0 0 * * FRI#6", f'day of week "FRI#6"; {OF_WEEK}'),
        ("0 0 * * FRI#", f'day of week "FRI#"; {OF_WEEK}'),
        ("0 0 * * #2", f'day of week "#2"; {OF_WEEK}'),
        ("0 0 * * FRI#L", f'day of week "FRI#L"; {OF_WEEK}'),
        ("0 0 * * FRI#-1", f'day of week "FRI#-1"; {OF_WEEK}'),
        ("0 0 * * FRI#2L", f'day of week "FRI#2L"; {OF_WEEK}'),
        ("0 0 * * *#2", f'day of week "*#2"; {OF_WEEK}'),
        ("0 0 * * 1-5#2", f'day of week "1-5#2"; {OF_WEEK}'),
        ("0 0 * * FRI#2/2", f'day of week "FRI#2/2"; {OF_WEEK}'),
        ("0 0 * * 9#2", f'day of week "9#2"; {OF_WEEK}'),
        ("0 0 * * tuesdays", f'day of week "tuesdays"; {OF_WEEK}'),
        ("0 0 * * ſun", f'day of week "ſun"; {OF_WEEK}'),
        ("0 0 * * mo", f'day of week "mo"; {OF_WEEK}'),
        ("0 0 31 2 *", "never matches: month 2 has no day of month 31"),
        ("0 0 30 2 *", "never matches: month 2 has no day of month 30"),
        ("0 0 30,31 feb *", "never matches: month feb has no day of month 30,31"),
        ("0 0 31 2,4,6,9,11 *", "never matches: month 2,4,6,9,11 has no day of month 31"),
        ("0 0 31 2 */1", "never matches: month 2 has no day of month 31 that is */1"),
        ("0 0 */30,31 4 MON#2", "never matches: month 4 has no day of month */30,31 that is MON#2"),
    ],
)  # fmt: skip
def test_what_is_no_cron_string_is_refused_with_what_is_allowed(line, says):
    for value in (line, {"cron": line}):
        with pytest.raises(ScheduleError) as caught:
            parse(value)

        assert says in str(caught.value)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "line",
    [
        "0 0 30 2 MON",  # either
        "0 0 29 2 *",
        "0 0 31 1-2 *",
        "0 0 */28 2 0L",
        "0 0 * 2 1#5",  # in leap years
        "0 0 L 2 *",
        "0 0 * januar-feb Wed",
        "@DAILY",
    ],
)
def test_what_matches_now_and_then_is_not_refused(line):
    assert parse(line).next_after(utc(2026, 1, 1)) is not None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"cron": 5}, 'cron 5: allowed is a text, "0 9 * * MON-FRI"'),
        ({"cron": None}, "cron null: allowed is a text"),
        ({"cron": ["0 9 * * *"]}, 'cron ["0 9 * * *"]: allowed is a text'),
        ({"cron": "0 9 * * *", "minute": 3}, "unknown key 'minute'; allowed are cron, timezone"),
        ({"cron": "0 9 * * *", "zone": "UTC"}, "unknown key 'zone'; allowed are cron, timezone"),
        ({"cron": "0 9 * * *", "x" * 5000: 3}, "unknown key 'xxx"),
        ({"cron": "0 9 * * *", "timezone": "Europe/Atlantis"}, 'unknown time zone "Europe/Atlantis"'),
        ({"cron": "0 9 * * *", "timezone": None}, "unknown time zone null"),
        ({"cron": "0 9 * * *", "timezone": ""}, 'unknown time zone ""'),
        ({"cron": "\ud800 9 * * *"}, 'minute "\\ud800"'),
        ({"cron": "0\0 9 * * *"}, 'minute "0\\u0000"'),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_cron_in_the_table_is_refused_with_what_is_allowed(value, says):
    with pytest.raises(ScheduleError) as caught:
        from_json(value)

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


@properties
@given(lines(), st.integers(0, 100), st.integers(0, 3), st.text("0179*/-,#LWfri ?@\t", max_size=2))
def test_a_slip_of_the_pen_is_read_or_refused(line, place, over, slip):
    text = line[:place] + slip + line[place + over :]
    try:
        schedule = parse(text)
    except ScheduleError:
        return

    assert schedule == from_json(schedule.to_json())
    assert schedule.words()
    assert schedule.next_after(utc(2026, 1, 1)) is not None


# -- as a value -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"cron": "0 9 * * MON-FRI"},
        {"cron": "0 9 * * mon-FRI", "timezone": "Europe/Berlin"},
        {"cron": "  0\t9 * * 5L\n"},
        {"cron": "@DAILY"},
    ],
)
def test_it_is_stored_as_it_was_written(value):
    assert value == from_json(value).to_json()
    assert json.dumps(value) == json.dumps(loads(json.dumps(value), "Asia/Tokyo").to_json())


@properties
@given(crons)
def test_a_line_survives_the_table_to_the_letter(schedule):
    again = loads(json.dumps(schedule.to_json()), schedule.zone)

    assert schedule == again
    assert schedule.expression == again.expression
    assert schedule.reckoning is again.reckoning


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0 9 * * MON-FRI", "0 09 * * 1-5"),
        ("0 0 * * 0", "@weekly"),
        ("0 0 * * 7", "0 0 * * sunday"),
        ("*/30 * * * *", "*/30,0 * * * *"),
        ("0,30 * * * *", "0/30 * * * *"),
        ("0 22-1 * * *", "0 0,1,22,23 * * *"),
        ("0 0 * * FRI#2,1L", "0 0 * * 1L,5#2"),
        ("0 0 L,LW * *", "0 0 lw,l * *"),
    ],
)
def test_lines_of_one_meaning_are_equal(one, other):
    assert parse(one) == parse(other)
    assert hash(parse(one)) == hash(parse(other))
    assert parse(one).reckoning is parse(other).reckoning


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0 9 * * *", "1 9 * * *"),
        ("0 9 1 * MON", "0 9 */40 * MON"),  # either, and both
        ("*/30 2 * * *", "0,30 2 * * *"),  # they part where clocks are changed
        ("0 0 L * *", "0 0 31 * *"),
        ("0 0 * * 5L", "0 0 * * 5#4"),
        ("0 9 * * *", {"cron": "0 9 * * *", "timezone": "UTC"}),
        ("0 9 * * *", {"minute": 0, "hour": 9}),
    ],
    ids=str,
)
def test_schedules_of_different_meaning_differ(one, other):
    assert parse(one) != parse(other)


def test_the_zone_in_force_is_the_one_that_is_named_else_the_default():
    at = utc(2026, 7, 1)
    named = {"cron": "0 9 * * *", "timezone": "America/New_York"}

    assert utc(2026, 7, 1, 9) == parse("0 9 * * *").next_after(at)
    assert utc(2026, 7, 1, 7) == parse("0 9 * * *", timezone="Europe/Berlin").next_after(at)
    assert utc(2026, 7, 1, 13) == parse(named, timezone="Europe/Berlin").next_after(at)
    again = parse(parse("0 9 * * *"), timezone="Europe/Berlin")
    assert utc(2026, 7, 1, 7) == again.next_after(at)
    assert parse("0 9 * * *") == again
    assert utc(2026, 7, 1, 13) == parse(parse(named), timezone="Asia/Tokyo").next_after(at)
    assert "Europe/Berlin" in again.words()
    assert isinstance(again, Cron)


def test_a_line_and_fields_that_mean_the_same_share_the_reckoning():
    assert parse("0 9 * * *").reckoning is from_json({"minute": 0, "hour": 9}).reckoning


# -- celery's objects -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("0 9 * * MON-FRI", ("0", "9", "1,2,3,4,5", "*", "*")),
        ("*/30 22-1 1,15 jan *", ("0,30", "0,1,22,23", "*", "1,15", "1")),
        ("@hourly", ("0", "*", "*", "*", "*")),
        ("10/25 * * * 6-7", ("10,35", "*", "0,6", "*", "*")),
        # What celery cannot say of days is left to all of them.
        ("0 9 1 * MON", ("0", "9", "*", "*", "*")),
        ("0 9 L * *", ("0", "9", "*", "*", "*")),
        ("0 9 LW,3 2 *", ("0", "9", "*", "*", "2")),
        ("0 9 * * FRI#2", ("0", "9", "*", "*", "*")),
        ("0 9 * * 1,5L", ("0", "9", "*", "*", "*")),
    ],
)
def test_as_celerys_crontab(line, texts):
    made = to_celery(parse(line, timezone="Europe/Berlin"))

    assert type(made) is celery_crontab
    assert "Europe/Berlin" == str(made.tz)
    names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
    assert texts == tuple(getattr(made, f"_orig_{name}") for name in names)
    assert made is to_celery(parse(line, timezone="Europe/Berlin"))
    assert made is not to_celery(parse(line, timezone="UTC"))


# -- the library cronsim as the judge -----------------------------------------------------------

#: Zones whose clocks are changed by whole hours and never at midnight: of wildcards, cronsim goes
#: from hour to hour, which elsewhere loses or doubles some; see below.
BY_THE_HOUR = ["UTC", "America/New_York", "Asia/Kolkata", "Europe/Berlin", "Europe/Dublin"]
judged = lines(rounds=False)


def by_cronsim(line, at, number):
    """None: it refuses the line, or finds nothing in 50 years."""
    try:
        found = [due.astimezone(UTC) for due in islice(CronSim(line, at), number)]
    except CronSimError:
        return None
    return found or None


@properties
@given(judged, st.sampled_from(ZONES), st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)))
def test_it_is_due_when_cronsim_says(line, zone, day):
    assume(zone in BY_THE_HOUR or not Told(line).wildcard)
    at = day.replace(hour=12, minute=0, second=0, microsecond=0, tzinfo=ZoneInfo(zone))
    compare(line, zone, at)


@properties
@given(judged, st.sampled_from(ZONES), st.data())
def test_about_changes_of_clocks_it_is_due_when_cronsim_says(line, zone, data):
    assume(zone in BY_THE_HOUR or not Told(line).wildcard)
    change = data.draw(st.sampled_from(changes(zone, 2024, 2029) or [utc(2026, 3, 1)]))
    noon = (change - DAY).astimezone(ZoneInfo(zone)).replace(hour=12, minute=0)
    # Days that match are far between.
    line = f"{' '.join(line.split()[:2])} * * {data.draw(st.sampled_from(['*', 'SAT,SUN']))}"
    compare(line, zone, noon)


def compare(line, zone, at):
    expected = by_cronsim(line, at, 50)
    schedule = read(line, zone)
    after = at.astimezone(UTC)
    if schedule is None:
        assert expected is None
    elif expected is None:
        assert schedule.next_after(after) > after + timedelta(days=50 * 365)
    else:
        assert expected == schedule.upcoming(after, len(expected))


@pytest.mark.parametrize(
    ("line", "zone", "after", "expected"),
    [
        # On 5 October 2024, at 15:30 UTC, 02:00 becomes 02:30: cronsim passes over 02:56 ...
        ("56 * * * *", "Australia/Lord_Howe", utc(2024, 10, 5, 15), [utc(2024, 10, 5, 15, 26), utc(2024, 10, 5, 15, 56)]),
        # ... and begins this at 19:30.
        ("* 19 * * *", "Australia/Lord_Howe", utc(2024, 10, 5, 15), [utc(2024, 10, 6, 8), utc(2024, 10, 6, 8, 1)]),
        # On 8 September 2024 the day begins at 01:00: cronsim runs at a 00:00 that is not.
        ("*,3-10/1 */3 * * 0", "America/Santiago", utc(2024, 9, 7, 22), [utc(2024, 9, 8, 6), utc(2024, 9, 8, 6, 1)]),
        # On 1 April 2028, at 14:00 UTC, 03:45 becomes 02:45: cronsim begins the hour anew.
        ("* 3 * * *", "Pacific/Chatham", utc(2028, 4, 1, 13, 58), [utc(2028, 4, 1, 13, 59), utc(2028, 4, 1, 14, 15)]),
        # A range of one number: to cronsim, from it on.
        ("5-5/20 0 * * *", "UTC", utc(2026, 1, 1), [utc(2026, 1, 1, 0, 5), utc(2026, 1, 2, 0, 5)]),
    ],
    ids=str,
)  # fmt: skip
def test_where_it_differs_from_cronsim(line, zone, after, expected):
    assert expected == parse(line, timezone=zone).upcoming(after, 2)
    end = expected[-1] + timedelta(minutes=1)
    assert [*expected] == [at for at in Told(line).due(stretch(zone, after, end)) if at < end]
