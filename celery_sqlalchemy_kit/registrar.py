"""Declared in code, true in the database: what the code declares, reconciled into the table."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from celery import Celery
from celery.schedules import crontab

from . import entries
from .config import Settings
from .errors import DeclarationError, ScheduleError
from .reconcile import Plan
from .routines import Declared
from .storage import SchedulerStore
from .tasks import declared_tasks

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Lines of one kind that are logged one by one; the rest is counted.
_MOST_LINES = 20

CLEANUP = "celery.backend_cleanup"


def declared(app: Celery, timezone: str) -> list[Declared]:
    """Every routine that the code declares: tasks with a schedule, ``beat_schedule``, Celery's own.

    A name in ``beat_schedule`` wins over a task of that name, and the log says so.

    Raises:
        DeclarationError: names every declaration that cannot be stored, and why.
    """
    found: dict[str, Declared] = {}
    faults: list[str] = []
    for name, entry, builtin in _entries(app):
        try:
            routines = entries.declared(name, entry, timezone, builtin=builtin)
        except (DeclarationError, ScheduleError) as fault:
            faults.append(f"{name!r}: {fault}")
            continue
        for routine in routines:
            if found.setdefault(routine.name, routine) != routine:
                logger.warning(
                    "routines: %r is declared twice, for %r and for %r: the last is taken",
                    *(routine.name, found[routine.name].task, routine.task),
                )
            found[routine.name] = routine
    if faults:
        raise DeclarationError("cannot be stored as routines: " + "; ".join(faults))
    return list(found.values())


def _entries(app: Celery) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    for task in declared_tasks(app):
        for name, entry in entries.of_task(task):
            yield name, entry, False
    listed = app.conf.beat_schedule or {}
    for name, entry in listed.items():
        yield str(name), entry if isinstance(entry, Mapping) else _attributes(entry), False
    expires = app.conf.result_expires and not app.backend.supports_autoexpire
    if expires and CLEANUP not in listed:
        yield CLEANUP, _cleanup(), True


def _attributes(entry: Any) -> Mapping[str, Any]:
    """Those of a ``ScheduleEntry``; anything else has none that could be stored."""
    return getattr(entry, "__dict__", {})


def _cleanup() -> dict[str, Any]:
    """What celery's own scheduler installs when the result backend does not expire by itself."""
    return {
        "task": CLEANUP,
        "schedule": crontab("0", "4", "*"),
        "options": {"expires": 12 * 3600},
    }


def register(
    app: Celery,
    store: SchedulerStore,
    settings: Settings,
    timezone: str,
    before: Plan | None = None,
) -> Plan:
    """Reconcile the code with the table, and log what came of it.

    *before* is the plan of the last time: what stands as it stood then is not said again.
    """
    plan = store.reconcile(
        declared(app, timezone),
        known_tasks=list(app.tasks),
        removal=settings.scheduler_removed_routines,
        merge=settings.scheduler_code_changes == "merge",
    )
    _tell(plan, before or Plan())
    return plan


def _tell(plan: Plan, before: Plan) -> None:
    _lines(logging.INFO, "inserted", (routine.name for routine in plan.insert))
    _lines(logging.WARNING, "restored, as it was when removed", (r.name for r in plan.restore))
    moved = (f"{row.name} from {row.task} to {task}" for row, task in plan.retask)
    _lines(logging.WARNING, "task follows the code:", moved)
    _lines(logging.INFO, "follows the code:", (row.name for row, _ in plan.follow))
    _lines(
        logging.INFO,
        "removed, no longer declared:",
        (row.name for row in plan.remove if row.origin is not None),
    )
    _lines(
        logging.WARNING,
        "removed: came by SQL, its task is not known here and it never ran; to keep such a row "
        "insert it with origin = 'db':",
        (row.name for row in plan.remove if row.origin is None),
    )
    _lines(logging.INFO, "deactivated, no longer declared:", (r.name for r in plan.deactivate))
    _lines(logging.INFO, "kept while a live scheduler declares it:", _new(plan.held, before.held))
    _lines(
        logging.INFO,
        "differs, and the database's is obeyed:",
        (
            f"{d.name}: {d.field} is {d.code} in code, {d.database} in the database"
            for d in _new(plan.drift, before.drift)
        ),
    )
    if _new(plan.spared, before.spared):
        logger.warning(
            "routines: the code declares nothing, so nothing is removed (%d routines would be); "
            "are all task modules imported?",
            len(plan.spared),
        )


def _new(said: Iterable[T], before: Collection[T]) -> list[T]:
    return [each for each in said if each not in before]


def _lines(level: int, what: str, items: Iterable[str]) -> None:
    everything = list(items)
    for item in everything[:_MOST_LINES]:
        logger.log(level, "routines: %s %s", what, item)
    if len(everything) > _MOST_LINES:
        logger.log(level, "routines: %s … and %d more", what, len(everything) - _MOST_LINES)
