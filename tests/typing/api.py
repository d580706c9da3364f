"""The public API in use, to be read by mypy; not meant to be executed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from celery import Celery
from celery.schedules import crontab
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import Self, assert_type

from celery_sqlalchemy_kit import (
    AsyncTask,
    CommandError,
    RoutineScheduler,
    ShellTask,
    SyncTask,
    migrations,
    resource,
    routine,
)
from celery_sqlalchemy_kit.mixins import RoutineMixin, RoutineRunMixin
from celery_sqlalchemy_kit.models import Routine, RoutineRun

app = Celery("typed")


class Report(SyncTask):
    name = "report"
    schedule = {"minute": 0, "hour": 9, "day_of_month": 15}

    def run(self, day: str, *, pages: int = 1) -> int:
        return len(day) * pages


class Poll(AsyncTask):
    name = "poll"
    schedule = 15
    max_retries = 5

    async def execute(self, url: str) -> str:
        await asyncio.sleep(0.1)
        return url


class Untimed(SyncTask):
    """Without a schedule: a task like any other, with the kit's retries."""

    def run(self) -> None:
        return None


class Often(SyncTask):
    name = "often"
    schedule = 0.5


class Weekly(SyncTask):
    name = "weekly"
    schedule = timedelta(weeks=1)


class Monthly(SyncTask):
    name = "monthly"
    schedule = crontab(minute="0", hour="9", day_of_month="1")


@routine(schedule=timedelta(minutes=5))
def tidy() -> None:
    return None


@routine(schedule={"minute": "*/5"})
async def fetch(url: str = "") -> str:
    return url


class Count(SyncTask):
    name = "count"

    def run(self) -> int:
        with self.session() as session:
            assert_type(session, Session)
            return int(session.execute(text("SELECT 1")).scalar_one())


class CountAsync(AsyncTask):
    name = "count async"

    async def execute(self) -> int:
        async with self.session() as session:
            assert_type(session, AsyncSession)
            return int((await session.execute(text("SELECT 1"))).scalar_one())


class Client:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


@resource
async def client() -> AsyncIterator[Client]:
    async with Client() as opened:
        yield opened


def connect() -> AbstractAsyncContextManager[Client]:
    return Client()


by_class, by_function = resource(Client), resource(connect)


class UseClient(AsyncTask):
    name = "use client"

    async def execute(self) -> None:
        assert_type(await client(), Client)
        assert_type(await by_class(), Client)
        assert_type(await by_function(), Client)


class Backup(ShellTask):
    name = "backup"
    command = ["pg_dump", "--format", "{format}", "--dbname", "{database}"]
    choices = {"format": ["custom", "plain"]}
    schedule = "0 3 * * *"
    kwargs = {"database": "proj", "format": "custom"}
    environment = {"PGOPTIONS": "-c statement_timeout=0"}
    working_directory = Path("/var/backups")
    command_limit_seconds = 3600
    ok_exit_codes = {0, 1}


class BackupOfDay(ShellTask):
    name = "backup of day"
    command = ("pg_dump", "--file", "{file}")
    dont_autoretry_for = (CommandError,)

    def run(self, *, day: int) -> dict[str, object]:
        return super().run(file=f"{day}.dump")


def told(error: CommandError) -> tuple[int | None, str]:
    return error.exit_code, error.output


def mapped(session: Session) -> None:
    session.add(Routine(name="a", task="report", schedule={"timedelta": 15}))
    found = session.execute(
        select(Routine).where(Routine.active, Routine.error.is_(None))
    ).scalar_one()
    assert_type(found.id, UUID)
    assert_type(found.next_run_at, datetime | None)
    assert_type(found.runs, list[RoutineRun])
    assert_type([run.started_at for run in found.runs], list[datetime | None])


class Base(DeclarativeBase):
    pass


class TeamRoutine(RoutineMixin, Base):
    team: Mapped[str | None] = mapped_column()


class TeamRun(RoutineRunMixin, Base):
    pass


def mixed(session: Session) -> None:
    statement = select(TeamRoutine.team, TeamRoutine.name, TeamRun.state).join(
        TeamRun, TeamRun.routine_id == TeamRoutine.id
    )
    for team, name, state in session.execute(statement).tuples():
        assert_type((team, name, state), tuple[str | None, str, str])


assert_type(migrations.sql("postgresql", schema="jobs"), str)

app.register_task(Report())
app.register_task(Poll())
app.conf.beat_scheduler = RoutineScheduler
