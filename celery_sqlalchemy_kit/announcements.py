"""What housekeeping found, in the log and by the signals; after the COMMIT of what it says."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from . import signals
from .alerts import Alert
from .storage.values import Change, Lost, RunEnd

logger = logging.getLogger(__name__)


def tell_lost(lost: Lost) -> None:
    """A run was given up, or is begun once more."""
    run_id = _id(lost.run_id)
    what = "is begun again" if lost.again else "is lost"
    logger.warning("routines: %s[%s] %s: %s", lost.routine_name, run_id, what, lost.reason)
    signals.task_lost.send(
        sender=lost.routine_name,
        run_id=run_id,
        routine_name=lost.routine_name,
        task=lost.task,
        worker=lost.worker,
        reason=lost.reason,
        again=lost.again,
    )


def tell_change(change: Change) -> None:
    """A routine has another alert now."""
    if not change.told:
        logger.info("routines: %s is off, its alert is cleared", change.name)
        return
    about = {"routine_id": _id(change.routine_id), "name": change.name, "task": change.task}
    run = change.run
    if change.after is Alert.OVERDUE:
        reason = f"it was due at {change.due_at}"
        logger.warning("routines: %s is overdue: %s", change.name, reason)
        signals.routine_overdue.send(change.name, **about, reason=reason, since=change.due_at)
    elif change.after is Alert.FAILED and run is not None:
        reason = run.reason or run.error or run.state.value
        told = reason.partition("\n")[0]
        logger.warning("routines: %s[%s] %s: %s", change.name, _id(run.id), run.state.value, told)
        signals.routine_failed.send(change.name, **about, reason=reason, **_end(run))
    else:
        logger.info("routines: %s has recovered", change.name)
        signals.routine_recovered.send(change.name, **about, **_end(run))


def _end(run: RunEnd | None) -> dict[str, Any]:
    if run is None:
        return {"run_id": None, "since": None}
    return {"run_id": _id(run.id), "since": run.finished_at}


def _id(text: str) -> str:
    """As Celery writes it, whichever way the database does."""
    try:
        return str(UUID(text))
    except ValueError:
        return text
