"""The bodies as tasks of taskiq: its list in Redis, and its results there."""

from __future__ import annotations

import asyncio
import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.contenders import TASKIQ, bodies, sent

broker = ListQueueBroker(os.environ["BENCHMARK_QUEUE"], queue_name=TASKIQ.queue)
if os.environ["BENCHMARK_RESULTS"]:
    broker = broker.with_result_backend(RedisAsyncResultBackend(os.environ["BENCHMARK_RESULTS"]))

nothing = broker.register_task(bodies.nothing, task_name="nothing")
sleeper = broker.register_task(bodies.sleeper, task_name="sleeper")


async def main():
    name, number = sent()
    task = {"nothing": nothing, "sleeper": sleeper}[name]
    await broker.startup()
    for _ in range(number):
        await task.kiq()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
