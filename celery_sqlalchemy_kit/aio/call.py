"""A coroutine that is called from a thread, and its outcome."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from celery._state import _task_stack
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_logger
from celery.utils.threads import get_ident

from .loop import open_loop

#: Seconds that a coroutine has after it was cancelled, before its task is given up.
GRACE = 5.0
#: Seconds within which a signal, such as that of the soft time limit, is noticed.
SIGNAL_LIMIT = 1.0

logger = get_logger(__name__)
T = TypeVar("T")


class EscapedError(RuntimeError):
    """A coroutine was ended by what is no ordinary exception, such as SystemExit.

    Let through, it would end the loop, with every other task on it.
    """


class AsyncSoftTimeLimitExceeded(SoftTimeLimitExceeded, asyncio.CancelledError):  # type: ignore[misc]
    """The soft time limit as a coroutine meets it, where it awaits.

    ``except SoftTimeLimitExceeded`` catches it; what knows of cancellation, such as a TaskGroup
    or a database driver, takes it for the cancellation that it is.
    """


def run(make: Callable[[], Awaitable[T]], *, task: Any = None) -> T:
    """Run what *make* returns, a coroutine, on the process's loop; wait for its outcome.

    It runs in a copy of the caller's context, where ``current_task`` and the request of *task*, a
    Celery task, are the caller's. What interrupts the wait cancels the coroutine and is raised
    once that has ended, or after `GRACE`. One that catches the soft time limit may still return.

    Raises:
        EscapedError: the coroutine let SystemExit, KeyboardInterrupt or CancelledError escape.
        RuntimeError: called on the loop itself, or where threads are green.
    """
    call = Call(make, task)
    try:
        call.submit()
        call.wait()
    except BaseException as interruption:
        if not call.submitted:
            raise
        return call.interrupted_by(interruption)
    return call.outcome()


def ident() -> Any:
    """What Celery's stacks of tasks and of requests are keyed by.

    Within a coroutine, and in all that it starts, the call; elsewhere the thread, as ever.
    """
    token = _token.get()
    return get_ident() if token is None else token


_token: contextvars.ContextVar[object | None] = contextvars.ContextVar("async task", default=None)
_task_stack.__ident_func__ = ident


class Call(Generic[T]):
    """One coroutine on its way through the loop, and its outcome."""

    def __init__(self, make: Callable[[], Awaitable[T]], task: Any) -> None:
        self._make = make
        self._task = task
        self._request = None if task is None else task.request_stack.top
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._running: asyncio.Task[None] | None = None
        self._thrown: BaseException | None = None
        # Held until the coroutine has ended. A bare lock: a signal's handler may raise within
        # `wait`, and would leave a condition half released.
        self._unfinished = threading.Lock()
        self._unfinished.acquire()
        self.submitted = False

    def submit(self) -> None:
        context = contextvars.copy_context()
        context.run(_token.set, self)
        with open_loop() as loop:
            self._soon = loop.call_soon
            self.submitted = True
            loop.call_soon(self._start, context=context)

    def wait(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # A signal that comes just before the wait does not end it: its handler runs after.
            while not self._unfinished.acquire(timeout=SIGNAL_LIMIT):
                pass
        else:
            self._unfinished.acquire()

    def outcome(self) -> T:
        """What the coroutine returned or raised; never a matter of how the waiting went."""
        error, self._error = self._error, None
        try:
            if error is None:
                return self._value.pop()
            if isinstance(error, AsyncSoftTimeLimitExceeded):
                raise SoftTimeLimitExceeded(*error.args) from error
            if not isinstance(error, Exception):
                raise EscapedError(f"the coroutine was ended by {error!r}") from error
            raise error
        finally:
            del error  # else its traceback and this frame would keep each other

    def interrupted_by(self, interruption: BaseException) -> T:
        soft = isinstance(interruption, SoftTimeLimitExceeded)
        if soft:
            self._thrown = AsyncSoftTimeLimitExceeded(*interruption.args)
        self._soon(self._cancel)
        ended = self._unfinished.acquire(timeout=GRACE)
        if soft and ended:
            return self.outcome()
        if not ended:
            logger.warning("%s: its coroutine still runs %g s after it was cancelled", self, GRACE)
        raise interruption

    def in_place_of(self, cancelled: asyncio.CancelledError) -> BaseException:
        """What the coroutine meets instead: once the soft time limit, if that cancelled it."""
        thrown, self._thrown = self._thrown, None
        if thrown is None:
            return cancelled
        uncancel = getattr(self._running, "uncancel", None)
        if uncancel is not None:  # since Python 3.11
            uncancel()
        return thrown

    def __str__(self) -> str:
        return f"{self._task.name}[{self._request.id}]" if self._request else repr(self._make)

    # The rest is called on the loop.

    def _start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self._drive())
        self._running.add_done_callback(self._ended)

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _drive(self) -> None:
        if self._request is not None:
            _task_stack.push(self._task)
            self._task.request_stack.push(self._request)
        try:
            self._value.append(await _interruptible(_coroutine(self._make()), self))
        except BaseException as error:  # noqa: BLE001  none but the caller may meet SystemExit
            self._error = error
        finally:
            if self._request is not None:
                self._task.request_stack.pop()
                _task_stack.pop()

    def _ended(self, running: asyncio.Task[None]) -> None:
        if running.cancelled():  # before its first step
            self._error = self._thrown or asyncio.CancelledError()
        self._unfinished.release()


async def _coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


@types.coroutine
def _interruptible(coroutine: Coroutine[Any, Any, T], call: Call[T]) -> Generator[Any, Any, T]:
    """Await *coroutine*, and throw into it what *call* says in place of a CancelledError."""
    step: Callable[[], Any] = partial(coroutine.send, None)
    while True:
        try:
            waiting_for = step()
        except StopIteration as returned:
            result: T = returned.value
            return result
        try:
            step = partial(coroutine.send, (yield waiting_for))
        except asyncio.CancelledError as cancelled:
            step = partial(coroutine.throw, call.in_place_of(cancelled))
        except BaseException as error:  # noqa: BLE001  all of it belongs to the coroutine
            step = partial(coroutine.throw, error)
