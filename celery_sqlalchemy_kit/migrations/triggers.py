"""The triggers by which a change in ``routines`` is seen, whoever makes it and however.

What the planning depends on changes: ``next_run_at`` is cleared (unless it was set in the same
statement), ``edited_at`` tells since when, ``paused_at`` since when it was off. Any change of a
column that people own clears ``error``. PostgreSQL also notifies, once a statement.

Whatever ends a run, a routine that was waiting for its end stops waiting in the same statement:
``ended_at`` tells since when. A schedule that is no longer ``after`` waits for nothing. PostgreSQL
also notifies if another run of the routine waits for the end: a scheduler lets that go.
"""

from __future__ import annotations

import re

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ..columns import family
from ..routines import ENDED, State
from . import hashes
from .owned import OWNED, PLANNED

CHANNEL = "routines"
#: The setting by which the kit keeps its own statements from waking anybody.
QUIET = "routines.quiet"
_ENDED = ", ".join(f"'{state.value}'" for state in ENDED)
_WAITING = State.WAITING.value
_AFTER = """'"after"'"""


# MySQL and MariaDB: SUPER is needed while the binary log is on; no privilege; access denied.
_REFUSED = frozenset({1419, 1142, 1227})


def create(connection: Connection) -> None:
    """Create the triggers, or replace them.

    Where a user of MySQL or MariaDB may not create any, two columns take their place: see
    `hashes`.
    """
    try:
        for statement in statements(family(connection.dialect)):
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        cause = error.orig
        if cause is None or not cause.args or cause.args[0] not in _REFUSED:
            raise
        hashes.create(connection)


def statements(dialect: str) -> list[str]:
    """The DDL for a dialect: ``postgresql``, ``mysql`` (also MariaDB) or ``sqlite``."""
    edits = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}[dialect]()
    return [*edits, *_ended(dialect)]


def removal(dialect: str) -> list[str]:
    """The DDL that drops them; PostgreSQL's functions come last."""
    made = statements(dialect)
    drops = [statement for statement in made if statement.startswith("DROP TRIGGER")]
    functions = re.findall(r"CREATE OR REPLACE FUNCTION (\w+)\(\)", "".join(made))
    return [*drops, *(f"DROP FUNCTION IF EXISTS {name}()" for name in functions)]


def _postgresql() -> list[str]:
    old, new = (
        ", ".join(f"{row}.{c}::text" if c == "schedule" else f"{row}.{c}" for c in PLANNED)
        for row in ("OLD", "NEW")
    )
    owned = ", ".join(PLANNED + OWNED)
    return [
        f"""
        CREATE OR REPLACE FUNCTION routines_edited() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF ({old}) IS DISTINCT FROM ({new}) THEN
                IF NEW.next_run_at IS NOT DISTINCT FROM OLD.next_run_at THEN
                    NEW.next_run_at := NULL;
                END IF;
                NEW.edited_at := statement_timestamp();
                IF OLD.active AND NOT NEW.active THEN
                    NEW.paused_at := coalesce(OLD.paused_at, statement_timestamp());
                END IF;
                IF strpos(NEW.schedule::text, {_AFTER}) = 0 THEN NEW.waiting_for := NULL; END IF;
            ELSIF NEW.next_run_at IS NULL AND OLD.next_run_at IS NOT NULL
                  AND NEW.waiting_for IS NULL THEN
                NEW.edited_at := statement_timestamp();
            END IF;
            IF NEW.error IS NOT DISTINCT FROM OLD.error THEN NEW.error := NULL; END IF;
            NEW.updated_at := statement_timestamp();
            RETURN NEW;
        END $$""",
        "DROP TRIGGER IF EXISTS routines_edited ON routines",
        f"""
        CREATE TRIGGER routines_edited BEFORE UPDATE OF {owned} ON routines
        FOR EACH ROW EXECUTE FUNCTION routines_edited()""",
        "DROP TRIGGER IF EXISTS routines_moved ON routines",
        """
        CREATE TRIGGER routines_moved BEFORE UPDATE OF next_run_at ON routines FOR EACH ROW
        WHEN (NEW.next_run_at IS DISTINCT FROM OLD.next_run_at
              AND (NEW.next_run_at IS NULL OR OLD.error IS NOT NULL))
        EXECUTE FUNCTION routines_edited()""",
        *_postgresql_wake(owned),
    ]


