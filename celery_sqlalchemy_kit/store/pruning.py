"""Retention by hand: everything that may go, in small batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from ..clock import pause
from . import retention
from .transactions import transact

#: Runs that are deleted in one transaction, and seconds between two, for others to come in.
BATCH, BETWEEN = 500, 0.01


def prune(
    engine: Engine, namespace: str, *, before: datetime | None = None, keep: int | None = None
) -> Iterator[int]:
    """Delete runs that ended before *before*, and of each routine all but the newest *keep*.

    Yields how many went, batch by batch. Runs that somebody has locked stay.
    """
    if before is not None:
        yield from _batches(engine, retention.old(namespace, before))
    if keep is None:
        return
    for key in transact(engine, lambda c: retention.crowded(c, namespace, keep)):
        until = transact(engine, partial(retention.surplus_before, routine_id=key, keep=keep))
        if until is not None:
            yield from _batches(engine, retention.surplus(key, until))


def prune_changes(engine: Engine, namespace: str, before: datetime) -> Iterator[int]:
    """Delete what was written down of changes made before *before*; yields as `prune`."""
    return _while_any(engine, lambda c: retention.prune_changes(c, namespace, before, BATCH))


def _batches(engine: Engine, condition: sa.ColumnElement[bool]) -> Iterator[int]:
    return _while_any(engine, lambda c: retention.prune(c, condition, BATCH))


def _while_any(engine: Engine, batch: Callable[[Connection], int]) -> Iterator[int]:
    while number := transact(engine, batch):
        yield number
        pause(BETWEEN)
