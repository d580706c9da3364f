"""Crontabs in time: against a minute-by-minute walk, celery itself, and by their own laws."""

from __future__ import annotations

import struct
import zoneinfo
from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab as celery_crontab
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import from_json, parse

UTC = timezone.utc
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

properties = settings(deadline=None, database=None, max_examples=100)


def utc(*when):
    return datetime(*when, tzinfo=UTC)


def going(schedule, after, until):
    """Every occurrence in (after, until], from one to the next."""
    found = []
    at = schedule.next_after(after)
    while at is not None and at <= until:
        assert at > (found[-1] if found else after)
        found.append(at)
        at = schedule.next_after(at)
    return found


# -- days on which clocks are changed, minute by minute -----------------------------------------

#: The zone, and the day about which its clocks are changed.
CHANGES = [
    ("America/New_York", utc(2026, 3, 8)),
    ("America/New_York", utc(2026, 11, 1)),
    ("Europe/Berlin", utc(2026, 3, 29)),
    ("Europe/Berlin", utc(2026, 10, 25)),
    ("Europe/Dublin", utc(2026, 10, 25)),
    ("Australia/Lord_Howe", utc(2026, 4, 5)),  # by half an hour
    ("Australia/Lord_Howe", utc(2026, 10, 4)),
    ("Asia/Kolkata", utc(2026, 3, 29)),  # none, and half an hour beside the others
    ("Pacific/Chatham", utc(2026, 4, 5)),  # three quarters beside the others
    ("Pacific/Chatham", utc(2026, 9, 27)),
    ("America/Santiago", utc(2026, 4, 5)),  # the day begins twice
    ("America/Santiago", utc(2026, 9, 6)),  # the day has no midnight
    ("America/Havana", utc(2026, 3, 8)),
    ("America/Havana", utc(2026, 11, 1)),
    ("Atlantic/Azores", utc(2026, 10, 25)),
    ("America/St_Johns", utc(2006, 10, 29)),  # at 00:01, back into the day before
    ("America/St_Johns", utc(2007, 3, 11)),
    ("Antarctica/Troll", utc(2026, 3, 29)),  # by two hours
    ("Antarctica/Troll", utc(2026, 10, 25)),
    ("Africa/Casablanca", utc(2020, 4, 19)),  # winter time in summer
    ("Africa/Casablanca", utc(2020, 5, 31)),
    ("Pacific/Apia", utc(2011, 12, 30)),  # a whole day is skipped
    ("Pacific/Kiritimati", utc(1995, 1, 1)),
    ("Pacific/Kwajalein", utc(1969, 10, 1)),  # 23 hours are repeated
    ("Asia/Pyongyang", utc(2015, 8, 15)),
    ("UTC", utc(2026, 3, 29)),
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


@cache
def walls(zone, middle):
    """Each minute of real time about *middle*, and the wall that the zone shows at it."""
    begin = middle - 2 * DAY
    minutes = [begin + number * MINUTE for number in range(4 * 1440)]
    return [(at, at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for at in minutes]


def by_hand(case, zone, middle):
    """The occurrences by the rule as it is told, from a day after the first of `walls` on."""

    def matches(wall):
        return (
            wall.minute in case.minutes
            and wall.hour in case.hours
            and wall.day in case.days
            and (wall.weekday() + 1) % 7 in case.weekdays
        )

    shown = walls(zone, middle)
    begin = shown[0][0] + DAY
    latest_wall = shown[0][1]
    found = []
    for at, wall in shown:
        if case.wildcard:
            due = matches(wall)
        else:
            # Walls that now were reached for the first time, or jumped over.
            due = False
            while latest_wall < wall:
                latest_wall += MINUTE
                due = due or matches(latest_wall)
        if due and at > begin:
            found.append(at)
    return begin, found, shown[-1][0]


@pytest.mark.parametrize(("zone", "middle"), CHANGES, ids=lambda value: str(value)[:16])
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.value))
def test_about_a_change_of_clocks_it_is_due_as_by_hand(case, zone, middle):
    """All of next_after, latest and count, from and to every hour and odd instants beside it."""
    schedule = from_json(case.value, timezone=zone)
    begin, expected, end = by_hand(case, zone, middle)

    assert expected == going(schedule, begin, end)
    assert len(expected) == schedule.count(after=begin, until=end)
    for number in range(3 * 24):
        at = begin + number * HOUR + (number % 3 - 1) * timedelta(microseconds=1)
        if at < begin:
            continue
        passed = bisect_right(expected, at)
        assert expected[passed : passed + 1] in ([schedule.next_after(at)], [])
        assert passed == schedule.count(after=begin, until=at)
        assert len(expected) - passed == schedule.count(after=at, until=end)
        newest = expected[passed - 1] if passed else None
        assert newest == schedule.latest(at, after=begin)
        if newest is not None:
            assert schedule.latest(at, after=newest) is None


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
    shown = [wall for _, wall in walls(turning, utc(2027, 1, 1))]
    assert 2 == shown.count(datetime(2027, 1, 1, 0, 30))

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
    schedule = from_json({**value, "timezone": "Europe/Berlin"})

    assert expected == going(schedule, after, expected[-1])