def _postgresql_wake(owned: str) -> list[str]:
    return [
        f"""
        CREATE OR REPLACE FUNCTION routines_wake() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF coalesce(current_setting('{QUIET}', true), '') <> 'on' THEN
                PERFORM pg_notify('{CHANNEL}', '');
            END IF;
            RETURN NULL;
        END $$""",
        "DROP TRIGGER IF EXISTS routines_wake ON routines",
        f"""
        CREATE TRIGGER routines_wake
        AFTER INSERT OR UPDATE OF {owned}, next_run_at, waiting_for ON routines
        FOR EACH STATEMENT EXECUTE FUNCTION routines_wake()""",
    ]


def _mysql() -> list[str]:
    same = " AND ".join(f"OLD.{c} <=> NEW.{c}" for c in PLANNED)
    same_owned = " AND ".join(f"OLD.{c} <=> NEW.{c}" for c in OWNED)
    return [
        "DROP TRIGGER IF EXISTS routines_edited",
        f"""
        CREATE TRIGGER routines_edited BEFORE UPDATE ON routines FOR EACH ROW BEGIN
            IF NOT ({same}) THEN
                IF OLD.next_run_at <=> NEW.next_run_at THEN SET NEW.next_run_at = NULL; END IF;
                SET NEW.edited_at = utc_timestamp(6);
                IF OLD.active AND NOT NEW.active THEN
                    SET NEW.paused_at = coalesce(OLD.paused_at, utc_timestamp(6));
                END IF;
                IF instr(NEW.schedule, {_AFTER}) = 0 THEN SET NEW.waiting_for = NULL; END IF;
            ELSEIF NEW.next_run_at IS NULL AND OLD.next_run_at IS NOT NULL
                   AND NEW.waiting_for IS NULL THEN
                SET NEW.edited_at = utc_timestamp(6);
            END IF;
            IF NOT ({same} AND {same_owned}) THEN
                SET NEW.updated_at = utc_timestamp(6);
            END IF;
            IF OLD.error IS NOT NULL AND OLD.error <=> NEW.error
               AND NOT ({same} AND {same_owned} AND OLD.next_run_at <=> NEW.next_run_at) THEN
                SET NEW.error = NULL;
            END IF;
        END""",
    ]


_SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def _sqlite() -> list[str]:
    now = _SQLITE_NOW
    changed = " OR ".join(f"OLD.{c} IS NOT NEW.{c}" for c in PLANNED)
    healed = (
        f"error = CASE {_sqlite_unreadable()} "
        "WHEN NEW.error IS OLD.error THEN NULL ELSE NEW.error END"
    )
    drop = [
        f"DROP TRIGGER IF EXISTS routines_{name}"
        for name in ("edited", "owned", "moved", "instants_inserted", "instants_updated")
    ]
    return [
        *drop,
        f"""
        CREATE TRIGGER routines_edited AFTER UPDATE OF {", ".join(PLANNED)} ON routines
        WHEN {changed} BEGIN
            UPDATE routines SET {healed}, edited_at = {now}, updated_at = {now},
                next_run_at = CASE WHEN OLD.next_run_at IS NEW.next_run_at
                                   THEN NULL ELSE NEW.next_run_at END,
                paused_at = CASE WHEN OLD.active AND NOT NEW.active
                                 THEN coalesce(OLD.paused_at, {now}) ELSE NEW.paused_at END,
                waiting_for = CASE WHEN instr(NEW.schedule, {_AFTER}) THEN NEW.waiting_for END
            WHERE rowid = NEW.rowid;
        END""",
        f"""
        CREATE TRIGGER routines_owned AFTER UPDATE OF {", ".join(OWNED)} ON routines BEGIN
            UPDATE routines SET {healed}, updated_at = {now} WHERE rowid = NEW.rowid;
        END""",
        f"""
        CREATE TRIGGER routines_moved AFTER UPDATE OF next_run_at ON routines
        WHEN NEW.next_run_at IS NOT OLD.next_run_at
             AND (NEW.next_run_at IS NULL OR OLD.error IS NOT NULL) BEGIN
            UPDATE routines SET {healed},
                edited_at = CASE WHEN NEW.next_run_at IS NULL AND NEW.waiting_for IS NULL
                                 THEN {now} ELSE edited_at END
            WHERE rowid = NEW.rowid;
        END""",
        *_sqlite_instants(),
    ]


