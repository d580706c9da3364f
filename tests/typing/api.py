"""The public API in use, to be read by mypy; not meant to be executed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from celery import Celery
from celery.schedules import crontab

from celery_sqlalchemy_kit import AsyncTask, RoutineScheduler, SyncTask, routine

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


app.register_task(Report())
app.register_task(Poll())
app.conf.beat_scheduler = RoutineScheduler
