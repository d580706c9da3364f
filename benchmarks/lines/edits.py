"""How soon an edit by SQL is obeyed while the scheduler is at work."""

from __future__ import annotations

import time

from benchmarks.arrivals import Arrivals
from benchmarks.beats import beat, wait_until
from benchmarks.edits import obeyed_after
from benchmarks.lines import alone
from benchmarks.percentiles import lateness
from benchmarks.rows import DAY, engine_of, execute, present, schedulers, spread, store, value

TITLE = "edits: a committed UPDATE obeyed while 1,000 runs a second are dispatched"
RATE, EDITS = 1000, 200


def measure(database, broker, *, scale):
    engine = engine_of(database)
    figures = {}
    for title, rate in (("idle", 0), (f"{RATE}/s", RATE)):
        figures |= lateness(_seconds(engine, database, broker, rate, scale), f"{title}, obeyed")
    return figures


def _seconds(engine, database, broker, rate, scale):
    store(engine, 0)
    execute(
        engine,
        "INSERT INTO routines (name, task, schedule, origin) VALUES ('edited', :task, :day, 'db')",
        task="benchmark.nothing",
        day=DAY,
    )
    key = value(engine, "SELECT id FROM routines")
    spread(engine, "load", rate, 1, present(3))
    with beat(database, broker), Arrivals(broker):
        wait_until(lambda: schedulers(engine) == 1)
        time.sleep(4)
        return [obeyed_after(engine, 0.07, key) for _ in range(max(20, int(EDITS * scale)))]


if __name__ == "__main__":
    alone.main(TITLE, measure)
