"""What lives as long as the event loop: opened on it at first use, closed on it at its end."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar, cast, overload
from weakref import WeakSet

from celery.utils.log import get_logger

from ..errors import DeclarationError

logger = get_logger(__name__)
T = TypeVar("T")


class Resource(Generic[T]):
    """One object for all async tasks of a process: see `resource`."""

    def __init__(self, name: str, enter: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self.name = name
        self.enter = enter

    def __call__(self) -> Awaitable[T]:
        """The object; to be awaited, and opened if it is not open.

        Raises:
            RuntimeError: called elsewhere than in a coroutine of an async task.
        """
        return cast(Awaitable[T], here(self.name).use(self))

    def __repr__(self) -> str:
        return f"<resource {self.name}>"


@overload
def resource(function: Callable[[], AbstractAsyncContextManager[T]]) -> Resource[T]: ...
@overload
def resource(function: Callable[[], AsyncIterator[T]]) -> Resource[T]: ...
def resource(function: Callable[[], Any]) -> Resource[Any]:
    """Make one object for all async tasks of a process, such as a client or a pool.

    *function* is an async generator function that yields it once, or what returns an async context
    manager when it is called without arguments, such as ``httpx.AsyncClient``. In coroutines,
    ``await`` on a call of what takes its place gives the object::

        @resource
        async def http():
            async with httpx.AsyncClient() as client:
                yield client

        client = await http()

    It is opened at first use, once, while others wait; a failure is raised in all of them, and the
    next use tries again. It is closed when the loop ends, the last one opened first, after every
    task has ended. Opening and closing happen in one asyncio task of its own, so that a task that
    is cancelled leaves nothing half open.

    Raises:
        DeclarationError: *function* is neither, or has parameters.
    """
    name = getattr(function, "__qualname__", None) or repr(function)
    if inspect.iscoroutinefunction(function):
        raise DeclarationError(f"resource {name!r}: it has to yield the object, not to return it")
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise DeclarationError(f"resource {name!r}: it is called without arguments") from None
    except ValueError:
        pass  # written in C: nothing is known of its parameters
    generates = inspect.isasyncgenfunction(function)
    return Resource(name, asynccontextmanager(function) if generates else function)


class Resources:
    """Those that one loop keeps. Used on its thread only, which this makes itself known to."""

    def __init__(self) -> None:
        self._kept: dict[Resource[Any], _Kept] = {}
        self._in_order: list[_Kept] = []
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._closing = False
        _local.resources = self

    def __len__(self) -> int:
        return len(self._in_order)

    def make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """The loop's task factory: it tells what resources have started from what tasks have."""
        task = asyncio.Task(coroutine, loop=loop, **options)
        if _opening.get():
            self._tasks.add(task)
        return task

    def keeps(self, task: asyncio.Task[Any]) -> bool:
        """Whether a resource is kept by *task*, or has started it."""
        return task in self._tasks

    async def use(self, wanted: Resource[Any]) -> Any:
        kept = self._kept.get(wanted) or self._open(wanted)
        if not kept.opened.done():
            if wanted in (chain := _opening.get()):
                told = " → ".join(each.name for each in (*chain, wanted))
                raise RuntimeError(f"resources need each other: {told}")
            await asyncio.wait([kept.opened])  # which a cancellation does not pass on
        return kept.opened.result()

    def _open(self, wanted: Resource[Any]) -> _Kept:
        if self._closing:
            raise RuntimeError(f"{wanted.name} is not opened any more, as the loop is ending")
        kept = self._kept[wanted] = _Kept(wanted)
        # Nothing of the context of the task that happens to be the first.
        context = contextvars.Context()
        context.run(_opening.set, (*_opening.get(), wanted))
        kept.keeper = context.run(asyncio.ensure_future, self._keep(kept))
        return kept

    async def _keep(self, kept: _Kept) -> None:
        try:
            async with kept.resource.enter() as value:
                self._in_order.append(kept)
                kept.opened.set_result(value)
                await kept.closing.wait()
        except BaseException as error:  # noqa: BLE001  for whoever waits, or for the log
            self._forget(kept)
            kept.failed(error)
        else:
            self._forget(kept)

    def _forget(self, kept: _Kept) -> None:
        self._kept.pop(kept.resource, None)
        if kept in self._in_order:
            self._in_order.remove(kept)

    async def close(self, limit: float) -> None:
        """Close all, the last one opened first; none for longer than *limit* seconds."""
        self._closing = True
        half_open = [kept.keeper for kept in self._kept.values() if not kept.opened.done()]
        for keeper in half_open:
            keeper.cancel()
        if half_open:
            await asyncio.wait(half_open, timeout=limit)
        for kept in self._in_order[::-1]:
            kept.closing.set()
            await asyncio.wait([kept.keeper], timeout=limit)
            if not kept.keeper.done():
                logger.warning("%s is not closed after %g s: it is cancelled", kept, limit)
                kept.keeper.cancel()


class _Kept:
    """A resource that is being opened, is open, or is being closed."""

    keeper: asyncio.Future[None]

    def __init__(self, kept: Resource[Any]) -> None:
        self.resource = kept
        self.opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.closing = asyncio.Event()

    def failed(self, error: BaseException) -> None:
        if not self.opened.done():
            self._was_not_opened(error)
        elif not self.closing.is_set():
            logger.error("%s has ended, and is opened anew when used: %r", self, error)
        elif not isinstance(error, asyncio.CancelledError):
            logger.error("%s could not be closed", self, exc_info=error)

    def _was_not_opened(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.opened.cancel()
        elif isinstance(error, Exception):
            self.opened.set_exception(error)
        else:
            escaped = RuntimeError(f"the opening of {self} was ended by {error!r}")
            escaped.__cause__ = error
            self.opened.set_exception(escaped)

    def __str__(self) -> str:
        return f"resource {self.resource.name}"


def here(name: str) -> Resources:
    """The resources of the loop that this code runs on, for *name*.

    Raises:
        RuntimeError: it runs on no loop of async tasks.
    """
    resources: Resources | None = getattr(_local, "resources", None)
    if resources is None:
        raise RuntimeError(f"{name} is for the coroutines of async tasks, and this is none")
    return resources


def is_on_loop() -> bool:
    """Whether this code runs on a loop of async tasks."""
    return getattr(_local, "resources", None) is not None


_local = threading.local()
#: In what opens a resource, and in all that it starts: that resource, after those that need it.
_opening: contextvars.ContextVar[tuple[Resource[Any], ...]] = contextvars.ContextVar(
    "resources", default=()
)
