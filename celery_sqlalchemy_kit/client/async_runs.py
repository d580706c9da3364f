"""The verbs of `AsyncRoutines` that have to do with runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..details import RoutineDetails, RunDetails
from ..routines import OneOff, State
from ..store.orders import Backfill, Span
from .async_transacting import AsyncTransacting
from .runs import HOUR

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .fields import AsyncWithin


class AsyncRunVerbs(AsyncTransacting):
    """Runs now, then, and those that have been; see `AsyncRoutines`."""

    async def run_now(
        self,
        key: str | UUID,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        note: str | None = None,
        **where: Unpack[AsyncWithin],
    ) -> UUID:
        """See `Routines.run_now`."""
        given = {"args": args, "kwargs": kwargs, "options": options}
        return await self._do(self.verbs.run_now(key, given, note), **where)

    async def backfill(
        self,
        key: str | UUID,
        span: Span,
        *,
        dry_run: bool = False,
        note: str | None = None,
        **where: Unpack[AsyncWithin],
    ) -> Backfill:
        """See `Routines.backfill`."""
        verb = self.verbs.backfill(key, span, dry_run=dry_run, note=note)
        return await self._do(verb, **where)

    async def history(
        self,
        key: str | UUID | None = None,
        *,
        states: Iterable[State | str] = (),
        since: datetime | None = None,
        limit: int | None = 100,
        **where: Unpack[AsyncWithin],
    ) -> list[RunDetails]:
        """See `Routines.history`."""
        return await self._look(self.verbs.history(key, states, since, limit), **where)

    async def run(self, run_id: str | UUID, **where: Unpack[AsyncWithin]) -> RunDetails:
        """See `Routines.run`."""
        return await self._look(self.verbs.run(run_id), **where)

    async def last_runs(
        self, ids: Iterable[UUID], **where: Unpack[AsyncWithin]
    ) -> dict[UUID, RunDetails]:
        """See `Routines.last_runs`."""
        return await self._look(self.verbs.last_runs(ids), **where)

    async def upcoming(
        self, within: timedelta = HOUR, *, limit: int = 1000, **where: Unpack[AsyncWithin]
    ) -> list[tuple[datetime, RoutineDetails]]:
        """See `Routines.upcoming`."""
        return await self._look(self.verbs.upcoming(within, limit), **where)

    async def next_runs(
        self, key: str | UUID, n: int = 10, **where: Unpack[AsyncWithin]
    ) -> list[datetime]:
        """See `Routines.next_runs`."""
        return await self._look(self.verbs.next_runs(key, n), **where)

    async def once(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
        in_: timedelta | float | None = None,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        **where: Unpack[AsyncWithin],
    ) -> UUID:
        """See `Routines.once`."""
        wanted = OneOff(task, args, kwargs or {}, options or {}, at, in_, name)
        return (await self._do(self.verbs.once([wanted]), **where))[0]

    async def once_all(self, wanted: Iterable[OneOff], **where: Unpack[AsyncWithin]) -> list[UUID]:
        """See `Routines.once_all`."""
        return await self._do(self.verbs.once(wanted), **where)

    async def reschedule(
        self,
        key: str | UUID,
        *,
        at: datetime | None = None,
        in_: timedelta | float | None = None,
        note: str | None = None,
        **where: Unpack[AsyncWithin],
    ) -> datetime:
        """See `Routines.reschedule`."""
        return await self._do(self.verbs.reschedule(key, at, in_, note), **where)

    async def cancel(
        self, key: str | UUID, *, note: str | None = None, **where: Unpack[AsyncWithin]
    ) -> bool:
        """See `Routines.cancel`."""
        return await self._do(self.verbs.cancel(key, note), **where)
