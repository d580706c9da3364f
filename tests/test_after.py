"""Schedules that count from the end of the run before."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from strategies import afters, instants, properties
from walls import MOMENT, UTC, utc

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import After, from_json, parse, to_celery

NOON = utc(2026, 5, 5, 12)
ALLOWED = "allowed are 0 to 3155760000 seconds (100 years)"


@pytest.mark.parametrize(
    ("seconds", "delay"),
    [
        (5, timedelta(seconds=5)),
        (5.0, timedelta(seconds=5)),
        (0, timedelta(0)),
        (0.25, timedelta(milliseconds=250)),
        (0.000001, MOMENT),
        (3_155_760_000, timedelta(days=36_525)),
    ],
)
def test_it_is_due_that_long_after_the_end(seconds, delay):
    assert After(delay) == After(seconds) == from_json({"after": seconds}) == parse(After(seconds))
    assert NOON + max(delay, MOMENT) == After(seconds).next_after(NOON)
    assert delay == timedelta(seconds=After(seconds).to_json()["after"])


def test_elapsed_time_knows_no_zone():
    assert After(5) == from_json({"after": 5}, timezone="Europe/Atlantis")
    assert NOON + timedelta(seconds=5) == After(5).next_after(NOON, anchor=utc(2000, 1, 1))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"after": -1}, f'schedule {{"after": -1}}: a delay is a number of seconds; {ALLOWED}'),
        ({"after": -0.0001}, ALLOWED),
        ({"after": 3_155_760_000.1}, ALLOWED),
        ({"after": 10**400}, ALLOWED),
        ({"after": -(10**400)}, ALLOWED),
        ({"after": math.nan}, ALLOWED),
        ({"after": math.inf}, ALLOWED),
        ({"after": "5"}, ALLOWED),
        ({"after": None}, ALLOWED),
        ({"after": True}, ALLOWED),
        ({"after": [5]}, ALLOWED),
        ({"after": 5, "timezone": "UTC"}, "unknown key 'timezone'; allowed are after"),
        ({"after": 5, "x" * 5000: 1}, "unknown key 'xxx"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_no_delay_is_refused_with_what_is_allowed(value, says):
    with pytest.raises(ScheduleError) as caught:
        from_json(value)

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("delay", [-1, timedelta(-1), timedelta.max, "5", None, False, math.nan])
def test_in_code_too(delay):
    with pytest.raises(ScheduleError, match="a delay is a number of seconds"):
        After(delay)


@properties
@given(afters, instants)
def test_of_what_follows_only_the_first_is_known_beforehand(after, at):
    """And nothing of what has been, as the ends of runs are not known here."""
    assert [after.next_after(at)] == after.upcoming(at, 1) == after.upcoming(at, 5)
    assert after.latest(at, after=utc(1900, 1, 1)) is None
    assert 0 == after.count(after=utc(1900, 1, 1), until=at)


def test_beyond_the_last_year_it_is_never_due():
    assert After(0).next_after(datetime.max.replace(tzinfo=UTC)) is None
    assert After(3_155_760_000).next_after(utc(9950, 1, 1)) is None


def test_in_words_and_to_celery():
    assert "0.5 s after the run before has ended" == After(0.5).words()
    assert timedelta(seconds=5) == to_celery(After(5)).run_every
    assert hash(After(5)) == hash(After(timedelta(seconds=5)))
    assert After(5) != parse(5)
