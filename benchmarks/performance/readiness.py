"""Beats that have to be up before their routines are due.

One routine is due at once, and its message tells that beat has read what it reads. If it comes too
late, all is done again, with more time.
"""

from __future__ import annotations

import time

from benchmarks.performance.plan import DAY
from benchmarks.performance.stage import Failed
from benchmarks.schedulers import Batch

QUEUE = "ready"


class NotReady(Exception):
    """The others became due before beat was there."""


def first(now):
    return Batch("ready", 1, DAY, now, QUEUE)


def wait(arrivals, due, beat):
    """Until the message is there and the others are *due*."""
    if not arrivals.first(QUEUE, due - time.time(), check=beat.check):
        raise NotReady
    time.sleep(max(0, due - time.time()))


def patiently(attempt):
    """What *attempt* returns, which is told how many times the usual time it is to leave."""
    for patience in (1, 2, 4):
        try:
            return attempt(patience)
        except NotReady:
            continue
    raise Failed("it was not ready by when its routines were due")
