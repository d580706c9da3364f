"""The tables. What each column of ``routines`` and ``routine_runs`` means: ``docs/tables.md``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from .columns import Id, Instant, JsonText, name_type, new_id, on_mysql, utcnow
from .routines import ENDED, UNFINISHED, State

metadata = sa.MetaData()


def _column(name: str, type_: Any, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, **kw)


def _text() -> Any:
    """Any letters, also where MySQL's or MariaDB's default is another character set."""
    return on_mysql(sa.Text(), mysql.TEXT(charset="utf8mb4"))


def _word(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.String(16), **kw)


routines = sa.Table(
    "routines",
    metadata,
    _column("id", Id(), primary_key=True, server_default=new_id()),
    _column("name", name_type(), nullable=False),
    _column("task", name_type(), nullable=False),
    _column("schedule", JsonText(), nullable=False),
    _column("last_run_at", Instant()),
    _column("total_run_count", sa.Integer, server_default=sa.text("0")),
    _column("active", sa.Boolean, nullable=False, server_default=sa.true()),
    _column("kwargs", JsonText()),
    _column("options", JsonText()),
    _column("args", JsonText()),
    _column("namespace", name_type(), nullable=False, server_default=""),
    _column("next_run_at", Instant()),
    _column("occurrence_at", Instant()),
    _column("waiting_for", Id()),
    _word("catch_up", nullable=False, server_default="latest"),
    _word("overlap", nullable=False, server_default="allow"),
    _column("jitter", sa.Float(53), nullable=False, server_default=sa.text("0")),
    _column("starts_at", Instant()),
    _column("ends_at", Instant()),
    _column("max_runs", sa.Integer),
    _column("description", _text()),
    _word("origin"),
    _column("declared", JsonText()),
    _column("error", _text()),
    _column("created_at", Instant(), nullable=False, server_default=utcnow()),
    _column("updated_at", Instant(), nullable=False, server_default=utcnow()),
    _column("edited_at", Instant(), nullable=False, server_default=utcnow()),
    _column("paused_at", Instant()),
    _column("ended_at", Instant()),
    _word("alert"),
)
_c = routines.c
sa.Index("routines_name", _c.namespace, _c.name, unique=True)
# `active` is a column, and no condition: PostgreSQL bounds no search by what the condition of an
# index says already, and would read all entries of a namespace to find that none is due.
_faultless = _c.error.is_(None)
sa.Index(
    "routines_due",
    _c.namespace,
    _c.active,
    _c.next_run_at,
    _c.id,
    postgresql_where=_faultless,
    sqlite_where=_faultless,
)
sa.Index("routines_origin", _c.namespace, _c.origin)
_waits = _c.waiting_for.is_not(None)
sa.Index("routines_waiting", _c.waiting_for, postgresql_where=_waits, sqlite_where=_waits)
_alerted = _c.alert.is_not(None)
sa.Index("routines_alert", _c.namespace, _c.alert, postgresql_where=_alerted, sqlite_where=_alerted)

runs = sa.Table(
    "routine_runs",
    metadata,
    _column("id", Id(), primary_key=True),
    _column("routine_id", Id(), nullable=False),
    _column("routine_name", name_type(), nullable=False),
    _column("namespace", name_type(), nullable=False, server_default=""),
    _column("task", name_type(), nullable=False),
    _column("args", JsonText()),
    _column("kwargs", JsonText()),
    _column("options", JsonText()),
    _column("scheduled_for", Instant(), nullable=False),
    _word("cause", nullable=False),
    _word("state", nullable=False),
    _column("reason", _text()),
    _column("count", sa.Integer, nullable=False, server_default=sa.text("1")),
    _column("until", Instant()),
    _column("claimed_by", Id()),
    _column("claimed_at", Instant()),
    _column("publish_attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    _column("sent_at", Instant()),
    _column("attempt_id", Id()),
    _column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    _column("retries", sa.Integer, nullable=False, server_default=sa.text("0")),
    _column("worker", name_type()),
    _column("started_at", Instant()),
    _column("heartbeat_at", Instant()),
    _column("finished_at", Instant()),
    _column("error", _text()),
)
_r = runs.c


def _states(states: Iterable[State]) -> sa.ColumnElement[bool]:
    return _r.state.in_([sa.literal_column(f"'{state.value}'") for state in states])


# Literals, as PostgreSQL and SQLite use a partial index only where they see that it suits.
_unfinished, _ended = _states(UNFINISHED), _states(ENDED)
#: What is on its way: claimed and unpublished, sent and not begun, running for long, waiting.
sa.Index(
    "routine_runs_unfinished",
    _r.namespace,
    _r.state,
    _r.claimed_at,
    postgresql_where=_unfinished,
    sqlite_where=_unfinished,
)
#: What has ended, by when: for pruning and alerts.
sa.Index(
    "routine_runs_ended",
    _r.namespace,
    _r.state,
    _r.finished_at,
    # In other words than those that are asked for: see ``routines_due``.
    postgresql_where=sa.not_(_unfinished),
    sqlite_where=_ended,
)
#: The runs of one routine: what overlaps, what ended last, what is too many.
sa.Index("routine_runs_routine", _r.routine_id, _r.state, _r.scheduled_for)

schedulers = sa.Table(
    "routine_schedulers",
    metadata,
    _column("id", Id(), primary_key=True),
    _column("namespace", name_type(), nullable=False, server_default=""),
    _column("host", name_type(), nullable=False),
    _column("pid", sa.Integer, nullable=False),
    _column("started_at", Instant(), nullable=False),
    _column("seen_at", Instant(), nullable=False),
    _column("lateness_seconds", sa.Float(53), nullable=False, server_default=sa.text("0")),
    _column("names", JsonText(), nullable=False),
)

removed = sa.Table(
    "removed_routines",
    metadata,
    _column("id", Id(), primary_key=True),
    _column("namespace", name_type(), nullable=False, server_default=""),
    _column("name", name_type(), nullable=False),
    _column("removed_at", Instant(), nullable=False),
    _column("routine", JsonText(), nullable=False),
)
sa.Index("removed_routines_name", removed.c.namespace, removed.c.name, unique=True)

#: Who changed what by the command line or the Python API.
changes = sa.Table(
    "routine_changes",
    metadata,
    _column("id", Id(), primary_key=True),
    _column("routine_id", Id(), nullable=False),
    _column("routine_name", name_type(), nullable=False),
    _column("namespace", name_type(), nullable=False, server_default=""),
    _column("changed_at", Instant(), nullable=False, server_default=utcnow()),
    _column("changed_by", name_type(), nullable=False),
    _word("action", nullable=False),
    _column("changes", JsonText(), nullable=False),
    _column("note", _text()),
)
sa.Index("routine_changes_name", changes.c.namespace, changes.c.routine_name, changes.c.changed_at)
sa.Index("routine_changes_changed_at", changes.c.namespace, changes.c.changed_at)

#: One row: the version of the tables, by which a start knows what is left to upgrade.
schema_version = sa.Table(
    "routine_schema",
    metadata,
    _column("version", sa.Integer, primary_key=True, autoincrement=False),
)
