"""Periodic Celery tasks declared in code, true in a SQL table, run by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import embedded
from .aio.resources import resource
from .errors import (
    DeclarationError,
    KitError,
    RoutineError,
    ScheduleError,
    SchemaError,
    SettingsError,
)
from .schedules import After, Once
from .tasks import AsyncTask, SyncTask, routine

if TYPE_CHECKING:
    from .scheduler import RoutineScheduler

__all__ = [
    "After",
    "AsyncTask",
    "DeclarationError",
    "KitError",
    "Once",
    "RoutineError",
    "RoutineScheduler",
    "ScheduleError",
    "SchemaError",
    "SettingsError",
    "SyncTask",
    "resource",
    "routine",
]

__version__ = "1.0.0"

embedded.connect()


def __getattr__(name: str) -> Any:
    # A worker has no use for the scheduler and should not pay for importing celery.beat.
    if name == "RoutineScheduler":
        from .scheduler import RoutineScheduler

        return RoutineScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
