"""A server that is away: said once, knocked at until it answers, said again when it is back."""

from __future__ import annotations

import logging
import threading
from datetime import datetime

import pytest
from servers import wait_for

from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.outage import (
    LONGEST_SECONDS,
    MOST_KNOCKS,
    SHORTEST_SECONDS,
    Outage,
)

ERROR = OSError("no route to host")


class Server:
    """What is knocked at: answers, refuses, or leaves a knock without an answer."""

    def __init__(self):
        self.up = False
        self.hangs = threading.Event()
        self.hangs.set()
        self.knocks = 0
        self.waiting = 0

    def reaches(self):
        self.knocks += 1
        self.waiting += 1
        self.hangs.wait()
        self.waiting -= 1
        return self.up


@pytest.fixture
def clock():
    return SettableClock(datetime(2026, 5, 5, tzinfo=UTC))


@pytest.fixture
def server():
    server = Server()
    yield server
    server.hangs.set()


@pytest.fixture
def outage(clock, server, caplog):
    caplog.set_level(logging.DEBUG, "celery_sqlalchemy_kit.outage")
    return Outage("the database", clock, server.reaches)


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
    outage.goes_on(ERROR)
    clock.advance(2)
    outage.ends()

    assert ["ERROR", "WARNING"] == [level for level, _ in told(caplog)]
    assert "after 2.0 s" in told(caplog)[-1][1]


def test_what_halts_and_where_are_told(clock, server, caplog):
    Outage("the broker", clock, server.reaches, halts="claimed").goes_on(ERROR, "redis://host")

    ((_, line),) = told(caplog)
    assert "the broker redis://host cannot be reached, nothing is claimed until it can: " in line


def test_what_a_driver_says_in_several_lines_is_told_in_one(outage, caplog):
    outage.goes_on(OSError("connection refused\n\tIs the server running?\n\n(Background: …)\n"))
    ((_, line),) = told(caplog)

    assert line.endswith(": connection refused Is the server running? (Background: …)")


def test_it_lasts_from_the_first_word_to_the_last(outage):
    assert not outage.lasts
    outage.goes_on(ERROR)
    assert outage.lasts
    outage.ends()
    assert not outage.lasts


def knock(outage, server, clock, seconds=LONGEST_SECONDS):
    """Let time pass, and wait until what is knocked at then has returned."""
    clock.advance(seconds)
    before = server.knocks
    outage.answered()
    wait_for(lambda: server.knocks > before and not server.waiting, what="a knock")
    return outage.answered()


def test_it_is_knocked_at_until_it_answers(outage, server, clock):
    outage.goes_on(ERROR)
    assert not outage.answered()
    assert 0 == server.knocks, "not before its time"

    assert not knock(outage, server, clock)
    server.up = True
    wait_for(lambda: knock(outage, server, clock) or outage.answered(), what="an answer")

    knocks = server.knocks
    clock.advance(60)
    assert outage.answered()
    assert knocks == server.knocks, "no more is needed"


def test_an_answer_counts_no_more_when_it_goes_on_after_all(outage, server, clock):
    server.up = True
    outage.goes_on(ERROR)
    wait_for(lambda: knock(outage, server, clock) or outage.answered(), what="an answer")

    outage.goes_on(ERROR)

    assert not outage.answered()


def test_a_knock_without_an_answer_holds_up_no_other(outage, server, clock):
    server.hangs.clear()
    outage.goes_on(ERROR)
    for count in range(1, 3 * MOST_KNOCKS):
        clock.advance(LONGEST_SECONDS)
        assert not outage.answered()
        wait_for(lambda: server.waiting == min(count, MOST_KNOCKS), what="another knock")  # noqa: B023
    server.up = True

    server.hangs.set()

    wait_for(lambda: outage.answered(), what="an answer")
    wait_for(lambda: server.waiting == 0, what="the end of the knocks")
    outage.goes_on(ERROR)
    assert knock(outage, server, clock)


def test_an_answer_ends_the_wait(clock, server):
    outage = Outage("the database", clock, server.reaches)
    server.hangs.clear()
    server.up = True
    outage.goes_on(ERROR)
    clock.advance(LONGEST_SECONDS)
    outage.answered()
    waiting = threading.Thread(target=outage.wait, args=(600,))
    waiting.start()

    server.hangs.set()

    wait_for(lambda: not waiting.is_alive(), timeout=LONGEST_SECONDS, what="the end of the wait")


@pytest.mark.parametrize("luck", [0.5, 1.0])
def test_the_time_between_two_knocks_doubles_up_to_the_longest(
    monkeypatch, outage, server, clock, luck
):
    monkeypatch.setattr("random.uniform", lambda least, most: luck)
    outage.goes_on(ERROR)
    gaps, gap = [], 0.0
    while len(gaps) < 5:
        gap += 0.0625
        clock.advance(0.0625)
        before = server.knocks
        outage.answered()
        wait_for(lambda: not server.waiting, what="the end of a knock")
        if server.knocks > before:
            gaps.append(gap / luck)
            gap = 0.0

    assert [0.25, 0.5, 1.0, 1.0, 1.0] == gaps


def test_the_knocks_of_many_schedulers_come_one_after_another(clock, server):
    server.up = True
    outages = [Outage("the database", clock, server.reaches) for _ in range(20)]
    for each in outages:
        each.goes_on(ERROR)
    clock.advance(0.75 * SHORTEST_SECONDS)
    for each in outages:
        each.answered()

    wait_for(lambda: server.knocks, what="the first knocks")
    assert server.knocks < len(outages)


def test_the_longest_gap_leaves_time_within_two_seconds():
    assert LONGEST_SECONDS < 2
