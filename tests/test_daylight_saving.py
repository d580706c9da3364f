"""Days on which clocks are changed: every minute of them, for crontab fields and cron strings.

What is due when is judged by `walls`, which walks real time minute by minute.
"""

from __future__ import annotations

import struct
import zoneinfo
from bisect import bisect_left, bisect_right
from datetime import date
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest
from walls import DAY, HOUR, MINUTE, MOMENT, Told, assert_due_as_told, changes, going, stretch, utc

from celery_sqlalchemy_kit.schedules import from_json, parse

# -- every change of many years -----------------------------------------------------------------

ZONES = [
    "America/Havana",
    "America/New_York",
    "America/Nuuk",  # from 2023 on an hour nearer to UTC
    "America/Santiago",  # the day begins twice, and once it has no midnight
    "America/Sao_Paulo",  # not changed any more
    "America/St_Johns",
    "Africa/Cairo",
    "Africa/Casablanca",  # winter time in Ramadan
    "Antarctica/Troll",  # by two hours
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # by half an hour
    "Europe/Berlin",
    "Europe/Dublin",  # winter time is what differs from the standard
    "Europe/London",
    "Pacific/Chatham",  # three quarters beside the others
    "UTC",
]
YEARS = (2024, 2030)

#: The same line as a cron string and as crontab fields.
LINES = [
    # Fixed times.
    "30 2 * * *",
    "0 0 * * *",
    "30 0,23 * * *",
    "0,15,30,45 0-4 * * *",
    "0 0-23 * * *",
    "5,*/20 1,*/2 * * *",
    "15 1,2,23 * * sun",
    "1 22-3 28-5 * *",
    "1-59/29 0-3 * 3-4,9-11 sat-sun",
    # Wildcards.
    "30 * * * *",
    "*/20 * * * *",
    "*/25 2 * * *",
    "*/30 0,1 * * *",
    "30 */2 * * *",
    "45 */3,2 * * *",
    "*/10 23 30,31 * *",
    "*/15 * * */2 sat,sun",
]
#: As crontab fields alone: as strings, either of the two days decides.
BOTH_DAYS = ["30 2 25-31 3,10 sun", "*/30 0-3 1-14 * sat,sun"]
#: What crontab fields do not know, or mean otherwise.
STRINGS = [
    "30 2 1 * sun",  # either
    "30 2 25-31 3,10 sun",
    "30 2 */1,25-31 3,10 sun",  # both
    "0 0 L * SUN#1",
    "30 2 * * SUN#2,SUN#1,0L",
    "0 1 * * 7L",
    "*/30 2 * * 5L,SUN#2",
    "10/20 1-3 * * *",
    "30 1/1 * * FRI-MON",
    "0 3 LW,31 * *",
    "@daily",
    "@hourly",
]
EVERY_MINUTE = ["* * * * *", "0-59 0-23 * * *"]


@cache
def as_told(line):
    macros = {"@daily": "0 0 * * *", "@hourly": "0 * * * *"}
    return Told(macros.get(line, line))


def as_fields(line):
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return dict(zip(names, line.split(), strict=True))


def about(zone):
    """The stretch about each change of clocks of *zone*; of one that has none, about some day."""
    days = changes(zone, *YEARS) or [utc(2026, 3, 29, 1)]
    return [(at, stretch(zone, at - DAY, at + DAY)) for at in days]


def probes(at):
    """Instants near a change, at whole minutes and beside them."""
    beside = (-14, -3, -2, -1, 0, 1, 2, 3, 14)
    near = [at + hours * HOUR + (hours % 3 - 1) * MOMENT for hours in beside]
    return [*near, at - MOMENT, at + 30 * MINUTE, at - 30 * MINUTE - MOMENT]


def test_there_are_changes_of_clocks_to_judge():
    assert sum(len(changes(zone, *YEARS)) for zone in ZONES) >= 200
    assert 14 == len(changes("Europe/Berlin", *YEARS))


@pytest.mark.parametrize("line", [*LINES, *STRINGS])
@pytest.mark.parametrize("zone", ZONES)
def test_about_every_change_a_cron_string_is_due_as_told(zone, line):
    schedule = parse(line, timezone=zone)
    for at, minutes in about(zone):
        assert_due_as_told(schedule, as_told(line), minutes, probes(at))
    if line in LINES:
        # One reckoning, so that all that has been asked holds for the fields as well.
        assert schedule.reckoning is from_json(as_fields(line), timezone=zone).reckoning


