"""Which runs of a routine are unfinished: what its next occurrence, or one that waits, meets.

Each state is asked for by itself, up to the first run that is found: so every database uses the
index ``routine_runs_routine``, however much history a routine has, and however many runs are
unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import raw
from ..routines import Overlap, State
from ..steps import Unfinished
from ..tables import routines, runs
from .chunks import chunks

#: Unfinished, and not only waiting; what lasts longest is asked for first.
_BEGUN = (State.RUNNING, State.SENT, State.RETRYING, State.CLAIMED)


def read(
    connection: Connection, keys: Iterable[str | UUID], *, lock: bool = False
) -> Mapping[str, Unfinished]:
    """The unfinished runs of the routines *keys*, whose rows the caller has locked.

    A statement of its own, after the one that has locked them: the snapshot of that one may be
    older than the run that somebody else has claimed in between. Where the transaction's own may
    be that old, *lock* the runs as well: what is locked is what there is.
    """
    found: dict[str, Unfinished] = {}
    asked = list(keys)
    if not asked:  # as most batches do not: the statement takes longer to build than to execute
        return found
    key = routines.c.id
    begun = sa.func.coalesce(*(_one_of(key, state, lock=lock) for state in _BEGUN))
    waiting = _one_of(key, State.WAITING, lock=lock)
    for wanted in chunks(asked):
        chosen = sa.select(raw(key), begun, waiting).where(key.in_(wanted))
        for row, *ids in connection.execute(chosen.with_for_update() if lock else chosen):
            found[row] = Unfinished(*ids)
    return found


def _one_of(key: sa.ColumnElement[Any], state: State, *, lock: bool) -> Any:
    of_state = sa.and_(runs.c.routine_id == key, runs.c.state == state.value)
    chosen = sa.select(raw(runs.c.id)).where(of_state).limit(1)
    return (chosen.with_for_update() if lock else chosen).scalar_subquery()


def may_go(waiting: Any = runs) -> sa.ColumnElement[bool]:
    """Whether the run in *waiting* has nothing to wait for: nothing else of its routine has begun,
    or is about to, or may overlap now."""
    other = runs.alias("other")
    key = waiting.c.routine_id
    busy = [
        sa.exists().where(
            other.c.routine_id == key, other.c.state == state.value, other.c.id != waiting.c.id
        )
        for state in _BEGUN
    ]
    # Of a backfill many wait: one after the other.
    busy.append(
        sa.exists().where(
            other.c.routine_id == key,
            other.c.state == State.WAITING.value,
            sa.or_(
                other.c.claimed_at < waiting.c.claimed_at,
                sa.and_(other.c.claimed_at == waiting.c.claimed_at, other.c.id < waiting.c.id),
            ),
        )
    )
    allowed = sa.exists().where(routines.c.id == key, routines.c.overlap == Overlap.ALLOW.value)
    return sa.or_(sa.not_(sa.or_(*busy)), allowed)
