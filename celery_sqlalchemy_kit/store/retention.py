"""What is over for long, or has too many after it, leaves ``routine_runs``, and what was written
down long ago ``routine_changes``; in small batches."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import raw, read_instant
from ..routines import ENDED
from ..tables import changes, runs
from .chunks import chunks
from .present import SomeInstant
from .states import in_states

_c = runs.c


def old(namespace: str, before: SomeInstant) -> sa.ColumnElement[bool]:
    """Ended before *before*."""
    return sa.and_(_c.namespace == namespace, in_states(*ENDED), _c.finished_at < before)


def crowded(connection: Connection, namespace: str, keep: int) -> list[UUID]:
    """The routines that have more than *keep* ended runs; counts all there are."""
    found = (
        sa.select(raw(_c.routine_id))
        .where(_c.namespace == namespace, in_states(*ENDED))
        .group_by(_c.routine_id)
        .having(sa.func.count() > keep)
    )
    return [UUID(text) for text in connection.execute(found).scalars()]


def surplus_before(connection: Connection, routine_id: UUID, keep: int) -> datetime | None:
    """The instant up to which ended runs of a routine are too many; None: there are not so many."""
    found = (
        sa.select(raw(_c.scheduled_for))
        .where(_c.routine_id == routine_id, in_states(*ENDED))
        .order_by(_c.scheduled_for.desc())
        .offset(keep)
        .limit(1)
    )
    instant = connection.execute(found).scalar_one_or_none()
    return None if instant is None else read_instant(instant)


def surplus(routine_id: UUID, until: datetime) -> sa.ColumnElement[bool]:
    """Ended runs of a routine, for occurrences up to *until*."""
    return sa.and_(_c.routine_id == routine_id, in_states(*ENDED), _c.scheduled_for <= until)


# By this index: any other way would wait for rows that somebody else has locked.
_DELETE_MYSQL = sa.text(
    "DELETE run FROM routine_runs AS run FORCE INDEX (PRIMARY) "
    f"WHERE run.id IN :keys AND run.state IN ({', '.join(repr(each.value) for each in ENDED)})"
).bindparams(sa.bindparam("keys", expanding=True, type_=_c.id.type))


def prune(connection: Connection, condition: sa.ColumnElement[bool], limit: int) -> int:
    """Delete at most *limit* runs; returns how many. Those that somebody has locked stay."""
    found = sa.select(raw(_c.id)).where(condition).limit(limit)
    keys = connection.execute(found.with_for_update(skip_locked=True)).scalars().all()
    for wanted in chunks(keys):
        if connection.dialect.name == "mysql":
            connection.execute(_DELETE_MYSQL, {"keys": wanted})
        else:
            connection.execute(runs.delete().where(_c.id.in_(wanted), in_states(*ENDED)))
    return len(keys)


def prune_changes(connection: Connection, namespace: str, before: datetime, limit: int) -> int:
    """Delete at most *limit* of the changes that were made before *before*; returns how many."""
    c = changes.c
    found = sa.select(raw(c.id)).where(c.namespace == namespace, c.changed_at < before)
    keys = connection.execute(found.limit(limit)).scalars().all()
    for wanted in chunks(keys):
        connection.execute(changes.delete().where(c.id.in_(wanted)))
    return len(keys)
