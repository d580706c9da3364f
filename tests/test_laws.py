"""What holds of schedules of every kind, whatever they are and wherever they are asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import instants, properties, schedules, series
from walls import MOMENT, UTC, utc

from celery_sqlalchemy_kit.schedules import After, Once, from_json, loads, parse

anchors = st.none() | instants


def from_nothing(schedule):
    """An equal schedule that has not been asked before, with a reckoning of its own."""
    again = from_json(schedule.to_json(), timezone=getattr(schedule, "zone", "UTC"))
    if hasattr(schedule, "find_reckoning"):
        schedule.reckoning._answer = (utc(1, 1, 1), utc(1, 1, 1))
    return again


@properties
@given(schedules, instants, anchors, st.floats(0, 1))
def test_the_next_is_later_and_the_same_from_anywhere_before_it(schedule, at, anchor, share):
    due = schedule.next_after(at, anchor=anchor or at)
    assume(due is not None)
    assert at < due
    assert UTC is due.tzinfo
    if isinstance(schedule, After):  # to which an instant is the end of a run
        assert max(schedule.delay, MOMENT) == due - at
        return
    between = due - (due - at) * share
    if between < due:
        assert due == from_nothing(schedule).next_after(between, anchor=anchor or at)
    assert due == schedule.next_after(due - MOMENT, anchor=anchor or at)
    assert due == schedule.latest(due, after=at, anchor=anchor or at)
    assert schedule.latest(due - MOMENT, after=at, anchor=anchor or at) is None
    assert 1 == schedule.count(after=at, until=due, anchor=anchor or at)
    following = schedule.next_after(due, anchor=anchor or at)
    assert following is None if isinstance(schedule, Once) else due < following


@properties
@given(schedules, instants, instants, instants)
def test_who_asks_later_is_never_answered_earlier(schedule, one, other, anchor):
    early = schedule.next_after(min(one, other), anchor=anchor)
    late = schedule.next_after(max(one, other), anchor=anchor)

    assert late is None or early <= late


@properties
@given(schedules, instants, anchors, st.integers(0, 40), st.floats(0, 0.999))
def test_upcoming_latest_and_count_agree_with_going_from_one_to_the_next(
    schedule, after, anchor, steps, share
):
    walked = []
    at = after
    while len(walked) < steps:
        at = schedule.next_after(at, anchor=anchor or after)
        if at is None or (walked and isinstance(schedule, After)):
            break
        walked.append(at)

    assert walked == schedule.upcoming(after, steps, anchor=anchor)
    if isinstance(schedule, After):
        return
    at = walked[-1] if walked else after
    following = schedule.next_after(at, anchor=anchor or after) or at + timedelta(days=400)
    until = min(at + (following - at) * share, following - MOMENT)
    assert len(walked) == schedule.count(after=after, until=until, anchor=anchor or after)
    newest = walked[-1] if walked else None
    assert newest == schedule.latest(until, after=after, anchor=anchor or after)


@properties
@given(series, st.tuples(instants, instants, instants), instants)
def test_counts_add_up(schedule, three, anchor):
    """Over years, which no walk in a test could go through."""
    first, second, third = sorted(three)

    def count(after, until):
        return schedule.count(after=after, until=until, anchor=anchor)

    whole = count(first, third)
    assert whole == count(first, second) + count(second, third)
    assert 0 == count(third, first - MOMENT)
    newest = schedule.latest(third, after=first, anchor=anchor)
    assert (whole > 0) == (newest is not None)
    if newest is not None:
        assert 0 == count(newest, third)
        assert whole - 1 == count(first, newest - MOMENT)


@properties
@given(schedules, instants)
def test_of_no_time_and_of_time_that_runs_backwards_nothing_is_due(schedule, at):
    for until in (at, at - MOMENT, at - timedelta(days=4000)):
        assert schedule.latest(until, after=at) is None
        assert 0 == schedule.count(after=at, until=until)


@properties
@given(schedules, instants)
def test_a_schedule_survives_the_table(schedule, at):
    text = json.dumps(schedule.to_json())
    again = loads(text, getattr(schedule, "zone", "UTC"))

    assert schedule == again
    assert hash(schedule) == hash(again)
    assert text == json.dumps(again.to_json())
    assert schedule.next_after(at) == again.next_after(at)
    assert schedule == parse(schedule, timezone=getattr(schedule, "zone", "UTC"))
    assert schedule.words()


KINDS = [
    {"timedelta": 15},
    {"every": 1.5, "period": "days"},
    {"minute": "*/20", "hour": 2},
    {"minute": 30, "hour": 2, "timezone": "Australia/Lord_Howe"},
    {"cron": "30 2 * * SUN#2"},
    {"cron": "0 0 L * 5L", "timezone": "America/Santiago"},
    {"once": "2026-10-25T02:30:00"},
    {"once": "2026-10-25", "timezone": "Asia/Kolkata"},
    {"after": 5},
    {"solar": "sunset", "latitude": 52.52, "longitude": 13.4},
    {"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=2;BYMINUTE=30"},
]
ASKED = [utc(2026, 3, 28, 20), utc(2026, 10, 24, 20), utc(2026, 10, 25, 0, 45)]
SCRIPT = f"""
import json, time
from datetime import datetime
from celery_sqlalchemy_kit.schedules import from_json
shown = [time.tzname[0]]
for value in {KINDS!r}:
    schedule = from_json(value, timezone="Europe/Berlin")
    for at in {[at.isoformat() for at in ASKED]!r}:
        at = datetime.fromisoformat(at)
        shown.append([str(due) for due in schedule.upcoming(at, 5)])
        shown.append(schedule.count(after=at, until=at.replace(year=2027)))
print(json.dumps(shown))
"""


@pytest.mark.parametrize(
    ("zone", "name"), [("UTC", "UTC"), ("America/New_York", "EST"), ("Pacific/Chatham", "+1245")]
)
def test_the_time_zone_of_the_process_decides_nothing(zone, name):
    environment = {**os.environ, "TZ": zone}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    root = Path(__file__).parent.parent
    output = subprocess.run(
        command, env=environment, cwd=root, check=True, capture_output=True, timeout=60
    ).stdout
    expected = [name]
    for value in KINDS:
        schedule = from_json(value, timezone="Europe/Berlin")
        for at in ASKED:
            expected.append([str(due) for due in schedule.upcoming(at, 5)])
            expected.append(schedule.count(after=at, until=at.replace(year=2027)))

    assert expected == json.loads(output)


@pytest.mark.parametrize("value", KINDS, ids=str)
def test_nothing_overflows_at_the_edges_of_what_a_datetime_can_say(value):
    schedule = from_json(value)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for at in (first, first + timedelta(hours=1), last - timedelta(hours=1), last):
        due = schedule.next_after(at)
        assert due is None or due > at
    assert schedule.next_after(last) is None
    assert 0 == schedule.count(after=first, until=first)
    assert schedule.latest(last, after=last) is None


@pytest.mark.parametrize("value", KINDS, ids=str)
def test_a_naive_instant_is_refused(value):
    with pytest.raises(ValueError, match="time zone"):
        from_json(value).next_after(datetime(2026, 1, 1))


@pytest.mark.parametrize("value", KINDS, ids=str)
def test_of_no_occurrences_there_are_none_upcoming(value):
    assert [] == from_json(value).upcoming(utc(2026, 1, 1), 0)
    assert [] == from_json(value).upcoming(utc(2026, 1, 1), -1)
