"""The routines of a trial: hundreds, of mixed kinds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

TASKS = ["quick", "quick", "quick", "async", "again", "flaky", "failing"]


@dataclass(frozen=True)
class Planned:
    """One row of ``routines``. *every*: seconds between occurrences, where they are regular."""

    id: UUID
    name: str
    task: str
    schedule: dict[str, Any]
    every: float | None
    columns: dict[str, Any] = field(default_factory=dict)
    kwargs: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """What is inserted."""
        return {
            "id": self.id,
            "name": self.name,
            "task": self.task,
            "schedule": json.dumps(self.schedule),
            "kwargs": json.dumps({"name": self.name, **self.kwargs}),
            "origin": "db",
            **self.columns,
        }


def population(random: Random, number: int, at: str, *, rate: float, busy: float) -> list[Planned]:
    """*number* routines, of about *rate* runs a second in all; *at*: when those run that run once.

    In ten: six intervals, of which one is jittered and two may overlap, and one each by the
    minute, once, and after the end of the run before. *busy*: how many pool processes the long
    runs of those that may overlap keep occupied, on average and at most; once they do, the rest
    are short, or what is due would wait for ever.
    """
    slowest = 2 * number / rate
    made = []
    for n in range(number):
        key, kind, task = UUID(int=random.getrandbits(128)), n % 10, TASKS[n % len(TASKS)]
        every = max(1, round(random.uniform(0.1, 1) * slowest))
        schedule: dict[str, Any] = {"timedelta": every}
        columns: dict[str, Any] = {"catch_up": random.choice(["latest", "skip", "all"])}
        kwargs: dict[str, Any] = {}
        if kind == 0:
            columns["jitter"] = every / 2
        elif kind in (1, 2):
            task, columns["overlap"] = "quick", "skip" if kind == 1 else "queue"
            seconds = random.choice([0.1, every * 0.7, every * 1.5])
            share = min(seconds / every, 1)
            if share > busy:
                seconds, share = 0.1, 0
            busy -= share
            kwargs["seconds"] = seconds
        elif kind == 3:
            schedule, every = {"cron": "* * * * *"}, 60
        elif kind == 4:
            schedule, every = {"once": at}, None
        elif kind == 5:
            schedule, every = {"after": every}, None
        elif kind == 6 and task in ("quick", "again"):
            kwargs["seconds"] = random.choice([0.5, 2.0])
        made.append(Planned(key, f"{kind}-{task}-{n}", task, schedule, every, columns, kwargs))
    return made
