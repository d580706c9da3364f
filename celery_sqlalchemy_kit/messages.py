"""The message of a run, as Celery is asked for it: by ``apply_async``, with these options."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry
from celery.result import denied_join_result
from celery.schedules import BaseSchedule, schedule

from . import rescue
from .routines import AGAIN, HEADER
from .schedules import to_celery
from .storage.values import Again, Claimed

_UNKNOWN = schedule(timedelta(0))


class RunEntry(ScheduleEntry):  # type: ignore[misc]
    """What ``apply_entry`` is given: one run, with an options dict that hooks may write into."""

    def __init__(self, app: Celery, held: Claimed) -> None:
        run = held.run
        super().__init__(
            name=run.routine_name,
            task=run.task,
            last_run_at=run.scheduled_for,
            schedule=_schedule(held),
            # Copies, as hooks may write into them, and other routines say the same.
            args=deepcopy(list(run.args)),
            kwargs=deepcopy(dict(run.kwargs)),
            options=deepcopy(dict(run.options)),
            app=app,
        )
        self.run = run
        self.claimed_at = held.claimed_at
        self.again = isinstance(held, Again)
        self.retries = held.retries if isinstance(held, Again) else 0


def send(app: Celery, entry: RunEntry, producer: Any) -> Any:
    """Have Celery send the message of *entry*; it raises whatever that makes it raise."""
    options = dict(entry.options)
    headers = dict(options.pop("headers", None) or {})
    headers |= {"celery_beat_task": True, HEADER: entry.claimed_at.isoformat()}
    if entry.again:
        headers[AGAIN] = True
        options["retries"] = entry.retries
    task = app.tasks.get(entry.task)
    options.setdefault("expires", getattr(task, "expires", None))
    headers |= instants(entry.claimed_at, options)
    options |= {"headers": headers, "task_id": str(entry.run.id), "producer": producer}
    # One try: a broker that is away is waited for elsewhere, and the rest of a batch with it.
    options["retry"] = False
    # Beat waits for no result: without this the result backend would subscribe to each.
    with denied_join_result():
        if task is None:
            return app.send_task(entry.task, entry.args, entry.kwargs, **options)
        return task.apply_async(entry.args, entry.kwargs, **options)


def instants(claimed_at: datetime, options: dict[str, Any]) -> dict[str, str]:
    """The headers of a message that has its time; its *options* are given in seconds then.

    Celery would reckon by the clock of this machine, which may be minutes off, in one way or the
    other: headers from seconds, and the broker's own deadline from an instant. Workers go by
    their clocks, which we take to be as right as the database's.
    """
    headers = {}
    if (expires := rescue.expiry(claimed_at, options)) is not None:
        headers["expires"] = expires.isoformat()
        options["expires"] = (expires - claimed_at).total_seconds()
    if (eta := rescue.not_before(claimed_at, options)) is not None:
        headers["eta"] = eta.isoformat()
        options.pop("eta", None)
        options["countdown"] = (eta - claimed_at).total_seconds()
    return headers


def _schedule(held: Claimed) -> BaseSchedule:
    return _UNKNOWN if held.routine is None else to_celery(held.routine.schedule)
