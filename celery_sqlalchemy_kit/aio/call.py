"""A coroutine that is called from a thread, and its outcome."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from celery._state import _task_stack
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.utils.log import get_logger
from celery.utils.threads import get_ident

from . import frames
from .loop import Loop, another_loop, open_loop
from .resources import is_on_loop

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


class Limits(NamedTuple):
    """Seconds after which a coroutine is told to end, and after which it is given up."""

    soft: float | None = None
    hard: float | None = None


NO_LIMITS = Limits()


def run(make: Callable[[], Awaitable[T]], *, task: Any = None, limits: Limits = NO_LIMITS) -> T:
    """Run what *make* returns, a coroutine, on the process's loop; wait for its outcome.

    It runs in a copy of the caller's context, where ``current_task`` and the request of *task*, a
    Celery task, are the caller's. The soft time limit, be it of *limits* or of the pool, is thrown
    into the coroutine where it awaits; one that catches it goes on, and may return. What else
    interrupts the wait cancels it and is raised once it has ended, or after `GRACE`.

    Raises:
        EscapedError: the coroutine let SystemExit, KeyboardInterrupt or CancelledError escape.
        TimeLimitExceeded: the hard one of *limits* was reached.
        RuntimeError: called on the loop itself, or where threads are green.
    """
    call = Call(make, task)
    if (park := _here.find_parking()) is not None:
        park(call)
        return call.outcome()
    if task is not None and task.request.is_eager and is_on_loop():
        return _run_beside(call)
    try:
        call.submit(call.release)
        call.wait_within(limits)
    except BaseException as interruption:
        if not call.submitted:
            raise
        call.interrupted_by(interruption)
    return call.outcome()


def _run_beside(call: Call[T]) -> T:
    """An eager task that a coroutine calls: that blocks its loop, so there has to be another."""
    with another_loop() as loop:
        call.submit_to(loop, call.release)
        call.wait()
        return call.outcome()


def park_with(find: Callable[[], Park | None]) -> None:
    """Have *find* asked, by the thread that calls `run`, whether something else may be run there
    while the coroutine does; None: no, the thread is to wait."""
    _here.find_parking = find


def ident() -> Any:
    """What Celery's stacks of tasks and of requests are keyed by.

    Within a coroutine, and in all that it starts, the call; elsewhere the thread, as ever.
    """
    token = _token.get()
    return get_ident() if token is None else token


_token: contextvars.ContextVar[object | None] = contextvars.ContextVar("async task", default=None)
_task_stack.__ident_func__ = ident
frames.spare_suspended()


class Call(Generic[T]):
    """One coroutine on its way through the loop, and its outcome."""

    def __init__(self, make: Callable[[], Awaitable[T]], task: Any) -> None:
        self._make = make
        self._task = task
        self._request = None if task is None else task.request_stack.top
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._traceback: types.TracebackType | None = None
        self._running: asyncio.Task[None] | None = None
        self._thrown: AsyncSoftTimeLimitExceeded | None = None
        # Held until the coroutine has ended. A bare lock: a signal's handler may raise within
        # `wait`, and would leave a condition half released.
        self._unfinished = threading.Lock()
        self._unfinished.acquire()
        self._has_ended = self.submitted = False

    def submit(self, ended: Callable[[], object]) -> None:
        """Begin the coroutine; *ended* is called, on the loop, once it has ended."""
        with open_loop() as loop:
            self.submit_to(loop, ended)

    def submit_to(self, loop: Loop, ended: Callable[[], object]) -> None:
        """Begin it on *loop*."""
        context = contextvars.copy_context()
        context.run(_token.set, self)
        self._tell, self._soon = ended, loop.call_soon
        self.submitted = True
        loop.call_soon(self._start, context=context)

    def wait_within(self, limits: Limits) -> None:
        """Wait until the coroutine has ended, and tell it when it has reached its soft limit.

        Raises:
            TimeLimitExceeded: it has reached the hard one, and still runs.
        """
        began = time.monotonic()
        soft, hard = limits.soft, limits.hard or math.inf
        if soft is not None and soft < hard and not self.wait(soft):
            logger.warning("%s: the soft time limit of %g s is reached", self, soft)
            self.cancel(AsyncSoftTimeLimitExceeded(soft))
        if not self.wait(began + hard - time.monotonic()):
            raise TimeLimitExceeded(hard)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the coroutine has ended, within *seconds* if they are given."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        # In the main thread a signal that comes just before a wait does not end it: its handler
        # runs after.
        in_main = threading.current_thread() is threading.main_thread()
        longest = SIGNAL_LIMIT if in_main else threading.TIMEOUT_MAX
        while not self._has_ended and (left := until - time.monotonic()) > 0:
            self._unfinished.acquire(timeout=min(left, longest))
        return self._has_ended

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
            # Another coroutine may have met the same error since, and go on: its frames are not
            # for Celery, which clears those that it finds in a traceback.
            raise error.with_traceback(self._traceback)
        finally:
            self._traceback = None
            del error  # else its traceback and this frame would keep each other

    @property
    def unmet(self) -> AsyncSoftTimeLimitExceeded | None:
        """The soft time limit, if that came when the coroutine had ended."""
        return self._thrown

    def release(self) -> None:
        """End `wait`."""
        self._unfinished.release()

    def cancel(self, thrown: AsyncSoftTimeLimitExceeded | None = None) -> None:
        """Cancel the coroutine, by *thrown* if that is given."""
        if thrown is not None:
            self._thrown = thrown
        self._soon(self._cancel)

    def give_up(self) -> None:
        """Say that nobody waits any longer for the coroutine, which was cancelled."""
        logger.warning("%s: its coroutine still runs %g s after it was cancelled", self, GRACE)

    def interrupted_by(self, interruption: BaseException) -> None:
        """Cancel the coroutine, and raise *interruption*; the soft time limit it may survive."""
        if isinstance(interruption, SoftTimeLimitExceeded):
            try:
                self.cancel(AsyncSoftTimeLimitExceeded(*interruption.args))
                self.wait()
            except BaseException as another:  # noqa: BLE001  a signal may strike once more
                interruption = another
            else:
                return
        self.cancel()
        if not self.wait(GRACE):
            self.give_up()
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
        elif not self._has_ended:  # interrupted just before it was begun
            self._end(unbegun=True)

    async def _drive(self) -> None:
        if self._request is not None:
            _task_stack.push(self._task)
            self._task.request_stack.push(self._request)
        try:
            self._value.append(await _interruptible(_coroutine(self._make()), self))
        except BaseException as error:  # noqa: BLE001  none but the caller may meet SystemExit
            self._error, self._traceback = error, error.__traceback__
        finally:
            if self._request is not None:
                self._task.request_stack.pop()
                _task_stack.pop()

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._end(unbegun=running.cancelled())  # before its first step

    def _end(self, *, unbegun: bool) -> None:
        if unbegun:
            self._error = self._thrown or asyncio.CancelledError()
        # Dropped, as both lead back here: what is in no circle is freed at once.
        tell, self._running, self._has_ended = self._tell, None, True
        del self._tell
        tell()


async def _coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


#: Runs a call, and returns once it has ended, or raises what the caller is to be stopped by.
Park = Callable[[Call[Any]], None]


class _Here:
    def __init__(self) -> None:
        self.find_parking: Callable[[], Park | None] = lambda: None


_here = _Here()


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