@pytest.mark.parametrize("line", BOTH_DAYS)
@pytest.mark.parametrize("zone", ZONES)
def test_about_every_change_crontab_fields_with_two_kinds_of_days_are_due_as_told(zone, line):
    schedule = from_json(as_fields(line), timezone=zone)
    told = Told(line, either=False)
    for at, minutes in about(zone):
        assert_due_as_told(schedule, told, minutes, probes(at))


@pytest.mark.parametrize("line", EVERY_MINUTE)
@pytest.mark.parametrize("zone", ZONES)
def test_every_minute_is_due_about_a_change_of_each_kind(zone, line):
    """About the last two changes alone, one forward and one back, as it is due so often."""
    for at, minutes in about(zone)[-2:]:
        assert_due_as_told(parse(line, timezone=zone), as_told(line), minutes, probes(at))


@pytest.mark.parametrize(
    ("zone", "year"), [("Australia/Lord_Howe", 2027), ("Africa/Casablanca", 2028)]
)
def test_a_whole_year_is_due_as_told(zone, year):
    whole = stretch(zone, utc(year, 1, 1), utc(year + 1, 1, 1))
    for line in (*LINES, *STRINGS):
        expected = as_told(line).due(whole)
        schedule = parse(line, timezone=zone)

        assert expected == going(schedule, whole.begin, whole.end), line
        assert len(expected) == schedule.count(after=whole.begin, until=whole.end)


# -- changes that are past, and odder ------------------------------------------------------------

#: The zone, and the day about which its clocks are changed.
PAST = [
    ("America/St_Johns", utc(2006, 10, 29)),  # at 00:01, back into the day before
    ("America/St_Johns", utc(2007, 3, 11)),
    ("America/Sao_Paulo", utc(2018, 11, 4)),  # no midnight
    ("America/Sao_Paulo", utc(2019, 2, 17)),
    ("Africa/Casablanca", utc(2020, 4, 19)),  # winter time in summer
    ("Africa/Casablanca", utc(2020, 5, 31)),
    ("America/Nuuk", utc(2023, 3, 26)),  # forward, and so to stay
    ("Pacific/Apia", utc(2011, 12, 30)),  # a whole day is skipped
    ("Pacific/Kiritimati", utc(1995, 1, 1)),
    ("Pacific/Kwajalein", utc(1969, 10, 1)),  # 23 hours are repeated
    ("Asia/Pyongyang", utc(2015, 8, 15)),
]
ALL_MINUTES, ALL_HOURS = set(range(60)), set(range(24))
ALL_DAYS, ALL_WEEKDAYS = set(range(1, 32)), set(range(7))


class Case(NamedTuple):
    """A crontab, and by hand: whether it follows real time, and what its fields match."""

    value: dict
    wildcard: bool
    minutes: set
    hours: set
    days: set = ALL_DAYS
    weekdays: set = ALL_WEEKDAYS  # Sunday is 0


CASES = [
    Case({"minute": 30, "hour": 2}, False, {30}, {2}),
    Case({"minute": 0, "hour": 0}, False, {0}, {0}),
    Case({"minute": 30, "hour": [0, 23]}, False, {30}, {0, 23}),
    Case({"minute": [0, 15, 30, 45], "hour": "0-4"}, False, {0, 15, 30, 45}, {0, 1, 2, 3, 4}),
    Case({"minute": 0, "hour": "0-23"}, False, {0}, ALL_HOURS),
    Case({"minute": "0-59", "hour": "0-23"}, False, ALL_MINUTES, ALL_HOURS),
    Case({"minute": "5,*/20", "hour": "1,*/2"}, False, {0, 5, 20, 40}, {0, 1, *range(0, 24, 2)}),
    Case({"minute": 15, "hour": "1,2,23", "day_of_week": "sun"}, False, {15}, {1, 2, 23}, ALL_DAYS, {0}),
    Case({"minute": 1, "hour": "22-3", "day_of_month": "28-5"}, False, {1}, {22, 23, 0, 1, 2, 3}, {28, 29, 30, 31, 1, 2, 3, 4, 5}),
    Case({"minute": "*"}, True, ALL_MINUTES, ALL_HOURS),
    Case({"minute": 30}, True, {30}, ALL_HOURS),
    Case({"minute": "*/20"}, True, {0, 20, 40}, ALL_HOURS),
    Case({"minute": "*/25", "hour": 2}, True, {0, 25, 50}, {2}),
    Case({"hour": "0,1"}, True, ALL_MINUTES, {0, 1}),
    Case({"minute": 30, "hour": "*/2"}, True, {30}, set(range(0, 24, 2))),
    Case({"minute": 45, "hour": ["*/3", 2]}, True, {45}, {2, *range(0, 24, 3)}),
    Case({"minute": "*/30", "day_of_week": "sat"}, True, {0, 30}, ALL_HOURS, ALL_DAYS, {6}),
    Case({"minute": "*/10", "hour": 23, "day_of_month": 30}, True, set(range(0, 60, 10)), {23}, {30}),
]  # fmt: skip


