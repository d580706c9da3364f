"""Who takes rows and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ..clock import Clock
from .present import now_of


@dataclass(frozen=True)
class Claimer:
    """Who claims, for which namespace, in which default zone, by which clock, which tasks."""

    id: UUID
    namespace: str
    timezone: str
    clock: Clock
    allowed_tasks: Sequence[str] | None

    def now(self) -> sa.ColumnElement[datetime]:
        """The present, in a statement."""
        return now_of(self.clock)
