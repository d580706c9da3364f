"""Schedulers that die at each of their steps in turn; one line of JSON tells of each.

    python scheduler_steps.py DATABASE BROKER [PART PARTS]

PART, from 0, of PARTS: only every so manieth step; each part has a namespace of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from celery import Celery
from sqlalchemy.engine import make_url
from stepping import DIED, Fork, Steps, app_of, tell

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.scheduler import RoutineScheduler
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import removed, routines, runs, schedulers

#: Seconds at work, by its own clock, of the one that dies and of the one after it.
WORK, REST = 2, 5
#: Seconds between the runs of routines that do not overlap.
STEP = 0.5


def schedule(app: Celery, clock: SettableClock, seconds: int) -> None:
    """A scheduler at work for so long, by its clock."""
    scheduler = RoutineScheduler(app, clock=clock, lazy=True)
    for _ in range(seconds):
        while scheduler._turn() <= 0:
            pass
        clock.advance(1)


def insert_routines(database: str, begin: datetime, part: int) -> None:
    """Of one kind and the other, each to be planned from *begin* on."""
    kinds = {
        "interval": {"schedule": {"timedelta": 0.5}},
        "jittered": {"schedule": {"timedelta": 1}, "jitter": 0.5},
        "late": {"schedule": {"timedelta": 1}, "catch_up": "all"},
        "once": {"schedule": {"once": (begin + timedelta(seconds=1)).isoformat()}},
        "twice": {"schedule": {"timedelta": 0.5}, "max_runs": 2},
        "queue": {"schedule": {"timedelta": STEP}, "overlap": "queue"},
        "skip": {"schedule": {"timedelta": STEP}, "overlap": "skip"},
    }
    defaults = {"catch_up": "latest", "jitter": 0, "max_runs": None, "overlap": "allow"}
    rows = []
    for number, (name, kind) in enumerate(kinds.items()):
        edited_at = begin - timedelta(seconds=5) if name == "late" else begin
        fixed = {"id": UUID(int=100 * part + number), "name": name, "task": "note", "origin": "db"}
        fixed["namespace"] = str(part)
        row = {**defaults, **fixed, **kind, "edited_at": edited_at}
        rows.append({**row, "schedule": json.dumps(kind["schedule"])})
    engine = make_engine(make_url(database))
    migrations.migrate(engine)
    with engine.begin() as connection:
        for table in (runs, routines, schedulers, removed):
            connection.execute(table.delete().where(table.c.namespace == str(part)))
        connection.execute(routines.insert(), rows)
    engine.dispose()


def outcome(database: str, begin: datetime, until: datetime, part: int) -> dict[str, Any]:
    """What was due by then and what became of it, by routine.

    Of those that do not overlap only how often the ledger tells of each occurrence: whether it ran
    or was skipped depends on when the one before it ended.
    """
    engine = make_engine(make_url(database))
    with engine.connect().execution_options(reading=True) as connection:
        mine = runs.c.namespace == str(part)
        found = sa.select(runs).where(mine).order_by(runs.c.scheduled_for)
        rows = connection.execute(found).all()
        counted = sa.select(routines.c.name, routines.c.total_run_count)
        here = routines.c.namespace == str(part)
        counts = dict(connection.execute(counted.where(here)).all())
    engine.dispose()
    told: dict[str, list[str]] = {}
    for row in rows:
        if row.routine_name in ("queue", "skip"):
            instants = [row.scheduled_for + n * timedelta(seconds=STEP) for n in range(row.count)]
            what = ["accounted for"] * row.count
        else:
            instants, what = [row.scheduled_for], [f"{row.state} {row.count}"]
        for instant, each in zip(instants, what, strict=True):
            if instant <= until:
                after = (instant - begin).total_seconds()
                told.setdefault(row.routine_name, []).append(f"{after:g} s: {each}")
    taken = [row for row in rows if row.state not in ("missed", "skipped")]
    ran = Counter(row.routine_name for row in taken)
    miscounted = [name for name, count in counts.items() if count != ran[name]]
    ids = {str(row.id) for row in taken if row.state != "waiting"}
    return {"runs": told, "ids": ids, "miscounted": miscounted}


def messages(broker: str, name: str) -> list[str]:
    """The ids of all messages in the queue, which is emptied."""
    app = Celery("reader", broker=broker)
    found = []
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(name)
        while True:
            try:
                message = queue.get_nowait()
            except queue.Empty:
                break
            found.append(message.headers["id"])
            message.ack()
        queue.close()
    app.close()
    return found


def step_schedulers(database: str, broker: str, part: str = "0", parts: str = "1") -> None:
    begin = datetime.now(UTC).replace(microsecond=0)
    until = begin + timedelta(seconds=WORK - 1)
    own = {"scheduler_namespace": part, "task_default_queue": f"steps{part}"}

    def work(last: int) -> None:
        Steps(last).listen()
        schedule(app_of(database, broker, **own), SettableClock(begin), WORK)

    def go_on() -> None:
        later = begin + timedelta(seconds=WORK)
        schedule(app_of(database, broker, **own), SettableClock(later), REST)

    number, code = int(part) + 1, DIED
    while code == DIED:
        insert_routines(database, begin, int(part))
        messages(broker, own["task_default_queue"])
        code = Fork(lambda last=number: work(last)).wait()
        after = Fork(go_on).wait()
        sent = messages(broker, own["task_default_queue"])
        told = outcome(database, begin, until, int(part))
        unsent = sorted(told.pop("ids") - set(sent))
        tell(step=number, code=code, after=after, unsent=unsent, **told)
        number += int(parts)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    step_schedulers(*sys.argv[1:])
