"""Conditions on the state of a run, as the partial indexes of ``routine_runs`` say it."""

from __future__ import annotations

import sqlalchemy as sa

from ..routines import State
from ..tables import runs


def in_states(*states: State) -> sa.ColumnElement[bool]:
    """Literals, as PostgreSQL and SQLite use a partial index only where they see that it suits."""
    words: list[sa.ColumnElement[str]] = [sa.literal_column(f"'{state.value}'") for state in states]
    return runs.c.state == words[0] if len(words) == 1 else runs.c.state.in_(words)
