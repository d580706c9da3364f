"""Rows of ``routines`` as people look at them, found by name, id or what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .. import schedules
from ..columns import instant_of, raw
from ..details import RoutineDetails, json_of
from ..errors import NotFoundError, ScheduleError
from ..exchange.keys import is_storable
from ..routines import Origin, Routine, made
from ..tables import routines
from .desk import Desk
from .rows import ROUTINE_COLUMNS, fetched

#: Rows that are read in one go.
PAGE = 1000
_MORE = ("active", "error", "alert", "description", "created_at", "updated_at", "namespace")
_COLUMNS = (*ROUTINE_COLUMNS, *_MORE)
_c = routines.c

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """Which routines: all conditions have to hold.

    *names* and *tasks* are names or patterns with ``*``, ``?`` and ``[…]``; none: any. *one_offs*:
    pending one-off runs as well, or (None) only those. *origin*: ``code``, ``db``, or ``sql`` for
    what came by bare SQL and has none.
    """

    names: Sequence[str] = ()
    tasks: Sequence[str] = ()
    active: bool | None = None
    origin: str | None = None
    #: It has an ``error``, or an ``alert``; or neither.
    troubled: bool | None = None
    one_offs: bool | None = False


def find(
    connection: Connection, desk: Desk, key: str | UUID, *, lock: bool = False
) -> RoutineDetails:
    """The routine of that name, or id; *lock* its row, as it is going to be changed.

    Raises:
        NotFoundError: there is none; names that are like it are told.
    """
    if not _is_key(key):
        raise NotFoundError(f"there is no routine {key!r}: that is neither a name nor an id")
    for where in _by(key):
        chosen = _select().where(_c.namespace == desk.namespace, where)
        row = connection.execute(chosen.with_for_update() if lock else chosen).first()
        if row is not None:
            return _details(_text(row), desk)
    raise NotFoundError(f"there is no routine {str(key)!r}{like(connection, desk, str(key))}")


def _is_key(key: object) -> bool:
    """Whether a database may be asked for it."""
    return isinstance(key, UUID) or (isinstance(key, str) and is_storable(key))


def _by(key: str | UUID) -> Iterator[sa.ColumnElement[bool]]:
    if isinstance(key, str):
        yield _c.name == key
        with suppress(ValueError):
            yield _c.id == UUID(key)
    else:
        yield _c.id == key


def like(connection: Connection, desk: Desk, name: str) -> str:
    """What to say of a name that is none's: those that are like it; empty if none is."""
    start = _c.name.startswith(name[:1], autoescape=True)
    there = sa.select(_c.name).where(_c.namespace == desk.namespace, start, _no_one_off())
    known = connection.execute(there.order_by(_c.name).limit(PAGE)).scalars().all()
    close = get_close_matches(name, known, n=3)
    return f"; there is {', '.join(map(repr, close))}" if close else ""


def listed(
    connection: Connection,
    desk: Desk,
    wanted: Wanted | None = None,
    *,
    limit: int | None = None,
    after: str | None = None,
) -> list[RoutineDetails]:
    """The routines that are wanted, by name; *limit*: so many at most, from behind *after*."""
    found: list[RoutineDetails] = []
    for text in _rows(connection, desk, wanted or Wanted(), after):
        if limit is not None and len(found) >= limit:
            break
        found.append(_details(text, desk))
    return found


def read(
    connection: Connection,
    desk: Desk,
    where: sa.ColumnElement[bool],
    by: sa.ColumnElement[Any],
    limit: int,
) -> list[RoutineDetails]:
    """The first *limit* routines that *where* says, in the order of *by*."""
    chosen = _select().where(where).order_by(by, _c.id).limit(limit)
    return [_details(_text(row), desk) for row in connection.execute(chosen)]


def names_of(connection: Connection, desk: Desk, pattern: str) -> list[str]:
    """The names of routines that match a pattern, one-offs left out."""
    wanted = Wanted((pattern,))
    where = sa.and_(_c.namespace == desk.namespace, *_conditions(wanted))
    there = connection.execute(sa.select(_c.name).where(where).order_by(_c.name)).scalars()
    return [name for name in there if _matches(name, wanted.names)]


def named(connection: Connection, desk: Desk, names: Iterable[str]) -> list[str]:
    """The names, sorted, of the routines that *names* stand for: names, ids or patterns.

    Raises:
        NotFoundError: a name is none's, or a pattern matches none.
    """
    found: set[str] = set()
    for name in names:
        if not is_pattern(name):
            found.add(find(connection, desk, name).name)
            continue
        matching = names_of(connection, desk, name)
        if not matching:
            raise NotFoundError(f"no routine matches {name!r}")
        found.update(matching)
    return sorted(found)


def is_pattern(name: str) -> bool:
    """Whether it stands for several names."""
    return any(each in name for each in "*?[")


