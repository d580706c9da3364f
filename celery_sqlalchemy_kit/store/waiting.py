"""Runs that wait for the end of the run before them, and are let go by any scheduler.

No two runs of a routine get under way at once: a claim, which holds the routine's row, starts none
while one waits, and one that waits turns ``claimed`` here in one step: whoever looks, sees it as
the one or the other. Nobody waits for a lock here, so that nobody waits for somebody who waits:
rows that others have locked are left to the next time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import raw, read_instant
from ..errors import RoutineError
from ..overlap import released
from ..rescue import Verdict, expiry
from ..routines import BY_HAND, State
from ..storage.values import Claimed, Rescued
from ..tables import runs
from .chunks import CHUNK
from .claimer import Claimer
from .unfinished import may_go
from .unsent import UNSENT, end_unsent, run_of, standing_of, stranded_of

_c = runs.c


def release(connection: Connection, claimer: Claimer, *, limit: int) -> Rescued:
    """Claim the runs that need wait no longer, or end them; who has waited longest comes first."""
    present = read_instant(connection.execute(sa.select(raw(claimer.now()))).scalar_one())
    rows = _lock(connection, claimer, min(limit, CHUNK))
    standing = standing_of(connection, {row["routine_id"] for row in rows})
    claimed, given_up = [], []
    for row in rows:
        try:
            run = run_of(row)
        except RoutineError as fault:
            given_up.append((row, Verdict(State.SKIPPED, str(fault))))
            continue
        found = stranded_of(row, run, standing.get(row["routine_id"]))
        # From when it was queued: what has been late before is not its fault.
        expires = expiry(found.claimed_at or present, run.options)
        reason = released(
            present=found.present,
            active=found.active,
            over=found.over,
            by_hand=run.cause in BY_HAND,
            expired=expires is not None and expires <= present,
        )
        if reason is None:
            claimed.append(Claimed(run, present))
        else:
            given_up.append((row, Verdict(State.SKIPPED, reason)))
    connection.execute(
        runs.update()
        .where(_c.id.in_([held.run.id for held in claimed]), _c.state == State.WAITING.value)
        .values(
            state=State.CLAIMED.value,
            claimed_by=claimer.id,
            claimed_at=present,
            publish_attempts=1,
        )
    )
    ended = end_unsent(connection, given_up, standing, present, State.WAITING)
    return Rescued(tuple(claimed), tuple(ended))


def _lock(connection: Connection, claimer: Claimer, limit: int) -> Sequence[Mapping[str, Any]]:
    """Lock runs that wait for nothing; and look again, as the first look was at no locked rows."""
    waits = _c.state == State.WAITING.value
    first = sa.select(raw(_c.id)).where(waits, _c.namespace == claimer.namespace, may_go())
    first = first.order_by(_c.claimed_at, _c.id).limit(limit)
    keys = connection.execute(first).scalars().all()
    chosen = sa.select(*UNSENT).where(_c.id.in_(keys), waits).order_by(_c.claimed_at, _c.id)
    locked = connection.execute(chosen.with_for_update(skip_locked=True)).mappings().all()
    again = sa.select(raw(_c.id)).where(_c.id.in_([row["id"] for row in locked]), may_go())
    still = frozenset(connection.execute(again).scalars())
    return [dict(row) for row in locked if row["id"] in still]
