"""The tables on a declarative ``Base`` of your own, with further columns if you like.

::

    class Routine(RoutineMixin, Base):
        team = Column(String(40))


    class RoutineRun(RoutineRunMixin, Base):
        pass

Columns, defaults and indexes are those of `tables`. ``__tablename__`` may be left out, and
``__table_args__`` may name a schema, or add constraints and indexes. A column that you add needs
a default or has to allow null, as the kit inserts rows without it.

Python sees instants as aware UTC, ids as UUID, JSON as values: see ``docs/models.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from . import tables
from .columns import Id, Instant, JsonText, MappedId, MappedInstant, MappedJson, new_id, on_mysql
from .errors import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped

__all__ = ["RoutineMixin", "RoutineRunMixin"]

T = TypeVar("T", bound=type)

_MAPPED: dict[type[Any], type[Any]] = {Id: MappedId, Instant: MappedInstant, JsonText: MappedJson}


def _makes(table: sa.Table) -> Callable[[T], T]:
    """A mixin that makes *table*: its columns become the class's, its indexes the new table's."""

    def decorate(mixin: T) -> T:
        def make(cls: Any, name: str, metadata: sa.MetaData, *args: Any, **kw: Any) -> sa.Table:
            if name != table.name:
                raise DeclarationError(
                    f"{cls.__name__}.__tablename__ = {name!r}: the kit knows this table by the "
                    f"name {table.name!r} only; it may be in another schema"
                )
            others = getattr(super(mixin, cls), "__table_cls__", sa.Table)
            # SQLAlchemy 2 would place the columns of a mixin behind those of the class.
            ours_first = sorted(args, key=lambda arg: not _is_of(table, arg))
            made: sa.Table = others(name, metadata, *ours_first, *_indexes(table), **kw)
            return made

        members = {
            "__tablename__": table.name,
            "__table_cls__": classmethod(make),
            **{column.name: _column(column) for column in table.columns},
        }
        for name, member in members.items():
            setattr(mixin, name, member)
        return mixin

    return decorate


def _is_of(table: sa.Table, item: Any) -> bool:
    return isinstance(item, sa.Column) and item.name in table.columns


def _column(column: sa.Column[Any]) -> sa.Column[Any]:
    default = getattr(column.server_default, "arg", None)
    empty = isinstance(default, str) and not default
    made: sa.Column[Any] = sa.Column(
        column.name,
        _type(column.type),
        primary_key=column.primary_key,
        nullable=column.nullable,
        autoincrement=column.autoincrement,
        # As text, for Alembic takes an empty string for another default than the database's.
        server_default=sa.text("''") if empty else default,
        # Not every database tells which id it has made.
        default=uuid4 if isinstance(default, new_id) else None,
    )
    return made


def _type(type_: Any) -> Any:
    if type(type_) in _MAPPED:
        return _MAPPED[type(type_)]()
    # What FLOAT(53) comes to, and what Alembic finds.
    exact = isinstance(type_, sa.Float)
    return on_mysql(type_, mysql.DOUBLE(asdecimal=False)) if exact else type_


def _indexes(table: sa.Table) -> Iterator[sa.Index]:
    for index in table.indexes:
        names = [column.name for column in index.columns]
        yield sa.Index(index.name, *names, unique=index.unique, **index.kwargs)


def _shown(entity: Any, *names: str) -> str:
    """What is loaded of it: to be shown must not take a statement."""
    loaded, state = vars(entity), sa.inspect(entity)
    told = {name: loaded[name] for name in names if loaded.get(name) is not None}
    if not told and state.identity:
        told = {"id": state.identity[0]}
    return f"<{' '.join([type(entity).__name__, *(f'{n}={v}' for n, v in told.items())])}>"


@_makes(tables.routines)
class RoutineMixin:
    """The table ``routines``: what to run and when."""

    if TYPE_CHECKING:
        id: Mapped[UUID]
        name: Mapped[str]
        task: Mapped[str]
        schedule: Mapped[Any]
        last_run_at: Mapped[datetime | None]
        total_run_count: Mapped[int | None]
        active: Mapped[bool]
        kwargs: Mapped[Any]
        options: Mapped[Any]
        args: Mapped[Any]
        namespace: Mapped[str]
        next_run_at: Mapped[datetime | None]
        occurrence_at: Mapped[datetime | None]
        waiting_for: Mapped[UUID | None]
        catch_up: Mapped[str]
        overlap: Mapped[str]
        jitter: Mapped[float]
        starts_at: Mapped[datetime | None]
        ends_at: Mapped[datetime | None]
        max_runs: Mapped[int | None]
        description: Mapped[str | None]
        origin: Mapped[str | None]
        declared: Mapped[Any]
        error: Mapped[str | None]
        created_at: Mapped[datetime]
        updated_at: Mapped[datetime]
        edited_at: Mapped[datetime]
        paused_at: Mapped[datetime | None]
        ended_at: Mapped[datetime | None]
        alert: Mapped[str | None]

    def __repr__(self) -> str:
        return _shown(self, "name", "active", "error")


@_makes(tables.runs)
class RoutineRunMixin:
    """The table ``routine_runs``: each intent to run an occurrence, then its history."""

    if TYPE_CHECKING:
        id: Mapped[UUID]
        routine_id: Mapped[UUID]
        routine_name: Mapped[str]
        namespace: Mapped[str]
        task: Mapped[str]
        args: Mapped[Any]
        kwargs: Mapped[Any]
        options: Mapped[Any]
        scheduled_for: Mapped[datetime]
        cause: Mapped[str]
        state: Mapped[str]
        reason: Mapped[str | None]
        count: Mapped[int]
        until: Mapped[datetime | None]
        claimed_by: Mapped[UUID | None]
        claimed_at: Mapped[datetime | None]
        publish_attempts: Mapped[int]
        sent_at: Mapped[datetime | None]
        attempt_id: Mapped[UUID | None]
        attempts: Mapped[int]
        retries: Mapped[int]
        worker: Mapped[str | None]
        started_at: Mapped[datetime | None]
        heartbeat_at: Mapped[datetime | None]
        finished_at: Mapped[datetime | None]
        error: Mapped[str | None]

    def __repr__(self) -> str:
        return _shown(self, "routine_name", "scheduled_for", "state")
