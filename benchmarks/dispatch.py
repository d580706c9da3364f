"""How fast 10,000 routines that are due at once reach the broker, against a bare loop.

    SCHEDULER_DB_URI=postgresql://… CELERY_BROKER_URL=redis://… python -m benchmarks.dispatch

Bare: `task.apply_async` in a loop, the same tasks to the same broker from the same machine, with
the same listener or router if one is asked for. The two take turns, and what counts is the ratio of
each pair. The database and the queue named ``benchmark`` are emptied.

RabbitMQ (``amqp://``): Celery's own loop does not ask whether messages have arrived; with
``BENCHMARK_CONFIRM=1`` it does, as the kit always does.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks import app as measured
from benchmarks.beats import Queue, beat, wait_until
from benchmarks.rows import make_due, open_engine, planned, sent, store


def bare(queue, number):
    """Messages a second, and processor milliseconds a message."""
    measured.nothing.apply_async((1, 2))
    queue.empty()
    began, used = time.perf_counter(), time.process_time()
    for _ in range(number):
        measured.nothing.apply_async((1, 2))
    used = time.process_time() - used
    rate = number / (time.perf_counter() - began)
    wait_until(lambda: queue.waiting() >= number)
    queue.empty()
    return rate, used / number * 1000


def kit(engine, queue, database, broker, number, make_due=make_due):
    """The same, between the first and the last message after the rows have come due."""
    with beat(database, broker) as scheduler:
        wait_until(lambda: scheduler.check() or planned(engine) >= number)
        used = scheduler.cpu_seconds()
        make_due(engine)
        began = time.perf_counter()
        wait_until(lambda: queue.waiting() >= number)
        rate = number / (time.perf_counter() - began)
        used = scheduler.cpu_seconds() - used
    queue.empty()
    return rate, used / number * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routines", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--between", choices=["nothing", "listener", "router"], default="nothing")
    options = parser.parse_args()
    measured.put_between(options.between)
    engine, database, broker = open_engine()
    ratios = []
    with Queue(broker) as queue:
        for pair in range(options.pairs):
            store(engine, options.routines)
            of_bare, bare_ms = bare(queue, options.routines)
            of_kit, kit_ms = kit(engine, queue, database, broker, options.routines)
            ratios.append(of_kit / of_bare)
            print(
                f"{pair + 1}: bare {of_bare:6.0f}/s {bare_ms:.3f} ms   "
                f"kit {of_kit:6.0f}/s {kit_ms:.3f} ms of processor   ratio {ratios[-1]:.2f}"
            )
    print(
        f"median ratio {statistics.median(ratios):.2f}, {options.routines} routines, "
        f"{options.between} in between, {engine.dialect.name}, "
        f"{sent(engine)} confirmed in the last run"
    )


if __name__ == "__main__":
    main()
