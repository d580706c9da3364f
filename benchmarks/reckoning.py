"""What it costs to work out when routines are due next: pure Python, no database, no broker.

    python -m benchmarks.reckoning

100,000 routines of 200 distinct schedules, crontab fields and cron strings in several zones, are
due in one minute. Told is the time for each of them, of its schedule from text and of the whole
decision, beside a bare loop that adds a minute to an instant. Then sparse schedules, none of which
has been asked before: the first answer of each, in a zone that has not been asked either.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import datetime, timedelta, timezone
from itertools import cycle, islice
from uuid import UUID
from zoneinfo import ZoneInfo

from celery_sqlalchemy_kit.due import Limits, decide
from celery_sqlalchemy_kit.routines import Routine
from celery_sqlalchemy_kit.schedules import from_json, loads, reckoning, zones

UTC = timezone.utc
#: In all of the zones at once, all of the schedules match this minute.
DUE = datetime(2026, 5, 5, 12, 30, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
SPARSE = (
    "0 0 29 2 *",
    {"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2, "day_of_week": 1},
    "0 9 * * MON#1",
    "0 0 L 2 *",
    "0 0 31 1,12 *",
    "0 0 31 8 *",
    "0 0 */31 8 SUN",
)
#: Where the schedules are sparse: of all of them the changes of clocks have to be found first.
FRESH = ("Europe/Paris", "Europe/Rome", "Europe/Madrid", "America/Chicago", "Africa/Cairo")
#: After 29 February 2072, a Monday: the next is 40 years on, as 2100 is no leap year.
FAR = datetime(2072, 3, 1, tzinfo=UTC)


def texts():
    """200 distinct schedules that are due at `DUE`, as JSON text."""
    found = []
    for number in range(20):
        for zone in ZONES:
            local = DUE.astimezone(ZoneInfo(zone))
            minute = f"{local.minute},{(local.minute + 1 + number) % 60}"
            hour = "*" if number % 2 else f"{local.hour}"
            days = "*" if number % 4 < 2 else f"1-{local.day + number}"
            line = f"{minute} {hour} {days} * *"
            found.append(json.dumps({"cron": line, "timezone": zone}))
            fields = {"minute": minute, "hour": hour, "day_of_month": days, "timezone": zone}
            found.append(json.dumps(fields))
    return found


def per_item(function, items):
    """Microseconds for each of *items*."""
    began = time.perf_counter()
    for item in items:
        function(item)
    return (time.perf_counter() - began) / len(items) * 1e6


def warm(number, rounds):
    distinct = texts()
    assert len(set(distinct)) == 200
    rows = list(islice(cycle(distinct), number))
    before = DUE - timedelta(microseconds=1)
    assert all(loads(text, "UTC").next_after(before) == DUE for text in distinct)
    routines = [
        Routine(UUID(int=n), "r", "t", loads(text, "UTC"), next_run_at=DUE, occurrence_at=DUE)
        for n, text in enumerate(rows)
    ]
    limits, now = Limits(), DUE + timedelta(seconds=1)
    told = {
        "a minute added": (lambda _: now + timedelta(minutes=1), rows),
        "next_after, from text": (lambda text: loads(text, "UTC").next_after(DUE), rows),
        "next_after, an instant each": (_at_instants(before), list(enumerate(rows))),
        "due.decide": (lambda routine: decide(routine, now, limits), routines),
    }
    assert len(decide(routines[0], now, limits).occurrences) == 1
    bare = None
    for name, (function, items) in told.items():
        seen = [per_item(function, items) for _ in range(rounds)]
        median = statistics.median(seen)
        bare = bare or median
        spread = f"{min(seen):6.2f} to {max(seen):6.2f}"
        print(f"{name:30} {median:7.2f} us   {spread}   ratio {median / bare:6.1f}")


def _at_instants(before):
    """Every routine is asked at another instant, up to 20 days back: no answer is remembered."""

    def ask(pair):
        number, text = pair
        loads(text, "UTC").next_after(before - timedelta(seconds=17.3 * number))

    return ask


def sparse(rounds):
    for value in SPARSE:
        seen = []
        for zone in FRESH:
            for number in range(rounds):
                after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
                if isinstance(value, dict):
                    after = FAR + timedelta(days=number)
                seen.append(first_answer(value, zone, after))
        shown = value if isinstance(value, str) else "fields 0 0 29 2 1"
        spread = f"{min(seen):6.0f} to {max(seen):6.0f}"
        print(f"{shown:30} {statistics.median(seen):7.0f} us   {spread}")


def first_answer(value, zone, after):
    """Microseconds from the schedule to its first answer, nothing remembered."""
    reckoning.reckoning.cache_clear()
    zones._spans_of_year.cache_clear()  # noqa: SLF001 # as after a start
    schedule = from_json(value if isinstance(value, dict) else {"cron": value}, timezone=zone)
    began = time.perf_counter()
    assert schedule.next_after(after) > after
    return (time.perf_counter() - began) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.routines} routines of 200 schedules, each of them")
    warm(options.routines, options.rounds)
    print("the first answer of a sparse schedule")
    sparse(options.rounds)


if __name__ == "__main__":
    main()
