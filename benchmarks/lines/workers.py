"""What the ledger adds to a task that does nothing."""

from __future__ import annotations

import statistics
import time

import redis

from benchmarks import QUEUE
from benchmarks import app as measured
from benchmarks.beats import Queue, beat, wait_until, worker
from benchmarks.lines import alone
from benchmarks.rows import LEDGERED, engine_of, make_due, number, planned, store
from celery_sqlalchemy_kit.tables import runs

TITLE = "workers: no-ops by a worker with two processes, the kit's and Celery's acknowledged late"
#: Where the messages wait until the worker waits for them; and those that warm it up.
PARKED, WARM = "benchmark.parked", 100
ROUNDS = 3


def measure(database, broker, *, scale):
    tasks = max(500, int(10_000 * scale))
    engine = engine_of(database)
    client = redis.Redis.from_url(broker)
    rates, used, unfinished = {}, {}, 0
    kinds = {"plain": _send_plain, "kit": _send_runs}
    for turn in range(ROUNDS):
        for kind in sorted(kinds, reverse=bool(turn % 2)):
            store(engine, tasks + WARM, LEDGERED)
            with Queue(broker) as queue:
                kinds[kind](engine, queue, database, broker, tasks + WARM)
                client.rename(QUEUE, PARKED)
                rate, cpu = _worked(client, database, broker, tasks)
            rates.setdefault(kind, []).append(rate)
            used.setdefault(kind, []).append(cpu)
            unfinished += number(engine, runs, runs.c.state != "succeeded")
    return {
        **{f"{kind}: tasks/s": statistics.median(each) for kind, each in rates.items()},
        **{f"{kind}: processor ms a task": statistics.median(each) for kind, each in used.items()},
        "the kit adds of time, %": _added(rates["plain"], rates["kit"]),
        "the kit adds of processor, %": _added(used["kit"], used["plain"]),
        "runs that did not succeed": unfinished,
    }


def _added(more, less):
    """In percent, the median of the rounds."""
    return (statistics.median(a / b for a, b in zip(more, less, strict=True)) - 1) * 100


def _send_plain(engine, queue, database, broker, messages):
    measured.app.conf.broker_url = broker
    for _ in range(messages):
        measured.nothing.apply_async((1, 2))


def _send_runs(engine, queue, database, broker, messages):
    with beat(database, broker):
        wait_until(lambda: planned(engine) >= messages)
        make_due(engine)
        wait_until(lambda: queue.waiting() >= messages)


def _worked(client, database, broker, tasks):
    """Tasks a second, and processor milliseconds of the worker's processes a task."""
    with worker(database, broker, "-c", "2") as started:
        client.lpush(QUEUE, *client.rpop(PARKED, WARM))
        wait_until(lambda: started.check() or _done(client), interval=0.05)
        used = started.cpu_seconds()
        began = time.perf_counter()
        client.rename(PARKED, QUEUE)
        wait_until(lambda: _done(client), interval=0.02)
        rate = tasks / (time.perf_counter() - began)
        return rate, (started.cpu_seconds() - used) / tasks * 1000


def _done(client):
    """Nothing waits, and nothing is unacknowledged."""
    return not client.llen(QUEUE) and not client.zcard("unacked_index")


if __name__ == "__main__":
    alone.main(TITLE, measure)
