"""The transaction that a verb runs in, for coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from celery import Celery
from sqlalchemy.engine import Engine

from ..store.transactions import look, transact
from .transacting import connection_of, within
from .verbs import Verb, Verbs

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from typing_extensions import Unpack

    from .fields import AsyncWithin

T = TypeVar("T")


class AsyncTransacting:
    """What `AsyncRoutines` carries out its verbs with."""

    def __init__(self, app: Celery, *, who: str | None = None) -> None:
        #: What they do, and with which settings.
        self.verbs = Verbs(app, who)

    async def _do(self, verb: Verb[T], **where: Unpack[AsyncWithin]) -> T:
        return await self._within(transact, verb, **where)

    async def _look(self, verb: Verb[T], **where: Unpack[AsyncWithin]) -> T:
        """The same of a verb that writes nothing."""
        return await self._within(look, verb, **where)

    async def _within(
        self,
        alone: Callable[[Engine, Verb[T]], T],
        verb: Verb[T],
        *,
        session: AsyncSession | None = None,
        connection: AsyncConnection | None = None,
    ) -> T:
        if session is not None and connection is not None:
            raise TypeError("session and connection exclude each other")
        given = connection if session is None else session
        if given is None:
            return await asyncio.to_thread(alone, self.verbs.engine(), verb)
        if not hasattr(given, "run_sync"):
            raise TypeError(f"{type(given).__name__} is synchronous: Routines takes it")
        done: T = await given.run_sync(lambda inner: within(connection_of(inner), alone, verb))
        return done