_SQLITE_INSTANTS = ("next_run_at", "starts_at", "ends_at")


def _sqlite_unreadable() -> str:
    """The branches of a CASE that say which instant of NEW cannot be read."""
    return " ".join(
        f"WHEN NEW.{c} IS NOT NULL AND datetime(NEW.{c}) IS NULL THEN '{c} = ' || "
        f"quote(NEW.{c}) || ' is no instant; allowed is YYYY-MM-DD HH:MM:SS, in UTC'"
        for c in _SQLITE_INSTANTS
    )


def _sqlite_instants() -> list[str]:
    """SQLite compares instants as text: what ``datetime()`` can read gets the one form."""
    columns = _SQLITE_INSTANTS
    form = "????-??-?? ??:??:??.??????"
    other = " OR ".join(f"NEW.{c} NOT GLOB '{form}'" for c in columns)
    read = ", ".join(
        f"{c} = coalesce(strftime('%Y-%m-%d %H:%M:%f000', NEW.{c}), NEW.{c})" for c in columns
    )
    body = f"""WHEN {other} BEGIN
            UPDATE routines SET {read} WHERE rowid = NEW.rowid;
            UPDATE routines SET error = CASE {_sqlite_unreadable()} ELSE error END
            WHERE rowid = NEW.rowid;
        END"""
    return [
        f"CREATE TRIGGER routines_instants_inserted AFTER INSERT ON routines {body}",
        f"""
        CREATE TRIGGER routines_instants_updated AFTER UPDATE OF {", ".join(columns)} ON routines
        {body}""",
    ]


def _ended(dialect: str) -> list[str]:
    """On the runs: their end, for the routine that waits for it.

    A routine that somebody has locked, in a transaction that is left open perhaps, must not hold
    up the worker, which might give up and lose the end: it is left to the next heartbeat, and so
    are all where the worker's user has no rights on ``routines`` (PostgreSQL).
    """
    ends = f"NEW.state IN ({_ENDED})"
    release = "UPDATE routines SET waiting_for = NULL, ended_at = coalesce(NEW.finished_at, {now})"
    if dialect == "mysql":
        return [
            "DROP TRIGGER IF EXISTS routine_runs_ended",
            f"""
        CREATE TRIGGER routine_runs_ended AFTER UPDATE ON routine_runs FOR EACH ROW BEGIN
            DECLARE free CHAR(32) CHARACTER SET ascii COLLATE ascii_bin;
            IF {ends} AND NOT (OLD.state <=> NEW.state) THEN
                SET free = (SELECT id FROM routines WHERE waiting_for = NEW.id
                            LIMIT 1 FOR UPDATE SKIP LOCKED);
                {release.format(now="utc_timestamp(6)")} WHERE id = free;
            END IF;
        END""",
        ]
    if dialect == "sqlite":
        return [
            "DROP TRIGGER IF EXISTS routine_runs_ended",
            f"""
        CREATE TRIGGER routine_runs_ended AFTER UPDATE OF state ON routine_runs
        WHEN {ends} AND OLD.state IS NOT NEW.state BEGIN
            {release.format(now=_SQLITE_NOW)} WHERE waiting_for = NEW.id;
        END""",
        ]
    # Asked first: an update of no row would wake every scheduler at the end of every run.
    return [
        f"""
        CREATE OR REPLACE FUNCTION routine_runs_ended() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT SET lock_timeout = '100ms' AS $$
        BEGIN
            IF EXISTS (SELECT 1 FROM routines WHERE waiting_for = NEW.id) THEN
                {release.format(now="statement_timestamp()")}
                WHERE waiting_for = NEW.id;
            END IF;
            IF EXISTS (SELECT 1 FROM routine_runs
                       WHERE routine_id = NEW.routine_id AND state = '{_WAITING}') THEN
                PERFORM pg_notify('{CHANNEL}', '');
            END IF;
            RETURN NULL;
        EXCEPTION WHEN lock_not_available OR insufficient_privilege THEN RETURN NULL;
        END $$""",
        "DROP TRIGGER IF EXISTS routine_runs_ended ON routine_runs",
        f"""
        CREATE TRIGGER routine_runs_ended AFTER UPDATE OF state ON routine_runs FOR EACH ROW
        WHEN ({ends} AND OLD.state IS DISTINCT FROM NEW.state)
        EXECUTE FUNCTION routine_runs_ended()""",
    ]
