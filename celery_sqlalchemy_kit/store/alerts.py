"""Reading and writing ``routines.alert``: whichever scheduler sees a change first makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..alerts import BAD, TOLD, Alert, Ended, Health, judge
from ..columns import instant_of, raw
from ..routines import State
from ..storage.values import Change, Found, RunEnd
from ..tables import routines, runs
from .candidates import schedulable
from .chunks import chunks
from .claimer import Claimer
from .present import SomeInstant
from .states import in_states

_c = routines.c
_FIELDS = ("id", "next_run_at", "paused_at", "edited_at")


def overdue(namespace: str, before: SomeInstant) -> sa.ColumnElement[bool]:
    """Was due before *before*, and not told yet."""
    return sa.and_(schedulable(namespace), _c.next_run_at < before, _is_not(Alert.OVERDUE))


def failed(namespace: str, since: SomeInstant) -> sa.ColumnElement[bool]:
    """A run, joined with its routine, that has ended badly since, which is not told yet."""
    return sa.and_(
        runs.c.namespace == namespace,
        in_states(*BAD),
        runs.c.finished_at >= since,
        _c.id == runs.c.routine_id,
        _is_not(Alert.FAILED),
    )


def alerted(namespace: str) -> sa.ColumnElement[bool]:
    """Has an alert."""
    return sa.and_(_c.namespace == namespace, _c.alert.is_not(None))


def _is_not(alert: Alert) -> sa.ColumnElement[bool]:
    return sa.or_(_c.alert.is_(None), _c.alert != alert.value)


def find(
    connection: Connection,
    claimer: Claimer,
    *,
    overdue_before: datetime | None,
    failed_since: datetime,
    alerted_after: str | None,
    limit: int,
) -> Found:
    """The routines to judge: at most *limit* that are overdue, have failed, are alerted, each."""
    late_keys: list[str] = []
    if overdue_before is not None:
        late = sa.select(raw(_c.id)).where(overdue(claimer.namespace, overdue_before))
        late = late.order_by(_c.next_run_at, _c.id).limit(limit)
        late_keys += connection.execute(late).scalars()
    bad = sa.select(raw(_c.id), raw(runs.c.finished_at))
    bad = bad.where(failed(claimer.namespace, failed_since)).order_by(runs.c.finished_at)
    ended = connection.execute(bad.limit(limit)).all()
    known = sa.select(raw(_c.id)).where(alerted(claimer.namespace))
    if alerted_after is not None:
        known = known.where(_c.id > alerted_after)
    known_keys = connection.execute(known.order_by(_c.id).limit(limit)).scalars().all()
    return Found(
        tuple(dict.fromkeys([*late_keys, *(key for key, _ in ended), *known_keys])),
        more=len(late_keys) == limit,
        failed_since=instant_of(ended[-1][1]) if len(ended) == limit else None,
        alerted_after=known_keys[-1] if len(known_keys) == limit else None,
    )


def settle(
    connection: Connection, keys: Iterable[str], *, overdue_before: datetime, tells_overdue: bool
) -> tuple[Change, ...]:
    """Give the routines *keys* the alerts that they should have; returns what has changed.

    *tells_overdue*: false while what is overdue may just be about to be claimed.

    They are judged without a lock first, as a claim passes locked rows by; and those that change
    once more under their lock, by statements that see what has been committed until then.
    """
    changes: list[Change] = []
    for some in chunks(keys):
        chosen = [
            each.routine_id
            for each in _judged(connection, some, overdue_before)
            if tells_overdue or each.after is not Alert.OVERDUE
        ]
        if chosen:
            changes += _judged(connection, chosen, overdue_before, locked=True)
    for alert in (None, *Alert):
        for some in chunks(each.routine_id for each in changes if each.after is alert):
            word = None if alert is None else alert.value
            connection.execute(routines.update().where(_c.id.in_(some)).values(alert=word))
    return tuple(changes)


def _judged(
    connection: Connection,
    keys: Sequence[str],
    overdue_before: datetime,
    *,
    locked: bool = False,
) -> list[Change]:
    fields = (_c.name, _c.task, _c.alert, _c.active, _c.error)
    chosen = sa.select(*fields, *(raw(_c[name]).label(name) for name in _FIELDS))
    chosen = chosen.where(_c.id.in_(keys)).order_by(_c.id)
    if locked:
        chosen = chosen.with_for_update(skip_locked=True)
    rows = connection.execute(chosen).mappings().all()
    lasts = _lasts(connection, [row["id"] for row in rows])
    changes = []
    for row in rows:
        last, due_at = lasts.get(row["id"]), instant_of(row["next_run_at"])
        health = Health(
            alert=Alert(row["alert"]) if row["alert"] in _ALERTS else None,
            active=bool(row["active"]),
            faulty=row["error"] is not None,
            overdue=due_at is not None and due_at < overdue_before,
            last=Ended(last.state, last.finished_at) if last else None,
            paused_at=instant_of(row["paused_at"]),
            edited_at=instant_of(row["edited_at"]),
        )
        after = judge(health)
        if (after.value if after else None) != row["alert"]:
            told = after is not None or health.active
            change = (row["id"], row["name"], row["task"], health.alert, after, told)
            changes.append(Change(*change, due_at=due_at, run=last))
    return changes


_ALERTS = frozenset(alert.value for alert in Alert)


def _lasts(connection: Connection, keys: Sequence[str]) -> Mapping[str, RunEnd]:
    """The newest ended run of each routine, by occurrence.

    Each state is asked for by itself: so the index ``routine_runs_routine`` has the answer at its
    end, however much history a routine has.
    """
    newest = [
        sa.select(raw(runs.c.id))
        .where(runs.c.routine_id == _c.id, runs.c.state == state.value)
        .order_by(runs.c.scheduled_for.desc())
        .limit(1)
        .scalar_subquery()
        for state in TOLD
    ]
    chosen = sa.select(raw(_c.id), *newest).where(_c.id.in_(keys))
    ids = {key: [each for each in found if each] for key, *found in connection.execute(chosen)}
    ends = _ends(connection, [each for found in ids.values() for each in found])
    return {
        key: max((ends[each] for each in found if each in ends), key=_newer)
        for key, found in ids.items()
        if any(each in ends for each in found)
    }


def _newer(run: RunEnd) -> tuple[str, str]:
    return str(run.scheduled_for), str(run.finished_at)


def _ends(connection: Connection, ids: Iterable[str]) -> Mapping[str, RunEnd]:
    c: Any = runs.c
    columns = (raw(c.id), c.state, raw(c.scheduled_for), raw(c.finished_at), c.reason, c.error)
    return {
        key: RunEnd(key, State(state), instant_of(due), instant_of(ended), reason, error)
        for some in chunks(ids)
        for key, state, due, ended, reason, error in connection.execute(
            sa.select(*columns).where(c.id.in_(some), in_states(*TOLD))
        )
    }
