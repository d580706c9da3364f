"""``celery worker -B -S routines``.

``-S`` is the scheduler for ``celery beat``, but the state file for ``celery worker``. With ``-B``
nobody means a state file of this very name: the worker is given the scheduler.
"""

from __future__ import annotations

from typing import Any

from celery import signals

ALIAS = "routines"
SCHEDULER = "celery_sqlalchemy_kit.scheduler:RoutineScheduler"


def connect() -> None:
    """Heed the option in every worker of this process. Idempotent."""
    signals.worker_init.connect(_heed_option, dispatch_uid="celery_sqlalchemy_kit.embedded")


def _heed_option(sender: Any = None, **_: Any) -> None:
    if sender.statedb == ALIAS and sender.options.get("beat"):
        sender.statedb, sender.scheduler = None, SCHEDULER
