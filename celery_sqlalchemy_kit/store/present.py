"""Instants in statements."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import sqlalchemy as sa

from ..clock import Clock
from ..columns import Instant, utcnow

#: An instant that is known, or a parameter of a statement that is built once.
SomeInstant: TypeAlias = "datetime | sa.ColumnElement[datetime]"


def now_of(clock: Clock) -> sa.ColumnElement[datetime]:
    """The present, as an expression: the database's own, unless *clock* says otherwise."""
    present = clock.now()
    return utcnow() if present is None else sa.literal(present, Instant())
