"""The transaction that a verb runs in: the caller's, or one of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from celery import Celery
from sqlalchemy.engine import Connection, Engine

from ..store.transactions import lock_for_writing, look, transact
from .verbs import Verb, Verbs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from typing_extensions import Unpack

    from .fields import Within

T = TypeVar("T")


class Transacting:
    """What `Routines` carries out its verbs with."""

    def __init__(self, app: Celery, *, who: str | None = None) -> None:
        #: What they do, and with which settings.
        self.verbs = Verbs(app, who)

    def _do(self, verb: Verb[T], **where: Unpack[Within]) -> T:
        return self._within(transact, verb, **where)

    def _look(self, verb: Verb[T], **where: Unpack[Within]) -> T:
        """The same of a verb that writes nothing."""
        return self._within(look, verb, **where)

    def _within(
        self,
        alone: Callable[[Engine, Verb[T]], T],
        verb: Verb[T],
        *,
        session: Session | None = None,
        connection: Connection | None = None,
    ) -> T:
        if session is not None and connection is not None:
            raise TypeError("session and connection exclude each other")
        given = session if connection is None else connection
        if given is None:
            return alone(self.verbs.engine(), verb)
        if "Async" in type(given).__name__:
            raise TypeError(f"{type(given).__name__} is asynchronous: AsyncRoutines takes it")
        return within(connection_of(given), alone, verb)


def within(connection: Connection, alone: Callable[[Engine, Verb[T]], T], verb: Verb[T]) -> T:
    """Carry *verb* out in the caller's transaction; *alone* would do so in one of its own."""
    if alone is transact:
        lock_for_writing(connection)
    return verb(connection)


def connection_of(given: Session | Connection) -> Connection:
    """A session's connection: that of the transaction which it has begun, or begins now."""
    return given if isinstance(given, Connection) else given.connection()