# -- laws ---------------------------------------------------------------------------------------


def field(low, high):
    numbers = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        numbers,
        st.integers(1, high).map("*/{}".format),
        st.tuples(numbers, numbers).map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(numbers, numbers, st.integers(1, 9)).map(lambda it: "{}-{}/{}".format(*it)),
        st.lists(numbers, min_size=1, max_size=5),
    )


names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
values = st.fixed_dictionaries(
    {"minute": field(0, 59)},
    optional={
        "hour": field(0, 23),
        "day_of_week": field(0, 6),
        "day_of_month": field(1, 31),
        "month_of_year": field(1, 12),
    },
)
zones = st.sampled_from(sorted({zone for zone, _ in CHANGES}))
instants = st.one_of(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.builds(
        lambda middle, seconds: middle + timedelta(seconds=seconds),
        st.sampled_from([middle for _, middle in CHANGES]),
        st.integers(-200_000, 200_000),
    ),
)


def crontab(value, zone):
    try:
        return from_json(value, timezone=zone)
    except ScheduleError as error:
        assume("never matches" not in str(error))
        raise


@properties
@given(values, zones, instants, st.floats(0, 1))
def test_the_next_is_later_and_the_same_from_anywhere_before_it(value, zone, at, share):
    schedule = crontab(value, zone)
    due = schedule.next_after(at)
    between = due - (due - at) * share

    assert at < due
    if between < due:
        assert due == crontab(value, zone).next_after(between)
    assert due == schedule.latest(due, after=at)
    assert schedule.latest(due - timedelta(microseconds=1), after=at) is None
    assert 1 == schedule.count(after=at, until=due)
    assert due < schedule.next_after(due)


@properties
@given(values, zones, instants, instants)
def test_who_asks_later_is_never_answered_earlier(value, zone, one, other):
    schedule = crontab(value, zone)

    assert schedule.next_after(min(one, other)) <= schedule.next_after(max(one, other))


@properties
@given(values, zones, instants, st.integers(0, 40), st.floats(0, 0.999))
def test_latest_and_count_agree_with_going_from_one_to_the_next(value, zone, after, steps, share):
    schedule = crontab(value, zone)
    walked = []
    at = after
    for _ in range(steps):
        at = schedule.next_after(at)
        walked.append(at)
    following = schedule.next_after(at)
    until = min(at + (following - at) * share, following - timedelta(microseconds=1))

    assert steps == schedule.count(after=after, until=until)
    assert (walked[-1] if walked else None) == schedule.latest(until, after=after)


@properties
@given(values, zones, st.tuples(instants, instants, instants))
def test_counts_add_up(value, zone, three):
    """Over years, which no walk in a test could go through."""
    schedule = crontab(value, zone)
    first, second, third = sorted(three)

    whole = schedule.count(after=first, until=third)
    assert whole == schedule.count(after=first, until=second) + schedule.count(
        after=second, until=third
    )
    assert 0 == schedule.count(after=third, until=first)
    newest = schedule.latest(third, after=first)
    assert (whole > 0) == (newest is not None)
    if newest is not None:
        assert 0 == schedule.count(after=newest, until=third)
        assert whole - 1 == schedule.count(after=first, until=newest - timedelta(microseconds=1))


@properties
@given(values, zones, st.sampled_from([None, "Asia/Tokyo"]))
def test_a_crontab_survives_the_table(value, zone, named):
    schedule = crontab({**value, "timezone": named} if named else value, zone)

    assert schedule == from_json(schedule.to_json(), timezone=zone)
    assert schedule.to_json() == from_json(schedule.to_json()).to_json()


# -- celery's own crontab as the judge --------------------------------------------------------------

app = Celery("judge", set_as_current=False)
app.conf.timezone = "UTC"


