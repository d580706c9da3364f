"""The present in statements."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from ..clock import Clock
from ..columns import Instant, utcnow


def now_of(clock: Clock) -> sa.ColumnElement[datetime]:
    """The present, as an expression: the database's own, unless *clock* says otherwise."""
    present = clock.now()
    return utcnow() if present is None else sa.literal(present, Instant())
