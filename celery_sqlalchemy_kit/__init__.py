"""Periodic Celery tasks declared in code, true in a SQL table, run by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import embedded
from .aio.resources import resource
from .errors import (
    CommandError,
    ConflictError,
    DeclarationError,
    KitError,
    NotFoundError,
    RoutineError,
    ScheduleError,
    SchemaError,
    SettingsError,
)
from .schedules import After, Once
from .tasks import AsyncTask, SyncTask, routine

if TYPE_CHECKING:
    from .client import AsyncRoutines, Routines
    from .scheduler import RoutineScheduler
    from .shell import ShellTask

__all__ = [
    "After",
    "AsyncRoutines",
    "AsyncTask",
    "CommandError",
    "ConflictError",
    "DeclarationError",
    "KitError",
    "NotFoundError",
    "Once",
    "RoutineError",
    "RoutineScheduler",
    "Routines",
    "ScheduleError",
    "SchemaError",
    "SettingsError",
    "ShellTask",
    "SyncTask",
    "resource",
    "routine",
]

__version__ = "1.0.0"

embedded.connect()


def __getattr__(name: str) -> Any:
    # Most processes have no use for them, and should not pay for importing celery.beat, say.
    if name == "ShellTask":
        from .shell import ShellTask

        return ShellTask
    if name == "RoutineScheduler":
        from .scheduler import RoutineScheduler

        return RoutineScheduler
    if name in ("AsyncRoutines", "Routines"):
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
