"""What a beat costs that has routines, none of which is due: processor, statements, commands."""

from __future__ import annotations

import time

from benchmarks.performance.arrivals import Arrivals
from benchmarks.performance.plan import DAY, ONCE, Case
from benchmarks.performance.stage import Failed
from benchmarks.schedulers import KIT, Batch

#: Seconds in which it has to send the one message that is due, and then has to come to rest.
LIMIT, REST = 90, 5


def cases(scheduler, scale):
    for size in scale.kit_idle_sizes if scheduler is KIT else scale.idle_sizes:
        seconds = 6 + REST + scale.idle + size * scheduler.seconds_each
        yield Case("idle", scheduler.name, str(size), seconds, ONCE)


def measure(stage, scheduler, case, scale):
    now = time.time()
    others = int(case.name) - 1
    batches = [
        Batch("other", others, DAY, round(now) + DAY, "other"),
        Batch("due", 1, DAY, now, "due"),
    ]
    stage.store(scheduler, batches)
    with stage.beat(scheduler, batches) as beat:
        with Arrivals(stage.servers.broker, "due") as arrivals:
            if not arrivals.first("due", LIMIT, check=beat.check):
                raise Failed(f"nothing was sent within {LIMIT} s")
        time.sleep(REST)
        before = _look(stage.servers, beat)
        time.sleep(scale.idle)
        after = _look(stage.servers, beat)
    return reckon(before, after)


def _look(servers, beat):
    # Redis first: the count itself is the one command between two looks.
    return {
        "commands": servers.commands(),
        "statements": servers.statements(),
        "cpu": beat.thread_seconds(),
        "at": time.monotonic(),
    }


def reckon(before, after):
    """A core's share, and statements and commands a minute, between two looks."""
    seconds = after["at"] - before["at"]

    def a_minute(name, own=0):
        if before[name] is None:
            return None
        return 60 * (after[name] - before[name] - own) / seconds

    return {
        "cpu": (after["cpu"] - before["cpu"]) / seconds,
        "statements": a_minute("statements"),
        "commands": a_minute("commands", own=1),
    }