class ByHand(Told):
    """What a case says, in place of a cron line."""

    def __init__(self, case):
        self.wildcard, self._case = case.wildcard, case
        self.times = [60 * hour + minute for hour in case.hours for minute in case.minutes]

    def matches(self, date):
        return date.day in self._case.days and date.isoweekday() % 7 in self._case.weekdays


@pytest.mark.parametrize(("zone", "middle"), PAST, ids=lambda value: str(value)[:16])
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.value))
def test_about_a_change_of_clocks_it_is_due_as_by_hand(case, zone, middle):
    """All of next_after, latest and count, from and to every hour and odd instants beside it."""
    minutes = stretch(zone, middle - DAY, middle + 2 * DAY, lead=DAY)
    every = [minutes.begin + hour * HOUR + (hour % 3 - 1) * MOMENT for hour in range(3 * 24)]

    assert_due_as_told(from_json(case.value, timezone=zone), ByHand(case), minutes, every)


@pytest.fixture
def turning(tmp_path):
    """A zone that puts its clocks back, by an hour, a quarter before the year ends in UTC."""
    counts = b"TZif2" + bytes(15 + 4 * 4)
    header = counts + struct.pack(">2L", 1, 4)
    block = struct.pack(">lBB", 0, 0, 0) + b"AAA\0"
    (tmp_path / "Turning").write_bytes(2 * (header + block) + b"\nAAA0BBB,J60/2,J365/24:45\n")
    zoneinfo.reset_tzpath(to=[*zoneinfo.TZPATH, str(tmp_path)])
    yield "Turning"
    zoneinfo.reset_tzpath()


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.value))
def test_at_the_turn_of_the_year_it_is_due_as_by_hand(case, turning):
    """Spans are cut at the year; what is repeated on both sides of it must not run twice."""
    shown = stretch(turning, utc(2026, 12, 31), utc(2027, 1, 3)).shown
    assert 2 == len(shown[date(2027, 1, 1).toordinal()][30])

    test_about_a_change_of_clocks_it_is_due_as_by_hand(case, turning, utc(2027, 1, 1))


@pytest.mark.parametrize("value", [{"minute": 30, "hour": 2}, {"minute": "*/30", "hour": 2}])
def test_what_a_crontab_answered_before_does_not_change_what_it_answers(value):
    """The last answer is remembered, and asked for again from before, between and behind."""
    middle = utc(2026, 10, 25)
    schedule = from_json(value, timezone="Europe/Berlin")
    expected = going(schedule, middle - 3 * DAY, middle + 3 * DAY)
    asked = [middle + number * 37 * MINUTE for number in range(-70, 70)]

    for at in [*asked, *reversed(asked), *asked[::2], *asked[1::2]]:
        following = bisect_right(expected, at)
        assert expected[following] == schedule.next_after(at)


