"""Durations and instants as people type them."""

from __future__ import annotations

from datetime import datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_sqlalchemy_kit.cli.durations import Duration, Moment, When
from celery_sqlalchemy_kit.clock import UTC

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90 s", 90),
        ("15m", 900),
        ("15min", 900),
        ("2h", 7200),
        ("13.5d", 1_166_400),
        ("1w", 604_800),
        ("100ms", 0.1),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 2H ", 7200),
        ("0s", 0),
    ],
)
def test_a_duration_has_a_unit(text, seconds):
    assert timedelta(seconds=seconds) == Duration().convert(text, None, None)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "-5s", "+5s", "1e3s", "1.s", ".5s", "5 years", "٣s", "9" * 12 + "d", "2h!"],
)
def test_what_is_no_duration_is_refused_with_what_is(text):
    with pytest.raises(
        click.BadParameter, match="is no duration; allowed are durations such as 90s"
    ):
        Duration().convert(text, None, None)


@given(st.text("0123456789.smhdwin +-", max_size=60))
def test_any_text_is_a_duration_or_is_refused(text):
    try:
        found = Duration().convert(text, None, None)
    except click.BadParameter:
        return

    assert timedelta(0) <= found


def test_what_is_one_already_is_left_alone():
    """As a default, or what click converts a second time."""
    when = When(NOW)

    assert timedelta(1) == Duration().convert(timedelta(1), None, None)
    assert when is Moment().convert(when, None, None)


@pytest.mark.parametrize(
    ("text", "past", "at"),
    [
        ("now", False, NOW),
        ("2h", False, NOW + timedelta(hours=2)),
        ("2h", True, NOW - timedelta(hours=2)),
        ("+2h", True, NOW + timedelta(hours=2)),
        ("-2h", False, NOW - timedelta(hours=2)),
        ("2026-12-01T09:00:00Z", True, NOW + timedelta(hours=1)),
        ("2026-12-01T09:00:00z", True, NOW + timedelta(hours=1)),
        ("2026-12-01T09:00+01:00", False, NOW),
        ("2026-12-01 03:00:00-05:00", False, NOW),
    ],
)
def test_an_instant_has_an_offset_or_is_told_from_now(text, past, at):
    found = Moment(past=past).convert(text, None, None).at(NOW)

    assert (at, timedelta(0)) == (found, found.utcoffset())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-12-01",
        "2026-12-01T09:00",
        "--2h",
        "+-2h",
        "5",
        "0001-01-01T00:00+14:00",
    ],
)
def test_what_is_no_instant_is_refused_with_what_is(text):
    with pytest.raises(click.BadParameter, match="allowed are ISO 8601 with an offset"):
        Moment().convert(text, None, None)


def test_before_the_year_1_there_is_nothing():
    with pytest.raises(click.UsageError, match="900000 days is too far away"):
        Moment(past=True).convert("900000d", None, None).at(NOW)
