"""The time limits of async tasks under the pools ``threads`` and ``solo``, which keep none."""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.concurrency import solo, thread

from .aio import NO_LIMITS, Limits


class _Here:
    #: Those of the worker, if its pool keeps none; inherited by no child of another pool.
    workers: Limits | None = None


def connect() -> None:
    """Listen to Celery's signals; any number of times."""
    signals.celeryd_after_setup.connect(_on_setup, weak=False, dispatch_uid=__name__)


def limits_of(task: Any) -> Limits:
    """The limits of the request of *task* that its pool does not keep: those of the message, else
    of the task, else of the worker, as Celery has it elsewhere."""
    request = task.request
    if _Here.workers is None or request.called_directly or request.is_eager:
        return NO_LIMITS
    hard, soft = request.timelimit or (None, None)
    return Limits(
        soft or task.soft_time_limit or _Here.workers.soft,
        hard or task.time_limit or _Here.workers.hard,
    )


def _on_setup(instance: Any = None, **_: Any) -> None:
    keeps_none = issubclass(instance.pool_cls, (solo.TaskPool, thread.TaskPool))
    limits = Limits(instance.soft_time_limit or None, instance.time_limit or None)
    _Here.workers = limits if keeps_none else None
