"""The schedulers that the kit's is compared with, and the kit's; each in a file ``on_NAME``.

This package is also imported where the kit is not installed, and so needs the standard library.
Each ``on_NAME`` is the app of that scheduler's beat, and by ``python -m`` a program that stores
routines or switches them on; see `program`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass

#: The same client of PostgreSQL and of Redis for all.
CLIENTS = ("celery[redis]", "redis[hiredis]", "packaging", "psycopg2-binary")
#: Names of environment variables.
DATABASE, BROKER, BATCHES = "BENCHMARK_DATABASE", "BENCHMARK_BROKER", "BENCHMARK_BATCHES"


@dataclass(frozen=True)
class Batch:
    """Routines that differ in their names and arguments only: the one numbered n gets ``(n,)``."""

    name: str
    number: int
    #: Seconds from one occurrence to the next; a whole number, as not all peers store others.
    every: int
    #: Seconds since the epoch of the first occurrence.
    due: float
    queue: str
    active: bool = True

    @property
    def last(self) -> float:
        """The occurrence before the first."""
        return self.due - self.every

    def names(self) -> Iterator[tuple[int, str]]:
        return ((number, f"{self.name}-{number}") for number in range(self.number))


def written(batches: list[Batch]) -> str:
    return json.dumps([asdict(batch) for batch in batches])


def read(text: str) -> list[Batch]:
    return [Batch(**fields) for fields in json.loads(text)]


@dataclass(frozen=True)
class Scheduler:
    name: str
    title: str
    #: What ``celery beat`` is told by ``--scheduler``; nothing for its own.
    path: str = ""
    #: What is installed for it into an environment of its own; nothing: it is in this one.
    packages: tuple[str, ...] = ()
    #: Of what the version is told.
    versions: tuple[str, ...] = ()
    keeps: str = "PostgreSQL"
    #: Whether a routine can be switched on without a restart.
    edits: bool = True
    #: Seconds to store a routine and to load it, roughly; for how far ahead they are due.
    seconds_each: float = 0.00025

    @property
    def module(self) -> str:
        return f"{__name__}.on_{self.name}"

    def beat(self) -> tuple[str, ...]:
        """Arguments of its Python."""
        chosen = ("--scheduler", self.path) if self.path else ()
        quiet = ("--pidfile=", "--loglevel=WARNING")
        return ("-m", "celery", "-A", self.module, "beat", *quiet, *chosen)


_CELERY = ("celery", "kombu", "redis", "hiredis")
KIT = Scheduler(
    name="kit",
    title="celery-sqlalchemy-kit",
    path="celery_sqlalchemy_kit.scheduler.RoutineScheduler",
    versions=("celery-sqlalchemy-kit", *_CELERY, "SQLAlchemy", "psycopg2-binary"),
    seconds_each=0.00004,
)
BEAT = Scheduler(
    name="beat",
    title="celery beat",
    packages=CLIENTS,
    versions=_CELERY,
    keeps="code",
    edits=False,
    seconds_each=0.0001,
)
REDBEAT = Scheduler(
    name="redbeat",
    title="celery-redbeat",
    path="redbeat.RedBeatScheduler",
    packages=("celery-redbeat", *CLIENTS),
    versions=("celery-redbeat", *_CELERY),
    keeps="Redis",
    seconds_each=0.0001,
)
DJANGO = Scheduler(
    name="django",
    title="django-celery-beat",
    path="django_celery_beat.schedulers:DatabaseScheduler",
    packages=("django-celery-beat", *CLIENTS),
    versions=("django-celery-beat", *_CELERY, "Django", "psycopg2-binary"),
)
SQLALCHEMY = Scheduler(
    name="sqlalchemy",
    title="sqlalchemy-celery-beat",
    path="sqlalchemy_celery_beat.schedulers:DatabaseScheduler",
    packages=("sqlalchemy-celery-beat", *CLIENTS),
    versions=("sqlalchemy-celery-beat", *_CELERY, "SQLAlchemy", "psycopg2-binary"),
    seconds_each=0.0004,
)
#: Its 0.3.0 of 2021 calls ``select([…])``, which SQLAlchemy 2 no longer has, and imports pytz,
#: which it does not ask for: Celery did.
SQLALCHEMY_SCHEDULER = Scheduler(
    name="sqlalchemy_scheduler",
    title="celery-sqlalchemy-scheduler",
    path="celery_sqlalchemy_scheduler.schedulers:DatabaseScheduler",
    packages=("celery-sqlalchemy-scheduler", "SQLAlchemy<2", "pytz", *CLIENTS),
    versions=("celery-sqlalchemy-scheduler", *_CELERY, "SQLAlchemy", "psycopg2-binary"),
)

#: The first is what the others are compared with.
SCHEDULERS = (KIT, BEAT, REDBEAT, DJANGO, SQLALCHEMY, SQLALCHEMY_SCHEDULER)


def database() -> str:
    return os.environ[DATABASE]


def broker() -> str:
    return os.environ[BROKER]
