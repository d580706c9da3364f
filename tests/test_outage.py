"""A server that is away: said once, waited for with back-off, said again when it is back."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest

from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.outage import LONGEST_SECONDS, SHORTEST_SECONDS, Outage

ERROR = OSError("no route to host")


@pytest.fixture
def clock():
    return SettableClock(datetime(2026, 5, 5, tzinfo=UTC))


@pytest.fixture
def outage(clock, caplog):
    caplog.set_level(logging.DEBUG, "celery_sqlalchemy_kit.outage")
    return Outage("the database", clock)


def told(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_an_outage_is_told_once(outage, caplog):
    for _ in range(5):
        outage.goes_on(ERROR)

    cannot = "routines: the database cannot be reached, nothing is dispatched until it can: no route to host"
    assert [("ERROR", cannot)] == told(caplog)


def test_its_end_is_told_once_and_how_long_it_was(outage, clock, caplog):
    outage.goes_on(ERROR)
    clock.advance(12.34)
    outage.goes_on(ERROR)
    caplog.clear()
    outage.ends()
    outage.ends()

    assert [("WARNING", "routines: the database is back after 12.3 s")] == told(caplog)


def test_nothing_is_told_of_a_server_that_was_never_away(outage, caplog):
    outage.ends()

    assert [] == told(caplog)


def test_the_next_outage_is_another(outage, clock, caplog):
    outage.goes_on(ERROR)
    outage.ends()
    clock.advance(3600)
    caplog.clear()
    assert SHORTEST_SECONDS >= outage.goes_on(ERROR)
    clock.advance(2)
    outage.ends()

    assert ["ERROR", "WARNING"] == [level for level, _ in told(caplog)]
    assert "after 2.0 s" in told(caplog)[-1][1]


def test_what_a_driver_says_in_several_lines_is_told_in_one(outage, caplog):
    outage.goes_on(OSError("connection refused\n\tIs the server running?\n\n(Background: …)\n"))
    ((_, line),) = told(caplog)

    assert line.endswith(": connection refused Is the server running? (Background: …)")


@pytest.mark.parametrize("luck", [0.5, 1.0])
def test_the_waits_double_up_to_the_longest(monkeypatch, outage, luck):
    monkeypatch.setattr("random.uniform", lambda least, most: luck)
    waits = [outage.goes_on(ERROR) / luck for _ in range(6)]

    assert [0.25, 0.5, 1.0, 1.5, 1.5, 1.5] == waits


def test_the_waits_differ_between_schedulers(clock):
    waits = {Outage("the database", clock).goes_on(ERROR) for _ in range(100)}

    assert len(waits) > 90
    assert SHORTEST_SECONDS / 2 <= min(waits) < max(waits) <= SHORTEST_SECONDS


def test_the_longest_wait_leaves_time_within_two_seconds():
    assert LONGEST_SECONDS < 2
