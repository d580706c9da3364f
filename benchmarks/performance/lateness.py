"""How late messages come, and whether all do: 200 routines a second, and 1,000 every ten.

Each for a minute, all counted from one instant. An arrival belongs to the latest instant at which
its routine was due, and is late by what has passed since. So lateness is below the interval, and
what falls further behind is missing at one instant, or doubled at another.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import replace

from benchmarks.performance import readiness
from benchmarks.performance.arrivals import Arrivals
from benchmarks.performance.plan import GRID, KINDS, ONCE, Case

AHEAD = 6

#: Where a larger share is missing, nobody can tell which instant an arrival is late for.
TELLING = 0.1


def cases(scheduler, scale):
    for kind in KINDS:
        yield Case(
            "lateness", scheduler.name, kind.name, max(kind.every, scale.lateness) + AHEAD + 2, ONCE
        )


def measure(stage, scheduler, case, scale):
    kind = next(kind for kind in KINDS if kind.name == case.name)
    seconds = max(kind.every, scale.lateness)
    return readiness.patiently(
        lambda patience: _measured(stage, scheduler, kind, seconds, AHEAD * patience)
    )


def _measured(stage, scheduler, kind, seconds, ahead):
    now = time.time()
    batch = replace(kind, due=math.ceil(now) + ahead)
    batches = [batch, readiness.first(now)]
    stage.store(scheduler, batches)
    with (
        stage.beat(scheduler, batches) as beat,
        Arrivals(stage.servers.broker, batch.queue, readiness.QUEUE) as arrivals,
    ):
        readiness.wait(arrivals, batch.due, beat)
        while time.time() < batch.due + seconds:
            beat.check()
            time.sleep(0.2)
    found = [one for one in arrivals.all() if one.queue == batch.queue]
    return reckon([(one.number, one.at) for one in found], batch, seconds)


def reckon(arrivals, batch, seconds):
    """Figures of *arrivals*, (number, instant), of a *batch* during *seconds* from its first."""
    arrivals = [one for one in arrivals if batch.due <= one[1] < batch.due + seconds]
    late = sorted((at - batch.due) % batch.every for _, at in arrivals)
    slots = Counter((number, int((at - batch.due) // batch.every)) for number, at in arrivals)
    expected = batch.number * (seconds // batch.every)
    missed = 1 - len(slots) / expected
    return {
        **{f"p{part}": percentile(late, part) for part in (50, 90, 99)},
        "max": percentile(late, 100),
        "missed": missed,
        "doubled": (len(arrivals) - len(slots)) / expected,
        "drift": _drift(arrivals, batch) if missed <= TELLING else None,
        "quantiles": [round(percentile(late, part), 6) for part in GRID] if late else [],
    }


def percentile(values, part):
    """The smallest of sorted *values* that *part* per cent of them do not exceed; None: of none."""
    return values[max(0, math.ceil(len(values) * part / 100) - 1)] if values else None


def _drift(arrivals, batch):
    """How many seconds later a minute makes a routine, in the median; None: none came thrice."""
    by_number = defaultdict(list)
    for number, at in arrivals:
        by_number[number].append(at)
    slopes = [slope(instants, batch) for instants in by_number.values() if len(instants) > 2]
    return 60 * statistics.median(slopes) if slopes else None


def slope(instants, batch):
    """By how much a second makes one routine later, by least squares.

    Beyond the interval lateness begins anew; that jump is taken out.
    """
    late, before = [], None
    for at in instants:
        now = (at - batch.due) % batch.every
        if before is not None:
            now += round((before - now) / batch.every) * batch.every
        late.append(now)
        before = now
    return statistics.linear_regression(instants, late).slope
