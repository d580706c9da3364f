"""Durations and instants as people read them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_sqlalchemy_kit.cli.times import about, duration, stamp
from celery_sqlalchemy_kit.clock import UTC

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
SECONDS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86_400}
spans = st.timedeltas(timedelta(0), timedelta(days=3000))


def seconds_of(text):
    """What *text* says, in seconds; it is written in no other form."""
    assert re.fullmatch(r"-?\d+(\.\d)? \w+( \d+ \w+)?", text), text
    parts = re.findall(r"([\d.]+) (\w+)", text)
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0004, "0 s"),
        (0.0006, "1 ms"),
        (0.35, "350 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.23, "1.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (200, "3 min 20 s"),
        (599.4, "9 min 59 s"),
        (600, "10 min"),
        (3569, "59 min"),
        (3571, "1 h"),
        (7500, "2 h 5 min"),
        (36_000, "10 h"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d"),
        (34_560_000, "400 d"),
        (-90, "-1 min 30 s"),
        (-0.0001, "0 s"),
    ],
)
def test_a_duration_is_told_in_two_units_at_most(seconds, text):
    assert text == duration(timedelta(seconds=seconds))


@given(spans)
def test_a_duration_is_off_by_less_than_a_twentieth(span):
    seconds = span.total_seconds()

    assert abs(seconds_of(duration(span)) - seconds) <= max(0.0005, seconds / 19)


@given(spans, spans)
def test_what_took_longer_is_never_told_as_shorter(one, other):
    less, more = sorted([one, other])

    assert seconds_of(duration(less)) <= seconds_of(duration(more))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.4, "now"),
        (-0.4, "now"),
        (0.6, "in 1 s"),
        (12, "in 12 s"),
        (90, "in 90 s"),
        (180, "in 3 min"),
        (5400, "in 90 min"),
        (7300, "in 2 h"),
        (172_000, "in 2 d"),
        (34_560_000, "in 400 d"),
        (-12, "12 s ago"),
        (-7300, "2 h ago"),
        (-950_400, "11 d ago"),
    ],
)
def test_how_far_off_is_told_in_one_unit(seconds, text):
    assert text == about(NOW + timedelta(seconds=seconds), NOW)


@given(spans, st.booleans())
def test_how_far_off_is_off_by_a_quarter_at_most(span, ahead):
    told = about(NOW + span if ahead else NOW - span, NOW)
    seconds = span.total_seconds()
    if told == "now":
        assert seconds < 1
        return

    assert ahead == told.startswith("in ") == (not told.endswith(" ago"))
    number = seconds_of(told.removeprefix("in ").removesuffix(" ago"))
    assert abs(number - seconds) <= max(0.5, seconds / 4)


@pytest.mark.parametrize(
    ("instant", "zone", "text"),
    [
        (NOW, "UTC", "2026-12-01 08:00 UTC"),
        (NOW, "Europe/Berlin", "2026-12-01 09:00 CET"),
        (NOW.replace(month=7), "Europe/Berlin", "2026-07-01 10:00 CEST"),
        (NOW.replace(second=5, microsecond=9), "UTC", "2026-12-01 08:00:05 UTC"),
        (NOW.replace(hour=10, minute=0), "Asia/Kolkata", "2026-12-01 15:30 IST"),
        (datetime.max.replace(tzinfo=UTC), "Asia/Tokyo", "9999-12-31 23:59:59 UTC"),
        (datetime.min.replace(tzinfo=UTC), "America/Lima", "0001-01-01 00:00 UTC"),
    ],
)
def test_an_instant_is_told_by_the_clocks_of_a_zone(instant, zone, text):
    assert text == stamp(instant, zone)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC)))
def test_an_instant_is_told_to_the_second(instant):
    text = stamp(instant).removesuffix(" UTC")

    assert instant.replace(microsecond=0, tzinfo=None) == datetime.fromisoformat(text)
