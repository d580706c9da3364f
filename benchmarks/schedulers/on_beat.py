"""Celery's own scheduler: routines stand in ``beat_schedule``, the last runs in a file."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from benchmarks.schedulers import BATCHES
from benchmarks.schedulers.program import TASK, batches, main, make_app


def entries(batch):
    # As the file would remember it, had beat run before.
    last = datetime.fromtimestamp(batch.last, timezone.utc)
    every, options = timedelta(seconds=batch.every), {"queue": batch.queue}
    for number, name in batch.names():
        yield (
            name,
            {
                "task": TASK,
                "schedule": every,
                "args": (number,),
                "options": options,
                "last_run_at": last,
            },
        )


app = make_app()
if BATCHES in os.environ:
    app.conf.beat_schedule = dict(
        entry for batch in batches() if batch.active for entry in entries(batch)
    )


def store(batches):
    """Nothing to do: they stand in the code."""


def switch_on(name):
    raise NotImplementedError("a deploy and a restart")


if __name__ == "__main__":
    main(store=store, switch_on=switch_on)
