"""The only reader of time, and the clock that takes its place in tests."""

from __future__ import annotations

import ast
import time
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest

import celery_sqlalchemy_kit
from celery_sqlalchemy_kit.clock import DATABASE, UTC, SettableClock, as_utc

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
EAST = timezone(timedelta(hours=2))


class Zoneless(tzinfo):
    """A zone that does not know its offset, as Python allows."""

    def utcoffset(self, when):
        return None


@pytest.fixture
def clock():
    return SettableClock(NOON)


def test_the_present_is_the_databases():
    assert DATABASE.now() is None


def test_waiting_is_measured_by_the_monotonic_clock():
    before = time.monotonic()

    assert before <= DATABASE.monotonic() <= time.monotonic()


def test_a_settable_clock_stands_still(clock):
    assert (NOON, NOON, 0.0) == (clock.now(), clock.now(), clock.monotonic())


@pytest.mark.parametrize("by", [1.5, timedelta(seconds=1.5)])
def test_it_moves_on_by_seconds_or_a_timedelta(clock, by):
    assert NOON + timedelta(seconds=1.5) == clock.advance(by) == clock.now()
    assert 1.5 == clock.monotonic()


def test_it_jumps_to_an_instant(clock):
    assert NOON + timedelta(hours=1) == clock.set(datetime(2026, 5, 5, 15, tzinfo=EAST))
    assert (UTC, 3600.0) == (clock.now().tzinfo, clock.monotonic())


def test_its_monotonic_time_never_goes_back(clock):
    clock.advance(10)
    clock.set(NOON - timedelta(hours=1))
    assert 10.0 + 3610.0 == clock.monotonic()

    clock.advance(-1)
    assert 10.0 + 3610.0 + 1.0 == clock.monotonic()


def test_an_instant_is_the_same_in_utc():
    converted = as_utc(datetime(2026, 5, 5, 14, tzinfo=EAST))

    assert (NOON, UTC) == (converted, converted.tzinfo)


@pytest.mark.parametrize("naive", [datetime(2026, 5, 5), datetime(2026, 5, 5, tzinfo=Zoneless())])
def test_a_naive_datetime_is_refused(clock, naive):
    for take in (as_utc, SettableClock, clock.set):
        with pytest.raises(ValueError, match="a datetime with a time zone is needed"):
            take(naive)
    assert NOON == clock.now()


def test_nobody_else_reads_the_wall_clock():
    package = Path(celery_sqlalchemy_kit.__file__).parent
    readers = {
        file.name
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("time", "time"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}
    }

    assert {"clock.py"} == readers
    users = {file.name for file in package.rglob("*.py") if "import here" in file.read_text()}
    assert {"checkup.py"} == users