def _rows(
    connection: Connection, desk: Desk, wanted: Wanted, after: str | None
) -> Iterator[Mapping[str, str | None]]:
    where = sa.and_(_c.namespace == desk.namespace, *_conditions(wanted))
    while True:
        page = _select().where(where).order_by(_c.name).limit(PAGE)
        if after is not None:
            page = page.where(_c.name > after)
        rows = [_text(row) for row in connection.execute(page)]
        for text in rows:
            if _matches(text["name"], wanted.names) and _matches(text["task"], wanted.tasks):
                yield text
        if len(rows) < PAGE:
            return
        after = rows[-1]["name"]


def _conditions(wanted: Wanted) -> Iterator[sa.ColumnElement[bool]]:
    for column, patterns in ((_c.name, wanted.names), (_c.task, wanted.tasks)):
        if patterns:
            yield sa.or_(*(_roughly(column, pattern) for pattern in patterns))
    if wanted.active is not None:
        yield _c.active if wanted.active else sa.not_(_c.active)
    if wanted.origin is not None:
        yield _c.origin == wanted.origin if wanted.origin != "sql" else _c.origin.is_(None)
    if wanted.troubled is not None:
        troubled = sa.or_(_c.error.is_not(None), _c.alert.is_not(None))
        yield troubled if wanted.troubled else sa.not_(troubled)
    if wanted.one_offs is False:
        yield _no_one_off()
    elif wanted.one_offs is None:
        yield _c.origin == Origin.ONCE.value


def _no_one_off() -> sa.ColumnElement[bool]:
    return sa.func.coalesce(_c.origin, "") != Origin.ONCE.value


def _roughly(column: sa.ColumnElement[str], pattern: str) -> sa.ColumnElement[bool]:
    """What a pattern may match; `_matches` is exact, as some databases take ``a`` for ``A``."""
    if not is_pattern(pattern):
        return column == pattern
    start = pattern[: min(pattern.find(each) for each in "*?[" if each in pattern)]
    return column.startswith(start, autoescape=True)


def _matches(name: str | None, patterns: Sequence[str]) -> bool:
    return not patterns or any(
        name == pattern or fnmatchcase(name or "", pattern) for pattern in patterns
    )


def _select() -> Any:
    return sa.select(*(raw(_c[name]) for name in _COLUMNS))


def _text(row: Any) -> Mapping[str, str | None]:
    return dict(zip(_COLUMNS, row, strict=True))


def _details(text: Mapping[str, str | None], desk: Desk) -> RoutineDetails:
    row = fetched(text, desk.timezone, desk.allowed_tasks)
    read = _unread(text, desk) if row.routine is None else _read(row.routine)
    return made(
        RoutineDetails,
        name=text["name"] or "",
        namespace=text["namespace"] or "",
        task=text["task"] or "",
        schedule_text=text["schedule"],
        active=text["active"] in ("1", "true"),
        description=text["description"],
        origin=text["origin"],
        error=text["error"] or row.fault,
        alert=text["alert"],
        created_at=instant_of(text["created_at"]),
        updated_at=instant_of(text["updated_at"]),
        routine=row.routine,
        **read,
    )


def _read(routine: Routine) -> dict[str, Any]:
    return {
        "id": routine.id,
        "schedule": routine.schedule,
        "args": list(routine.args),
        "kwargs": routine.kwargs,
        "options": routine.options,
        "next_run_at": routine.next_run_at,
        "last_run_at": routine.last_run_at,
        "total_run_count": routine.total_run_count,
        "catch_up": routine.catch_up.value,
        "overlap": routine.overlap.value,
        "jitter": routine.jitter_seconds,
        "starts_at": routine.starts_at,
        "ends_at": routine.ends_at,
        "max_runs": routine.max_runs,
    }


def _unread(text: Mapping[str, str | None], desk: Desk) -> dict[str, Any]:
    """The same of a row that makes no routine, as far as each column can be read."""
    return {
        "id": _id(text["id"]),
        "schedule": _schedule(text["schedule"], desk.timezone),
        "args": _or(json_of(text["args"]), []),
        "kwargs": _or(json_of(text["kwargs"]), {}),
        "options": _or(json_of(text["options"]), {}),
        "next_run_at": instant_of(text["next_run_at"]),
        "last_run_at": instant_of(text["last_run_at"]),
        "total_run_count": _number(int, text["total_run_count"]) or 0,
        "catch_up": text["catch_up"] or "",
        "overlap": text["overlap"] or "",
        "jitter": _number(float, text["jitter"]) or 0.0,
        "starts_at": instant_of(text["starts_at"]),
        "ends_at": instant_of(text["ends_at"]),
        "max_runs": _number(int, text["max_runs"]),
    }


def _id(text: str | None) -> UUID:
    try:
        return UUID(text or "")
    except ValueError:  # SQLite takes any text; the row's error says so
        return UUID(int=0)


def _number(kind: Callable[[str], T], text: str | None) -> T | None:
    try:
        return None if text is None else kind(text)
    except ValueError:
        return None


def _schedule(text: str | None, timezone: str) -> schedules.Schedule | None:
    try:
        return schedules.loads(text or "null", timezone)
    except ScheduleError:
        return None


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