@properties
@given(values, instants)
def test_in_utc_it_is_due_when_celerys_crontab_is(value, at):
    try:
        judge = celery_crontab(**value, app=app, nowfun=lambda: at)
    except ValueError:  # celery, too, refuses what never matches
        assume(False)
    schedule = crontab(value, "UTC")
    assert schedule == parse(celery_crontab(**value))
    try:
        remaining = judge.remaining_estimate(at)
    except RuntimeError:  # it gives up on days that are far between
        assume(False)

    assert at + remaining == schedule.next_after(at)


# -- the calendar ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "after", "expected"),
    [
        ({"minute": 0, "hour": 9}, utc(2026, 5, 5, 9), utc(2026, 5, 6, 9)),
        ({"minute": 0, "hour": 9}, utc(2026, 5, 5, 8, 59, 59, 999_999), utc(2026, 5, 5, 9)),
        ({"minute": 0, "hour": 0, "day_of_month": 31}, utc(2026, 3, 31), utc(2026, 5, 31)),
        ({"minute": 0, "hour": 0, "month_of_year": 1}, utc(2026, 1, 31), utc(2027, 1, 1)),
        ({"minute": 0, "hour": 0, "day_of_week": "sun"}, utc(2026, 5, 5), utc(2026, 5, 10)),
        # All fields must match, unlike in crontab(5): Friday the 13th.
        ({"minute": 0, "hour": 0, "day_of_week": 5, "day_of_month": 13}, utc(2026, 5, 5), utc(2026, 11, 13)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, utc(2026, 1, 1), utc(2028, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, utc(2096, 2, 29), utc(2104, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2, "day_of_week": 3}, utc(2096, 2, 29), utc(2108, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2, "day_of_week": 0}, utc(2088, 2, 29), utc(2128, 2, 29)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT-3", "Europe/Berlin"])
def test_the_next_by_the_calendar(value, after, expected, zone):
    """The same walls in every zone; none of these meets a change of clocks."""
    zone = ZoneInfo(zone)
    local_after = after.replace(tzinfo=zone).astimezone(UTC)

    due = from_json(value, timezone=zone.key).next_after(local_after)

    assert expected == due.astimezone(zone).replace(tzinfo=UTC)
    assert UTC is due.tzinfo
    assert due == from_json(value, timezone=zone.key).latest(due + HOUR, after=local_after)
    assert 1 == from_json(value, timezone=zone.key).count(after=local_after, until=due)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize(
    "value", [{"minute": "*"}, {"minute": 0, "hour": 0}, {"day_of_month": 29, "month_of_year": 2}]
)
def test_at_the_edges_of_what_a_datetime_can_say_nothing_overflows(value, zone):
    schedule = from_json(value, timezone=zone)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    assert schedule.next_after(last) is None
    assert schedule.next_after(utc(9999, 1, 1)) is None
    assert utc(2, 1, 1) - DAY <= schedule.next_after(first) <= utc(4, 3, 2)
    assert schedule.next_after(first) == schedule.next_after(first + HOUR)
    newest = schedule.latest(last, after=utc(9990, 1, 1))
    assert newest > utc(9996, 1, 1)
    assert schedule.next_after(newest) is None
    assert schedule.latest(first, after=first) is None
    assert 0 == schedule.count(after=first, until=first)
    assert schedule.count(after=newest - 9000 * DAY, until=last) > 0


def test_routines_with_the_same_times_and_zone_share_the_reckoning():
    one, other = from_json({"minute": 0}), from_json({"minute": "0", "timezone": "UTC"})

    assert one._reckoning is other._reckoning
    assert one._reckoning is not from_json({"minute": 0}, timezone="Europe/Berlin")._reckoning


def test_a_whole_century_is_counted_by_the_day():
    """36,525 days of 1,440 minutes, less 24 hours and two leap days that 1900 to 2000 lacks."""
    schedule = from_json({"minute": "*"}, timezone="Europe/Berlin")

    assert 36_525 * 1440 == schedule.count(after=utc(1950, 1, 1), until=utc(2050, 1, 1))


def test_occurrences_of_a_fixed_time_never_come_closer_than_its_days():
    schedule = from_json({"minute": 30, "hour": 2}, timezone="America/New_York")
    year = going(schedule, utc(2026, 1, 1), utc(2027, 1, 1))

    assert 365 == len(year)
    assert {23 * HOUR + 30 * MINUTE, DAY, DAY - 30 * MINUTE, DAY + HOUR} >= {
        later - earlier for earlier, later in pairwise(year)
    }
    assert bisect_left(year, utc(2026, 3, 8, 7)) == 66
