"""Claimed runs that were published: from then on they are ``sent``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..routines import State
from ..tables import runs
from .chunks import chunks
from .claimer import Claimer

# One by one, by the primary key: the index by state, which "state ||" keeps it from, is full of
# dead entries, and any other join may read the whole table, which the planner takes for small.
#: PostgreSQL's, whose parameters are `confirming`.
CONFIRM = sa.text(
    f"""
    WITH free AS MATERIALIZED (
        SELECT run.id FROM unnest(CAST(:ids AS uuid[])) AS published (id)
        CROSS JOIN LATERAL (
            SELECT id FROM routine_runs
            WHERE id = published.id AND claimed_by = CAST(:me AS uuid)
            AND state || '' = '{State.CLAIMED.value}' LIMIT 1 FOR UPDATE SKIP LOCKED) AS run)
    UPDATE routine_runs SET state = '{State.SENT.value}', error = NULL,
        sent_at = coalesce(CAST(:now AS timestamptz), statement_timestamp())
    FROM free WHERE routine_runs.id = free.id"""
)


def confirming(claimer: Claimer, ids: Iterable[UUID]) -> dict[str, Any]:
    """The parameters of `CONFIRM`; rows are locked in one order."""
    keys = ",".join(sorted(map(str, ids)))
    return {"ids": f"{{{keys}}}", "me": str(claimer.id), "now": claimer.clock.now()}


def confirm(connection: Connection, claimer: Claimer, ids: Iterable[UUID]) -> None:
    """What was published is ``sent``, unless a worker has begun it, or is about to: one that is
    frozen in the middle of that must not hold up the scheduler."""
    for published in chunks(ids):
        if connection.dialect.name == "postgresql":
            connection.execute(CONFIRM, confirming(claimer, published))
            continue
        mine = sa.and_(
            runs.c.id.in_(published),
            runs.c.state == State.CLAIMED.value,
            runs.c.claimed_by == claimer.id,
        )
        free: Any = sa.select(runs.c.id).where(mine).order_by(runs.c.id)
        free = free.with_for_update(skip_locked=True)
        if connection.dialect.name == "mysql":  # which does not update what it selects from
            free = connection.execute(free).scalars().all()
        values = {"state": State.SENT.value, "sent_at": claimer.now(), "error": None}
        connection.execute(runs.update().where(mine, runs.c.id.in_(free)).values(values))