@pytest.mark.parametrize(
    ("line", "zone", "due"),
    [
        ("0 9 1 1 *", "UTC", utc(2027, 1, 1, 9)),
        ("0 9 1 1 *", "Pacific/Chatham", utc(2026, 12, 31, 19, 15)),
        ("*/30 23 31 12 *", "America/New_York", utc(2027, 1, 1, 4)),
        ("30 2 29 3 *", "Europe/Berlin", utc(2026, 3, 29, 1)),
        ("*/30 3 29 3 *", "Europe/Berlin", utc(2026, 3, 29, 1)),
        ("30 9 29 3 *", "Europe/Berlin", utc(2026, 3, 29, 7, 30)),
        ("0 9 25 10 *", "Europe/Berlin", utc(2026, 10, 25, 8)),
    ],
)
def test_what_is_due_once_a_year_is_seen_from_every_hour_of_the_week_before(line, zone, due):
    """A year ends or a clock is changed in between; asked backwards, nothing is remembered."""
    schedule = parse(line, timezone=zone)

    for hours in range(1, 7 * 24):
        assert due == schedule.next_after(due - hours * HOUR)
        assert due == schedule.next_after(due - hours * HOUR - MOMENT)


@pytest.mark.parametrize(
    ("zone", "week"), [("America/New_York", "8-14"), ("Australia/Sydney", "1-7")]
)
def test_a_wildcard_that_meets_nothing_but_gaps_is_never_due(zone, week):
    """Those are the very Sundays on which that hour is skipped, in every year to come."""
    month = 3 if week == "8-14" else 10
    days = {"day_of_month": week, "month_of_year": month, "day_of_week": "sun", "timezone": zone}
    after = utc(2026, 1, 1)

    assert from_json({"minute": "*/30", "hour": 2, **days}).next_after(after) is None
    assert from_json({"minute": 30, "hour": 2, **days}).next_after(after) is not None


# -- the worked instants of the documentation ----------------------------------------------------


@pytest.mark.parametrize(
    ("value", "after", "expected"),
    [
        # 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
        ({"minute": 30, "hour": 2}, utc(2026, 3, 28, 12), [utc(2026, 3, 29, 1), utc(2026, 3, 30, 0, 30)]),
        ({"minute": [0, 20, 40], "hour": 2}, utc(2026, 3, 28, 12), [utc(2026, 3, 29, 1), utc(2026, 3, 30, 0, 0)]),
        ({"minute": "*/30", "hour": 2}, utc(2026, 3, 28, 12), [utc(2026, 3, 30, 0, 0), utc(2026, 3, 30, 0, 30)]),
        ({"minute": 30}, utc(2026, 3, 29), [utc(2026, 3, 29, 0, 30), utc(2026, 3, 29, 1, 30)]),
        ({"minute": 0, "hour": 9}, utc(2026, 3, 28), [utc(2026, 3, 28, 8), utc(2026, 3, 29, 7)]),
        # 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC.
        ({"minute": 30, "hour": 2}, utc(2026, 10, 24, 12), [utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]),
        ({"minute": "*/30", "hour": 2}, utc(2026, 10, 24, 12), [utc(2026, 10, 25, 0, 0), utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 0), utc(2026, 10, 25, 1, 30), utc(2026, 10, 26, 1, 0)]),
        ({"minute": 30}, utc(2026, 10, 25), [utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30), utc(2026, 10, 25, 2, 30)]),
    ],
)  # fmt: skip
def test_in_berlin_in_2026(value, after, expected):
    zone = {"timezone": "Europe/Berlin"}
    line = " ".join(
        ",".join(map(str, part)) if isinstance(part, list) else str(part)
        for part in (value["minute"], value.get("hour", "*"), "* * *")
    )

    assert expected == going(from_json({**value, **zone}), after, expected[-1])
    assert expected == going(from_json({"cron": line, **zone}), after, expected[-1])


def test_occurrences_of_a_fixed_time_never_come_closer_than_its_days():
    schedule = from_json({"minute": 30, "hour": 2}, timezone="America/New_York")
    year = going(schedule, utc(2026, 1, 1), utc(2027, 1, 1))

    assert 365 == len(year)
    assert {23 * HOUR + 30 * MINUTE, DAY, DAY - 30 * MINUTE, DAY + HOUR} >= {
        later - earlier for earlier, later in pairwise(year)
    }
    assert bisect_left(year, utc(2026, 3, 8, 7)) == 66


def test_a_whole_century_is_counted_by_the_day():
    """36,525 days of 1,440 minutes, less 24 hours and two leap days that 1900 to 2000 lacks."""
    schedule = from_json({"minute": "*"}, timezone="Europe/Berlin")

    assert 36_525 * 1440 == schedule.count(after=utc(1950, 1, 1), until=utc(2050, 1, 1))
