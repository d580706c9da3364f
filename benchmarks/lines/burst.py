"""How late messages arrive while routines are due all the time, spread evenly over it or not."""

from __future__ import annotations

import time
from datetime import timedelta

from benchmarks.arrivals import Arrivals, judged, missed, scheduled
from benchmarks.beats import beat, wait_until
from benchmarks.lines import alone
from benchmarks.percentiles import percentile
from benchmarks.rows import engine_of, execute, present, spread, store

TITLE = (
    "burst: 200 a second and 1,000 every ten, evenly spread and each time all at one instant; "
    "5,000 a second, evenly spread; for a minute each"
)
#: Routines, and the seconds between two runs of each.
STEADY, FAST = ((200, 1), (1000, 10)), ((5000, 1),)
SETTLE = 5


def measure(database, broker, *, scale):
    seconds = max(10, int(60 * scale))
    engine = engine_of(database)
    figures = {}
    for title, loads, over in (
        ("300/s", STEADY, 1.0),
        ("300/s at one instant", STEADY, 0.0),
        ("5,000/s", FAST, 1.0),
    ):
        found = held(engine, database, broker, loads, seconds, over)
        figures |= {f"{title}: {name}": value for name, value in found.items()}
    return figures


def held(engine, database, broker, loads, seconds, over):
    """*loads*: of each kind of routine how many, and every how many seconds each is due; spread
    *over* a share of that time."""
    store(engine, 0)
    first = present(SETTLE)
    for place, (number, every) in enumerate(loads):
        spread(engine, f"load{place} ", number, every, first, over=over)
    until = first + timedelta(seconds=seconds)
    expected = sum(number * seconds // every for number, every in loads)
    with beat(database, broker) as scheduler, Arrivals(broker) as arrivals:
        wait_until(lambda: present() > first)
        used = scheduler.cpu_seconds()
        wait_until(lambda: present() > until)
        used = scheduler.cpu_seconds() - used
        time.sleep(2)  # what is late arrives
        scheduler.check()
        execute(engine, "UPDATE routines SET active = false")
        time.sleep(1)
        lost = missed(engine)
    due = scheduled(engine, first, until)
    seen = arrivals.seen()
    return {
        **judged(seen, due, expected),
        "missed": lost,
        "drift of the last tenth, ms": drift(seen, due) * 1000,
        "share of a core, %": used / seconds * 100,
    }


def drift(seen, due):
    """By how much later the last tenth arrives than the first, in seconds and by the median."""
    late = [at - due[key] for key, at in seen if key in due]
    tenth = max(1, len(late) // 10)
    return percentile(late[-tenth:], 0.5) - percentile(late[:tenth], 0.5)


if __name__ == "__main__":
    alone.main(TITLE, measure)
