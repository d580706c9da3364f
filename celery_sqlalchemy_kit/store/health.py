"""What liveness is judged by, read from the tables; and why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from ..clock import DATABASE, Clock
from ..columns import instant_of, raw, read_instant
from ..health import COUNTED, Beat, Bounds, Overdue, Seen
from ..tables import routines, schedulers
from .candidates import schedulable
from .connections import make_engine
from .faults import Fault, kind_of
from .present import now_of

MISSING = (
    f"the table {schedulers.name} is missing: no scheduler has been started yet, or "
    "scheduler_db_uri names another database, or scheduler_db_schema another schema"
)


@dataclass(frozen=True)
class Unanswered:
    """Why nothing is known, in a line; *away*: as the database could not be asked at all."""

    words: str
    away: bool


def engine_to_look(url: URL, schema: str | None, seconds: float) -> Engine:
    """An engine of its own that makes no file, and whose statements take at most *seconds*."""
    file = url.database if url.get_backend_name() == "sqlite" else None
    if file and file != ":memory:" and "uri" not in url.query:
        # SQLite would make the file that it does not find.
        url = url.set(database=f"file:{quote(file)}")
        url = url.update_query_dict({"mode": "rw", "uri": "true"})
    return make_engine(url, schema=schema, lock_seconds=seconds, statement_timeout=seconds)


def ask(engine: Engine, namespace: str, bounds: Bounds) -> Seen | Unanswered:
    """What `look` finds, or why it cannot; closes the engine."""
    try:
        try:
            return look(engine, namespace, bounds)
        except SQLAlchemyError as error:
            if kind_of(error) is Fault.OTHER and not _has_tables(engine):
                return Unanswered(MISSING, away=False)
            raise
    except SQLAlchemyError as error:
        told = " ".join(str(getattr(error, "orig", None) or error).split())
        if kind_of(error) is Fault.OTHER:
            return Unanswered(f"the tables cannot be read: {told}", away=False)
        return Unanswered(f"the database cannot be reached: {told}", away=True)
    finally:
        engine.dispose()


def look(engine: Engine, namespace: str, bounds: Bounds, clock: Clock = DATABASE) -> Seen:
    """The schedulers and the overdue routines of *namespace*; two statements, nothing locked."""
    with engine.connect().execution_options(reading=True) as connection:
        now, beats = _beats(connection, namespace, bounds.host, clock)
        overdue: tuple[Overdue, ...] = ()
        if bounds.overdue is not None:
            overdue = _overdue(connection, namespace, now - bounds.overdue)
    return Seen(now, beats, overdue)


def _has_tables(engine: Engine) -> bool:
    with engine.connect().execution_options(reading=True) as connection:
        return sa.inspect(connection).has_table(schedulers.name)


def _beats(
    connection: Connection, namespace: str, host: str | None, clock: Clock
) -> tuple[datetime, tuple[Beat, ...]]:
    """The present too, by the clock that the beats are written by, and if there are none."""
    now = now_of(clock)
    c = schedulers.c
    mine = c.namespace == namespace
    if host is not None:
        mine = sa.and_(mine, c.host == host)
    one = sa.select(sa.literal(1).label("one")).subquery()
    rows = connection.execute(
        sa.select(raw(now), c.host, c.pid, raw(c.seen_at), c.lateness_seconds)
        .select_from(one.outerjoin(schedulers, mine))
        .order_by(c.seen_at.desc(), c.id)
        .limit(COUNTED)
    ).all()
    beats = tuple(
        Beat(host, pid, read_instant(seen_at), timedelta(seconds=lateness))
        for _, host, pid, seen_at, lateness in rows
        if seen_at is not None
    )
    return read_instant(rows[0][0]), beats


def _overdue(connection: Connection, namespace: str, until: datetime) -> tuple[Overdue, ...]:
    c = routines.c
    rows = connection.execute(
        sa.select(c.name, raw(c.next_run_at))
        .where(schedulable(namespace), c.next_run_at <= until)
        .order_by(c.next_run_at, c.id)
        .limit(COUNTED)
    )
    return tuple(Overdue(name, due_at) for name, text in rows if (due_at := instant_of(text)))
