"""What runs coroutines beside the kit, each with its sender, its worker and the same bodies.

This package is also imported where the kit is not installed, and so needs the standard library.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

#: How many coroutines at once a process is told to take, wherever it can be told.
AT_ONCE = 1000


@dataclass(frozen=True)
class System:
    """A task queue: how its worker is started, and where its messages wait."""

    name: str
    #: Arguments of its Python; the module ``on_<name>`` is also its sender.
    worker: tuple[str, ...]
    queue: str
    #: What the benchmark installs for it, into an environment of its own.
    packages: tuple[str, ...] = ()
    #: What it is told with, versions of what is installed.
    versions: tuple[str, ...] = ()

    @property
    def sender(self) -> str:
        return f"{__name__}.on_{self.name}"


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    system: System
    #: For Celery: its pool, ``-c``, and how the tasks are made.
    pool: str = ""
    concurrency: int = AT_ONCE
    style: str = "AsyncTask"

    def worker(self) -> tuple[str, ...]:
        flags = ("-c", str(self.concurrency)) if self.system is CELERY else ()
        return (*self.system.worker, *flags)

    def environment(self) -> dict[str, str]:
        return {"BENCHMARK_POOL": self.pool, "BENCHMARK_STYLE": self.style}

    def sleepers(self, number: int, few: int) -> int:
        """*few*, where 2,000 of them would take a quarter of an hour."""
        return few if self.concurrency < 10 else number


CELERY = System(
    name="celery",
    worker=("-m", "celery", "-A", f"{__name__}.on_celery", "worker", "--loglevel=WARNING"),
    queue="celery",
    versions=("celery-sqlalchemy-kit", "celery", "kombu", "redis", "hiredis", "uvloop", "greenlet"),
)
TASKIQ = System(
    name="taskiq",
    worker=(
        *("-m", "taskiq", "worker", f"{__name__}.on_taskiq:broker"),
        *("--workers", "1", "--max-async-tasks", str(AT_ONCE), "--log-level", "WARNING"),
    ),
    queue="taskiq",
    packages=("taskiq", "taskiq-redis"),
    versions=("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop"),
)
ARQ = System(
    name="arq",
    worker=("-m", f"{__name__}.on_arq", "work"),
    queue="arq:queue",
    packages=("arq",),
    versions=("arq", "redis", "hiredis", "uvloop"),
)

ASYNCIO_RUN = Contender(
    "asyncio-run", "asyncio.run, prefork -c 2", CELERY, "prefork", 2, style="asyncio.run"
)
PREFORK = Contender("prefork", "AsyncTask, prefork -c 2", CELERY, "prefork", 2)
FEW_THREADS = Contender("threads-200", "AsyncTask, threads -c 200", CELERY, "threads", 200)
THREADS = Contender("threads", f"AsyncTask, threads -c {AT_ONCE}", CELERY, "threads")
POOL = Contender(
    "pool",
    f"AsyncTask, asyncio pool -c {AT_ONCE}",
    CELERY,
    "celery_sqlalchemy_kit.pool:AsyncioPool",
)
ON_TASKIQ = Contender("taskiq", f"taskiq, 1 process, {AT_ONCE} tasks", TASKIQ)
ON_ARQ = Contender("arq", f"arq, {AT_ONCE} jobs", ARQ)

#: The first is what the others are compared with.
CONTENDERS = (ASYNCIO_RUN, PREFORK, FEW_THREADS, THREADS, POOL, ON_TASKIQ, ON_ARQ)


def sent() -> tuple[str, int]:
    """What a sender is to send, by its arguments: which task, and how many."""
    return sys.argv[1], int(sys.argv[2])
