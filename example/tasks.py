"""What the example runs, and when."""

import asyncio
from datetime import timedelta

from celery_sqlalchemy_kit import AsyncTask, SyncTask, routine


class Pulse(SyncTask):
    """Every two seconds."""

    name = "example.pulse"
    schedule = 2

    def run(self) -> str:
        return "alive"


class Fetch(AsyncTask):
    """Every three seconds, on the worker's event loop; waits for two answers at once."""

    name = "example.fetch"
    schedule = timedelta(seconds=3)

    async def execute(self, greeting: str = "hello") -> str:
        answers = await asyncio.gather(self.ask(greeting), self.ask("world"))
        return " ".join(answers)

    async def ask(self, question: str) -> str:
        await asyncio.sleep(0.1)
        return question


class Report(SyncTask):
    """At nine on weekdays."""

    name = "example.report"
    schedule = {"minute": 0, "hour": 9, "day_of_week": "mon-fri"}

    def run(self, about: str = "everything") -> str:
        return f"a report about {about}"


@routine(name="example.tidy", schedule=4)
def tidy() -> int:
    """A plain function, every four seconds."""
    return 42
