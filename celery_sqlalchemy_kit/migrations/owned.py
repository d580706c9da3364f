"""The columns of ``routines`` that people own, as the triggers and their stand-in see them."""

from __future__ import annotations

#: Columns on which the next occurrence depends.
PLANNED = ("schedule", "active", "jitter", "starts_at", "ends_at", "max_runs")
#: Columns that people own besides, and whose correction may heal a row.
OWNED = ("name", "task", "args", "kwargs", "options", "catch_up", "overlap", "description")
