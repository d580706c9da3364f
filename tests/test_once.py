"""Schedules that are due once: what is read as an instant, and that it comes once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ZONES, properties
from walls import DAY, MOMENT, UTC, changes, stretch, utc

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import Once, from_json, parse, to_celery

NOON = utc(2026, 12, 1, 12)
BERLIN = ZoneInfo("Europe/Berlin")


class Nowhere(tzinfo):
    """A zone that does not know its offset, so that a datetime in it is naive."""

    def utcoffset(self, when):
        return None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-12-01T09:00:00Z", utc(2026, 12, 1, 9)),
        ("2026-12-01T09:00:00z", utc(2026, 12, 1, 9)),
        ("2026-12-01T09:00Z", utc(2026, 12, 1, 9)),
        ("2026-12-01T09Z", utc(2026, 12, 1, 9)),
        ("20261201T090000Z", utc(2026, 12, 1, 9)),
        ("2026-12-01T09:00:00.000001Z", utc(2026, 12, 1, 9, 0, 0, 1)),
        ("2026-12-01T09:00:00,5Z", utc(2026, 12, 1, 9, 0, 0, 500_000)),
        ("2026-12-01T09:00:00.123456789Z", utc(2026, 12, 1, 9, 0, 0, 123_456)),
        # As databases write it.
        ("2026-12-01 09:00:00+00", utc(2026, 12, 1, 9)),
        ("2026-12-01 09:00:00.25+05:30", utc(2026, 12, 1, 3, 30, 0, 250_000)),
        ("2026-12-01T09:00:00-0330", utc(2026, 12, 1, 12, 30)),
        ("2026-12-01T09:00:00+23:59", utc(2026, 11, 30, 9, 1)),
        ("2026-12-01T24:00Z", utc(2026, 12, 2)),
        ("2026-12-01T24:00:00Z", utc(2026, 12, 2)),
        ("2026-12-01T09:00:00.250Z", utc(2026, 12, 1, 9, 0, 0, 250_000)),
        ("2026-12-01T09:00:00.25Z", utc(2026, 12, 1, 9, 0, 0, 250_000)),
        # Without an offset, in Berlin: an hour before UTC, in summer two.
        ("2026-12-01T09:00", utc(2026, 12, 1, 8)),
        ("2026-07-01T09:00", utc(2026, 7, 1, 7)),
        ("2026-12-01", utc(2026, 11, 30, 23)),
        ("20260701", utc(2026, 6, 30, 22)),
        # 29 March 2026, 02:00 becomes 03:00 at 01:00 UTC: what is skipped is due then.
        ("2026-03-29T01:59:59", utc(2026, 3, 29, 0, 59, 59)),
        ("2026-03-29T02:00", utc(2026, 3, 29, 1)),
        ("2026-03-29T02:30", utc(2026, 3, 29, 1)),
        ("2026-03-29T03:00", utc(2026, 3, 29, 1)),
        # 25 October 2026, 03:00 becomes 02:00 at 01:00 UTC: the first of two.
        ("2026-10-25T01:59", utc(2026, 10, 24, 23, 59)),
        ("2026-10-25T02:00", utc(2026, 10, 25, 0)),
        ("2026-10-25T02:30", utc(2026, 10, 25, 0, 30)),
        ("2026-10-25T03:00", utc(2026, 10, 25, 2)),
        ("2026-10-25T02:30+01:00", utc(2026, 10, 25, 1, 30)),
        ("0003-01-02T00:00Z", utc(3, 1, 2)),
        ("9997-12-31T23:59:59.999999Z", utc(9997, 12, 31, 23, 59, 59, 999_999)),
    ],
)
def test_an_instant_is_read(text, at):
    assert Once(at) == from_json({"once": text}, timezone="Europe/Berlin")
    assert Once(at) == from_json({"once": text, "timezone": "Europe/Berlin"}, timezone="Asia/Tokyo")


@pytest.mark.parametrize("zone", [*ZONES, "Asia/Kathmandu", "America/Havana"])
def test_of_an_instant_without_an_offset_the_first_minute_counts_that_shows_or_passes_it(zone):
    """Judged by walking every minute about every change of clocks of a year."""
    for change in changes(zone, 2026, 2026) or [NOON]:
        reached = stretch(zone, change - DAY, change + DAY).reached
        for number, minutes in reached.items():
            for minute, at in list(minutes.items())[::3]:
                wall = datetime.fromordinal(number) + timedelta(minutes=minute)
                assert Once(at) == from_json({"once": wall.isoformat()}, timezone=zone)


def test_in_code_a_datetime_is_once():
    at = datetime(2026, 12, 1, 9, tzinfo=BERLIN)

    assert Once(utc(2026, 12, 1, 8)) == parse(at) == Once(at) == parse(Once(at))
    assert UTC is parse(at).at.tzinfo
    assert Once(utc(2026, 12, 1, 8)) == parse(at.replace(tzinfo=None), timezone="Europe/Berlin")
    assert Once(utc(2026, 12, 1, 9)) == parse(at.replace(tzinfo=None))
    assert Once(utc(2026, 12, 1, 4)) == parse(at.replace(tzinfo=timezone(timedelta(hours=5))))


def test_an_aware_datetime_tells_which_of_two_hours_it_means_and_a_naive_one_cannot():
    second = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)

    assert utc(2026, 10, 25, 1, 30) == parse(second).at
    assert utc(2026, 10, 25, 0, 30) == parse(second.replace(fold=0)).at
    naive = second.replace(tzinfo=None)
    assert utc(2026, 10, 25, 0, 30) == parse(naive, timezone="Europe/Berlin").at


FORM = "allowed is an instant in ISO 8601 such as 2026-12-01T09:00:00Z"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"once": ""}, f'schedule {{"once": ""}}: once ""; {FORM}'),
        ({"once": "tomorrow"}, f'once "tomorrow"; {FORM}'),
        ({"once": "09:00"}, 'once "09:00"'),
        ({"once": "01.12.2026"}, 'once "01.12.2026"'),
        ({"once": "12/01/2026"}, 'once "12/01/2026"'),
        # What names no day: nobody has said that the first is meant.
        ({"once": "2026"}, 'once "2026"'),
        ({"once": "2026-12"}, 'once "2026-12"'),
        ({"once": "2026-W10"}, 'once "2026-W10"'),
        ({"once": "2026-1201"}, 'once "2026-1201"'),
        ({"once": "2026-13-01"}, 'once "2026-13-01"'),
        ({"once": "2026-02-30"}, 'once "2026-02-30"'),
        ({"once": "2026-12-01T25:00"}, 'once "2026-12-01T25:00"'),
        ({"once": "2026-12-01T09:60"}, 'once "2026-12-01T09:60"'),
        ({"once": "2026-12-01T09:00:60Z"}, 'once "2026-12-01T09:00:60Z"'),
        ({"once": "2026-12-01T09:00+24:00"}, 'once "2026-12-01T09:00+24:00"'),
        ({"once": "2026-12-01T09:00 Europe/Berlin"}, "once "),
        ({"once": " 2026-12-01"}, "once "),
        ({"once": "2026-12-01Z"}, "once "),
        ({"once": "２０２６-12-01"}, "once "),
        ({"once": "9999-12-31T24:00"}, "once "),
        ({"once": "x" * 5000}, "once "),
        ({"once": "2026-12-01\0"}, "once "),
        ({"once": 1_796_115_600}, f"once 1796115600; {FORM}"),
        ({"once": None}, "once null"),
        ({"once": True}, "once true"),
        ({"once": ["2026-12-01"]}, "once ["),
        ({"once": "0002-12-31T23:59Z"}, "the year is 2; allowed are 3 to 9997"),
        ({"once": "9998-01-01T00:00Z"}, "the year is 9998; allowed are 3 to 9997"),
        ({"once": "2026-12-01", "at": 9}, "unknown key 'at'; allowed are once, timezone"),
        ({"once": "2026-12-01", "minute": 9}, "unknown key 'minute'"),
        ({"once": "2026-12-01", "timezone": "Europe/Atlantis"}, 'unknown time zone "Europe/Atlantis"'),
        ({"once": "2026-12-01Z", "timezone": None}, "unknown time zone null"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_instant_is_refused_with_what_is_allowed(value, says):
    with pytest.raises(ScheduleError) as caught:
        from_json(value)

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "at", [datetime(1, 1, 1), datetime(9999, 12, 31), datetime(9998, 1, 1, tzinfo=UTC)]
)
def test_in_code_too_the_years_have_bounds(at):
    with pytest.raises(ScheduleError, match="allowed are 3 to 9997"):
        parse(at, timezone="Europe/Berlin")


@pytest.mark.parametrize(
    "at", [datetime(2026, 12, 1), datetime(2026, 12, 1, tzinfo=Nowhere()), "2026-12-01", None, 5]
)
def test_once_itself_takes_aware_datetimes_alone(at):
    with pytest.raises(ScheduleError, match="Once takes an aware datetime"):
        Once(at)


def test_an_unknown_default_zone_is_refused_where_it_is_needed():
    with pytest.raises(ScheduleError, match="unknown time zone"):
        from_json({"once": "2026-12-01"}, timezone="Europe/Atlantis")
    assert Once(NOON) == parse(NOON, timezone="Europe/Atlantis")


def test_it_is_due_at_its_instant_and_never_again():
    once = Once(NOON)

    assert NOON == once.next_after(NOON - MOMENT) == once.next_after(utc(1, 1, 1))
    assert once.next_after(NOON) is None
    assert [NOON] == once.upcoming(NOON - MOMENT, 3)
    assert [] == once.upcoming(NOON, 3)
    assert NOON == once.latest(NOON, after=NOON - MOMENT)
    assert once.latest(NOON - MOMENT, after=utc(1, 1, 1)) is None
    assert once.latest(utc(2030, 1, 1), after=NOON) is None
    assert (1, 0, 0) == (
        once.count(after=NOON - MOMENT, until=NOON),
        once.count(after=NOON, until=utc(2030, 1, 1)),
        once.count(after=utc(2020, 1, 1), until=NOON - MOMENT),
    )


@properties
@given(
    st.datetimes(datetime(3, 1, 2), datetime(9997, 12, 30)),
    st.sampled_from([UTC, BERLIN, timezone(timedelta(hours=-11))]),
)
def test_what_is_stored_is_exact_and_in_utc(wall, zone):
    at = wall.replace(tzinfo=zone)
    written = Once(at).to_json()

    assert written["once"].endswith("Z")
    assert at.astimezone(UTC) == from_json(written, timezone="Asia/Tokyo").at


def test_equal_instants_are_equal_wherever_they_are_told():
    one = from_json({"once": "2026-12-01T09:00", "timezone": "Europe/Berlin"})
    other = from_json({"once": "2026-12-01T08:00Z"})

    assert one == other
    assert hash(one) == hash(other)
    assert {"once": "2026-12-01T08:00:00Z"} == one.to_json()
    assert "once, at 2026-12-01 08:00:00 UTC" == one.words()


def test_celery_is_given_an_interval_in_its_place():
    assert to_celery(Once(NOON)).run_every > timedelta(0)
