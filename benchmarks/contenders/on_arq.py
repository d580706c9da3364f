"""The bodies as jobs of arq, which keeps its results in the database of its queue."""

from __future__ import annotations

import asyncio
import os
import sys

from arq import create_pool, run_worker
from arq.connections import RedisSettings

from benchmarks.contenders import AT_ONCE, bodies, sent

REDIS = RedisSettings.from_dsn(os.environ["BENCHMARK_QUEUE"])


async def nothing(context):
    await bodies.nothing()


async def sleeper(context):
    await bodies.sleeper()


async def send(name, number):
    pool = await create_pool(REDIS)
    for _ in range(number):
        await pool.enqueue_job(name)
    await pool.aclose()


def work():
    # By its own command it would log a line for each job, which the others were told not to.
    run_worker(
        {"functions": [nothing, sleeper], "redis_settings": REDIS, "max_jobs": AT_ONCE},
        **({} if os.environ["BENCHMARK_RESULTS"] else {"keep_result": 0}),
    )


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work()
    else:
        asyncio.run(send(*sent()))
