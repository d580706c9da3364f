"""The code of the app, as commands compare it with the table."""

from __future__ import annotations

from typing import Any

import click

from .desk import NO, fail
from .lines import warn


def app() -> Any:
    """The app that ``celery -A`` names."""
    return click.get_current_context().find_root().obj.app


def imported() -> Any:
    """The app, its task modules imported as by a scheduler; exits with 1 if one cannot be."""
    found = app()
    try:
        found.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001  whatever a module of the user's raises
        fail(f"the task modules cannot be imported: {type(error).__name__}: {error}", NO)
    found.finalize()
    return found


def warn_if_unknown(task: str) -> None:
    """Say so if the app has no such task; its workers may have."""
    found = app()
    try:
        found.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001  whatever a module of the user's raises
        warn(f"the task modules cannot be imported: {type(error).__name__}: {error}")
    if task not in found.tasks:
        warn(f"this app knows no task {task!r}")
