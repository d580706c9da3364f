"""How fast routines that all become due in one second are sent, beside a bare `apply_async` loop.

They are stored, due at an instant some seconds ahead, and beat is started. Counted is what lies in
the queue from that instant on.
"""

from __future__ import annotations

import math
import time

from benchmarks.performance import readiness
from benchmarks.performance.arrivals import Arrivals
from benchmarks.performance.plan import DAY, MANY, ONCE, Case
from benchmarks.schedulers import KIT, Batch

#: Seconds ahead that the routines become due, beside what their number takes.
AHEAD = 5
INTERVAL = 0.005


def cases(scheduler, scale):
    for size in scale.kit_sizes if scheduler is KIT else scale.sizes:
        # What the kit sends within the cap, and its peers do, roughly.
        within = 100_000 if scheduler is KIT else 5_000
        seconds = 5 + AHEAD + size * scheduler.seconds_each + scale.cap * min(1, size / within)
        yield Case("dispatch", scheduler.name, str(size), seconds, MANY if size <= within else ONCE)


def measure(stage, scheduler, case, scale):
    bare = stage.bare(scheduler, scale.bare)
    size = int(case.name)
    arrived, seconds = readiness.patiently(
        lambda patience: _sent(stage, scheduler, size, scale.cap, patience)
    )
    return reckon(size, arrived, seconds, bare)


def reckon(size, arrived, seconds, bare):
    """Figures of *arrived* messages, the last of which came *seconds* after they were due."""
    rate = arrived / seconds
    return {
        "rate": rate,
        "bare": bare,
        "ratio": rate / bare,
        "messages": arrived,
        "seconds": seconds,
        "cut": arrived < size,
    }


def _sent(stage, scheduler, size, cap, patience):
    now = time.time()
    due = math.ceil(now + patience * (AHEAD + size * scheduler.seconds_each))
    batches = [Batch("measured", size, DAY, due, "measured"), readiness.first(now)]
    stage.store(scheduler, batches)
    with (
        stage.beat(scheduler, batches) as beat,
        Arrivals(stage.servers.broker, readiness.QUEUE) as arrivals,
    ):
        readiness.wait(arrivals, due, beat)
        return _counted(stage.servers, size, due, cap, beat)


def _counted(servers, size, due, cap, beat):
    while True:
        arrived = servers.waiting("measured")
        seconds = time.time() - due
        if arrived >= size or seconds >= cap:
            return arrived, seconds
        beat.check()
        time.sleep(INTERVAL)
