"""How long after it was switched on the message of a routine comes.

Each of them is off, and its time has come long ago: it is due as soon as it is on. They are
switched on one by one at random instants, the way that its scheduler documents. Once nothing else
is due meanwhile, once 200 others are every second.
"""

from __future__ import annotations

import math
import random
import statistics
import time

from benchmarks.performance.arrivals import Arrivals
from benchmarks.performance.lateness import percentile
from benchmarks.performance.plan import DAY, ONCE, Case
from benchmarks.performance.stage import Failed
from benchmarks.schedulers import Batch

IDLE, BUSY = "idle", "busy"
#: Seconds for each edit, and in which the last must be obeyed.
EACH, LIMIT = 1, 30
#: Seconds for which the others are sent before.
WARM_UP = 2


def cases(scheduler, scale):
    if scheduler.edits:
        for name in (IDLE, BUSY):
            yield Case("edits", scheduler.name, name, 10 + EACH * scale.edits, ONCE)


def measure(stage, scheduler, case, scale):
    now = time.time()
    batches = [Batch("edited", scale.edits, DAY, now - DAY, "edited", active=False)]
    if case.name == BUSY:
        batches.append(Batch("other", 200, 1, math.ceil(now), "ready"))
    else:
        batches.append(Batch("other", 1, DAY, now, "ready"))
    stage.store(scheduler, batches)
    with (
        Arrivals(stage.servers.broker, "edited", "ready") as arrivals,
        stage.beat(scheduler, batches) as beat,
        stage.editor(scheduler) as switch_on,
    ):
        if not arrivals.first("ready", LIMIT, check=beat.check):
            raise Failed(f"nothing was sent within {LIMIT} s")
        time.sleep(WARM_UP)
        edited = _edited(scale.edits, switch_on)
        _wait(arrivals, scale.edits, beat)
    return reckon(edited, [(one.number, one.at) for one in arrivals.all() if one.queue == "edited"])


def _edited(number, switch_on):
    """The instant of each edit, in the order of the routines."""
    begin = time.monotonic()
    instants = []
    for edit in range(number):
        # One at a random instant of each span: in step with nobody.
        at = begin + EACH * (edit + random.random())
        time.sleep(max(0, at - time.monotonic()))
        instants.append(switch_on(f"edited-{edit}"))
    return instants


def _wait(arrivals, number, beat):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        beat.check()
        if len({one.number for one in arrivals.all() if one.queue == "edited"}) == number:
            return
        time.sleep(0.1)


def reckon(edited, arrivals):
    """Figures of edits, the nth of routine n, and of *arrivals*, (number, instant)."""
    first = {}
    for number, at in arrivals:
        first.setdefault(number, at)
    # The client hears of its COMMIT after the scheduler may have.
    seconds = {number: max(0.0, at - edited[number]) for number, at in first.items()}
    ordered = sorted(seconds.values())
    return {
        "p50": statistics.median(ordered) if ordered else None,
        "p90": percentile(ordered, 90),
        "max": percentile(ordered, 100),
        "missing": len(edited) - len(first),
        "values": [round(seconds[number], 6) for number in sorted(seconds)],
    }
