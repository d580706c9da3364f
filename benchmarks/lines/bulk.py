"""Statements over 100,000 rows while routines are due, and a million one-offs."""

from __future__ import annotations

import time
from itertools import repeat

from celery import Celery

from benchmarks.arrivals import Arrivals, judged, missed, scheduled
from benchmarks.beats import beat, wait_until
from benchmarks.lines import alone
from benchmarks.rows import DAY, engine_of, execute, number, present, spread, store
from celery_sqlalchemy_kit import Routines
from celery_sqlalchemy_kit.client import OneOff
from celery_sqlalchemy_kit.tables import routines

TITLE = "bulk: 100,000 rows in one statement while 200 runs a second are due; a million one-offs"
RATE, SETTLE = 200, 5
#: Seconds between the statements, at least; after which those that have to be planned are.
PAUSE = 2
INSERT = (
    "INSERT INTO routines (name, task, schedule, origin) SELECT 'row ' || n, 'benchmark.nothing', "
    f"'{DAY}', 'db' FROM generate_series(1, ROWS) AS n"
)
STATEMENTS = {
    "insert": INSERT,
    "switch off": "UPDATE routines SET active = false WHERE name LIKE 'row %'",
    "switch on": "UPDATE routines SET active = true WHERE name LIKE 'row %'",
    "change of schedule": (
        """UPDATE routines SET schedule = '{"timedelta": 90000}' WHERE name LIKE 'row %'"""
    ),
    "change of arguments": "UPDATE routines SET args = '[3]' WHERE name LIKE 'row %'",
    "delete": "DELETE FROM routines WHERE name LIKE 'row %'",
}


def measure(database, broker, *, scale):
    rows = max(1000, int(100_000 * scale))
    engine = engine_of(database)
    store(engine, 0)
    first = present(SETTLE)
    spread(engine, "load ", RATE, 1, first)
    figures, whiles = {}, {}
    with beat(database, broker) as scheduler, Arrivals(broker) as arrivals:
        wait_until(lambda: present() > first)
        time.sleep(PAUSE)
        whiles["before"] = (first, present())
        for name, statement in STATEMENTS.items():
            began, at = time.perf_counter(), present()
            execute(engine, statement.replace("ROWS", str(rows)))
            figures[f"{name}: statement, s"] = time.perf_counter() - began
            wait_until(lambda: _unplanned(engine) == 0, interval=0.1)
            figures[f"{name}: until all are planned, s"] = time.perf_counter() - began
            time.sleep(PAUSE)
            whiles[name] = (at, present())
        time.sleep(1)
        scheduler.check()
    figures |= _late(engine, arrivals.seen(), whiles)
    figures["of the load missed"] = missed(engine)
    store(engine, 0)
    ones = max(1000, int(1_000_000 * scale))
    figures["one-offs created"] = ones
    figures["one-offs by once_all, s"] = _one_offs(database, ones)
    return figures


def _unplanned(engine):
    return number(engine, routines, routines.c.active, routines.c.next_run_at.is_(None))


def _late(engine, seen, whiles):
    figures = {}
    lost = {"not arrived": 0, "arrived twice": 0}
    for name, (since, until) in whiles.items():
        due = scheduled(engine, since, until, "load %")
        found = judged(seen, due, len(due))
        for what in ("p50", "p99", "max"):
            figures[f"{name}: load late {what}, ms"] = found[f"late {what}, ms"]
        lost = {what: lost[what] + found[what] for what in lost}
    return figures | {f"of the load {what}": number for what, number in lost.items()}


def _one_offs(database, ones):
    app = Celery("benchmark-client", broker="memory://", set_as_current=False)
    app.conf.scheduler_db_uri = database
    wanted = repeat(OneOff("benchmark.nothing", in_=86_400), ones)
    began = time.perf_counter()
    Routines(app).once_all(wanted)
    return time.perf_counter() - began


if __name__ == "__main__":
    alone.main(TITLE, measure)
