"""`AsyncRoutines`: for FastAPI handlers, and whatever else runs on an event loop."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..details import Change, RoutineDetails
from ..reconcile import Plan
from ..store.routine_list import Wanted
from .async_runs import AsyncRunVerbs
from .fields import parted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .fields import AsyncChanged, AsyncCreated, AsyncWithin


class AsyncRoutines(AsyncRunVerbs):
    """`Routines` with ``await``: the same verbs, values and errors.

    ``session=`` is an ``AsyncSession``, ``connection=`` an ``AsyncConnection``. Without, the
    transaction runs on a thread, by the synchronous driver of ``scheduler_db_uri``: a coroutine
    that is cancelled meanwhile does not stop it.
    """

    async def create(
        self,
        name: str,
        task: str,
        schedule: Any,
        *,
        if_exists: str = "error",
        note: str | None = None,
        **fields: Unpack[AsyncCreated],
    ) -> RoutineDetails:
        """See `Routines.create`."""
        said, where = parted(fields)
        given = {"name": name, "task": task, "schedule": schedule, **said}
        return await self._do(self.verbs.create(given, if_exists, note), **where)

    async def get(self, key: str | UUID, **where: Unpack[AsyncWithin]) -> RoutineDetails:
        """See `Routines.get`."""
        return await self._look(self.verbs.get(key), **where)

    async def update(
        self,
        key: str | UUID,
        *,
        note: str | None = None,
        **fields: Unpack[AsyncChanged],
    ) -> RoutineDetails:
        """See `Routines.update`."""
        said, where = parted(fields)
        return await self._do(self.verbs.update(key, said, note), **where)

    async def delete(
        self,
        key: str | UUID,
        *,
        force: bool = False,
        note: str | None = None,
        **where: Unpack[AsyncWithin],
    ) -> RoutineDetails:
        """See `Routines.delete`."""
        return await self._do(self.verbs.delete(key, force=force, note=note), **where)

    async def restore(
        self, name: str, *, note: str | None = None, **where: Unpack[AsyncWithin]
    ) -> RoutineDetails:
        """See `Routines.restore`."""
        return await self._do(self.verbs.restore(name, note), **where)

    async def enable(
        self, *names: str, note: str | None = None, **where: Unpack[AsyncWithin]
    ) -> builtins.list[str]:
        """See `Routines.enable`."""
        return await self._do(self.verbs.switch(names, active=True, note=note), **where)

    async def disable(
        self, *names: str, note: str | None = None, **where: Unpack[AsyncWithin]
    ) -> builtins.list[str]:
        """See `Routines.disable`."""
        return await self._do(self.verbs.switch(names, active=False, note=note), **where)

    async def list(
        self,
        wanted: Wanted | None = None,
        *,
        limit: int | None = None,
        after: str | None = None,
        **where: Unpack[AsyncWithin],
    ) -> builtins.list[RoutineDetails]:
        """See `Routines.list`."""
        verb = self.verbs.listed(wanted or Wanted(), limit, after)
        return await self._look(verb, **where)

    async def names(self, *names: str, **where: Unpack[AsyncWithin]) -> builtins.list[str]:
        """See `Routines.names`."""
        return await self._look(self.verbs.names(names), **where)

    async def changes(
        self, name: str | None = None, *, limit: int | None = 100, **where: Unpack[AsyncWithin]
    ) -> builtins.list[Change]:
        """See `Routines.changes`."""
        return await self._look(self.verbs.changes(name, limit), **where)

    async def plan(self, **where: Unpack[AsyncWithin]) -> Plan:
        """See `Routines.plan`."""
        return await self._look(self.verbs.plan(), **where)

    async def reset(
        self,
        name: str,
        fields: Iterable[str] = (),
        *,
        note: str | None = None,
        **where: Unpack[AsyncWithin],
    ) -> RoutineDetails:
        """See `Routines.reset`."""
        return await self._do(self.verbs.reset(name, fields, note), **where)
