"""Several schedulers on one table."""

from __future__ import annotations

import time

from benchmarks.arrivals import Arrivals
from benchmarks.beats import Queue, beats, wait_until
from benchmarks.lines import alone
from benchmarks.rows import engine_of, make_due, planned, schedulers, store

TITLE = "side by side: 1, 2 and 4 schedulers on one table, 20,000 due at once"
COUNTS = (1, 2, 4)


def measure(database, broker, *, scale):
    due = max(1000, int(20_000 * scale))
    engine = engine_of(database)
    figures, rates = {}, {}
    for count in COUNTS:
        rates[count], used, arrived, distinct = _round(engine, database, broker, count, due)
        figures |= {
            f"{count} schedulers, runs/s": rates[count],
            f"{count} schedulers, processor ms a run": used / due * 1000,
            f"{count} schedulers, ratio to one": rates[count] / rates[1],
            f"{count} schedulers, sent twice": arrived - distinct,
            f"{count} schedulers, not sent": due - distinct,
        }
    return figures


def _round(engine, database, broker, count, due):
    store(engine, due)
    with Queue(broker) as queue, beats(count, database, broker) as started:
        wait_until(lambda: planned(engine) >= due and schedulers(engine) == count)
        time.sleep(1)  # until all have seen that there is nothing to do
        used = _used(started)
        make_due(engine)
        began = time.perf_counter()
        wait_until(lambda: queue.waiting() >= due)
        rate = due / (time.perf_counter() - began)
        time.sleep(1)  # for what would be sent twice
        used = _used(started) - used
        arrivals = Arrivals(broker)
        arrivals.take_all()
    ids = [key for key, _ in arrivals.seen()]
    return rate, used, len(ids), len(set(ids))


def _used(started):
    return sum(each.cpu_seconds() for each in started)


if __name__ == "__main__":
    alone.main(TITLE, measure)
