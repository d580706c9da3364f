"""The bodies as tasks of Celery: the kit's, or one `asyncio.run` each."""

from __future__ import annotations

import asyncio
import os

from celery import Celery

from benchmarks.contenders import bodies, sent

app = Celery("benchmark", broker=os.environ["BENCHMARK_QUEUE"])
app.conf.worker_pool = os.environ["BENCHMARK_POOL"]
app.conf.task_ignore_result = os.environ["BENCHMARK_RESULTS"] == ""
app.conf.result_backend = os.environ["BENCHMARK_RESULTS"] or None

if os.environ["BENCHMARK_STYLE"] == "AsyncTask":
    from celery_sqlalchemy_kit import AsyncTask

    @app.task(base=AsyncTask, name="nothing")
    async def nothing():
        await bodies.nothing()

    @app.task(base=AsyncTask, name="sleeper")
    async def sleeper():
        await bodies.sleeper()

else:

    @app.task(name="nothing")
    def nothing():
        asyncio.run(bodies.nothing())

    @app.task(name="sleeper")
    def sleeper():
        asyncio.run(bodies.sleeper())


def main():
    name, number = sent()
    task = {"nothing": nothing, "sleeper": sleeper}[name]
    for _ in range(number):
        task.delay()


if __name__ == "__main__":
    main()
