"""How long after its start a beat sends its first message, and what memory it takes.

Of the routines stored ten are due, the others in a day.
"""

from __future__ import annotations

import time

from benchmarks.performance.arrivals import Arrivals
from benchmarks.performance.plan import DAY, MANY, ONCE, Case
from benchmarks.performance.stage import Failed
from benchmarks.processes import Usage
from benchmarks.schedulers import KIT, Batch

DUE = 10
#: Seconds that the first message may take, and that memory is looked at after it.
LIMIT, AFTERWARDS = 90, 2
INTERVAL = 0.1


def cases(scheduler, scale):
    for size in scale.kit_sizes if scheduler is KIT else scale.sizes:
        seconds = 5 + size * scheduler.seconds_each
        rounds = MANY if size <= 10_000 else ONCE
        yield Case("start", scheduler.name, str(size), seconds, rounds)


def measure(stage, scheduler, case, scale):
    now = time.time()
    others = int(case.name) - DUE
    batches = [
        Batch("other", others, DAY, round(now) + DAY, "other"),
        Batch("due", DUE, DAY, now, "due"),
    ]
    stage.store(scheduler, batches)
    with Arrivals(stage.servers.broker, "due", "other") as arrivals:
        began = time.time()
        with stage.beat(scheduler, batches) as beat:
            usage = Usage()

            def look():
                nonlocal usage
                beat.check()
                usage = usage.peak(beat.usage(0))

            first = _first(arrivals, look)
            end = time.monotonic() + AFTERWARDS
            while time.monotonic() < end:
                look()
                time.sleep(INTERVAL)
    if not first:
        raise Failed(f"nothing was sent within {LIMIT} s; {usage.rss_mb:.0f} MB")
    return {"seconds": first.at - began, "rss_mb": usage.rss_mb, "pss_mb": usage.pss_mb}


def _first(arrivals, look):
    """Looked at seldom, as a look at memory takes some of the core that beat may need."""
    looked = 0

    def now_and_then():
        nonlocal looked
        if time.monotonic() > looked + INTERVAL:
            look()
            looked = time.monotonic()

    return arrivals.first("due", LIMIT, check=now_and_then)
