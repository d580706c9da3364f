"""What the code declares and what there is, made one; and which schedulers there are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from celery_sqlalchemy_kit import reconcile
from celery_sqlalchemy_kit.reconcile import Plan, Stored, in_json
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.storage.values import SILENCE, Presence

from .memory import Tables
from .rows import Removed, RoutineRow, SchedulerRow, edited


def plan(
    tables: Tables, me: Presence, now: datetime, declared: Iterable[Declared], **options: Any
) -> Plan:
    """What `reconcile.plan` makes of it; *options*: what else it is to know."""
    mine = [row for row in tables.routines.values() if row.namespace == me.namespace]
    elsewhere = {
        name
        for key, scheduler in tables.schedulers.items()
        if key != me.id and scheduler.namespace == me.namespace and _is_alive(scheduler, now)
        for name in scheduler.names
    }
    removed = {name for namespace, name in tables.removed if namespace == me.namespace}
    return reconcile.plan(
        declared, map(_stored, mine), removed=removed, elsewhere=elsewhere, **options
    )


def _is_alive(scheduler: SchedulerRow, now: datetime) -> bool:
    return now - scheduler.seen_at < SILENCE


def _stored(row: RoutineRow) -> Stored:
    return Stored(
        key=str(row.id),
        name=row.name,
        task=row.task,
        origin=row.origin.value,
        active=row.active,
        ran=row.last_run_at is not None or row.total_run_count > 0,
        fields=row.json,
        declared=json.dumps({field: json.loads(text) for field, text in row.declared.items()}),
    )


def apply(tables: Tables, namespace: str, plan: Plan, now: datetime) -> None:
    for routine in plan.insert:
        _insert(tables, namespace, routine, now)
    for routine in plan.restore:
        _restore(tables, namespace, routine, now)
    for stored, task in plan.retask:
        row = tables.routines[UUID(stored.key)]
        tables.routines[row.id] = edited(row, now, task=task)
    for stored, texts in plan.follow:
        row = tables.routines[UUID(stored.key)]
        row = replace(row, declared={**row.declared, **texts})
        values = {field: json.loads(text) for field, text in texts.items()}
        tables.routines[row.id] = edited(row, now, **values)
    for stored in plan.deactivate:
        row = tables.routines[UUID(stored.key)]
        tables.routines[row.id] = edited(row, now, active=False)
    for stored in plan.remove:
        row = tables.routines.pop(UUID(stored.key))
        tables.removed[namespace, row.name] = Removed(row, now)


def _insert(tables: Tables, namespace: str, routine: Declared, now: datetime) -> None:
    texts, key = in_json(routine), uuid4()
    tables.routines[key] = RoutineRow(
        key, namespace, routine.name, routine.task, json=texts, declared=texts, edited_at=now
    )


def _restore(tables: Tables, namespace: str, routine: Declared, now: datetime) -> None:
    """As it was, but unplanned, and as if it had been off meanwhile: that is not caught up."""
    old = tables.removed.pop((namespace, routine.name))
    tables.routines[old.row.id] = replace(
        old.row,
        task=routine.task,
        next_run_at=None,
        edited_at=now,
        paused_at=old.removed_at,
    )


def announce(tables: Tables, me: Presence, names: Iterable[str], now: datetime) -> None:
    tables.schedulers[me.id] = SchedulerRow(me.namespace, frozenset(names), now)


def beat(tables: Tables, me: Presence, now: datetime) -> bool:
    known = tables.schedulers.get(me.id)
    if known is not None:
        tables.schedulers[me.id] = replace(known, seen_at=now)
    return known is not None
