"""Keyword arguments of the verbs, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

from ..routines import CatchUp, Overlap

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session


class Fields(TypedDict, total=False):
    """Columns of ``routines``, see ``docs/tables.md``; ``jitter`` in seconds, or a timedelta."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    active: bool
    catch_up: CatchUp | str
    overlap: Overlap | str
    jitter: float | timedelta
    starts_at: datetime | None
    ends_at: datetime | None
    max_runs: int | None
    description: str | None


class Within(TypedDict, total=False):
    """The transaction that a verb is to take part in."""

    session: Session | None
    connection: Connection | None


class AsyncWithin(TypedDict, total=False):
    """The same for coroutines."""

    session: AsyncSession | None
    connection: AsyncConnection | None


class Created(Fields, Within, total=False):
    """What `Routines.create` takes."""


class Changed(Created, total=False):
    """What `Routines.update` takes."""

    task: str
    schedule: Any


class AsyncCreated(Fields, AsyncWithin, total=False):
    """What `AsyncRoutines.create` takes."""


class AsyncChanged(AsyncCreated, total=False):
    """What `AsyncRoutines.update` takes."""

    task: str
    schedule: Any


def parted(given: Any) -> tuple[dict[str, Any], Any]:
    """What is said of a routine, and the transaction."""
    said = dict(given)
    names = Within.__annotations__
    within = {name: said.pop(name) for name in names if name in said}
    return said, cast("Any", within)
