"""The event loop of a process, on a thread of its own: begun when first needed, after a fork."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as executors
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import signals
from celery._state import get_current_task
from celery.utils.log import get_logger
from kombu.utils.compat import detect_environment

from ..config import Settings
from .resources import Resources, is_on_loop

#: Seconds that closing the loop waits for what it has cancelled, for each resource, for threads.
CLOSE_LIMIT = 5.0

logger = get_logger(__name__)


@contextmanager
def open_loop() -> Iterator[Loop]:
    """The loop of this process, which is not closed before the context ends.

    Raises:
        RuntimeError: called on the loop itself, or where threads are green.
    """
    with _here.lock:
        yield _here.get_loop()


@contextmanager
def another_loop() -> Iterator[Loop]:
    """A loop beside the one that this code runs on, and holds up until the context ends."""
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()


def close() -> None:
    """Cancel what still runs and end the loop of this process; a later task starts another."""
    with _here.lock:
        loop, _here.loop = _here.loop, None
    if loop is not None:
        loop.close()


class Loop:
    """A running loop, with its thread."""

    def __init__(self) -> None:
        environment: str = detect_environment()  # type: ignore[no-untyped-call]
        if environment != "default":
            raise RuntimeError(
                f"async tasks need real threads, and here they are {environment}'s; start the "
                "worker with --pool prefork, threads, solo or routines-asyncio"
            )
        self._loop = _make_loop(get_current_task())
        self._executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
        self._loop.set_default_executor(self._executor)
        self._posted: deque[tuple[Callable[[], object], contextvars.Context | None]] = deque()
        self._is_woken = False
        self._resources = 0
        self._closing = False
        self._ending = threading.Event()
        self.thread = threading.Thread(target=self._serve, name="async tasks", daemon=True)
        try:
            self.thread.start()
        except BaseException:  # a soft time limit's signal, say: nobody would know of this loop
            self._closing = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    def call_soon(
        self, callback: Callable[[], object], context: contextvars.Context | None = None
    ) -> None:
        """Have *callback* called on the loop, in the order of the calls of this."""
        self._posted.append((callback, context))
        # One wake-up does for all that is posted before the loop heeds it.
        if threading.current_thread() is threading.main_thread():
            # Where a signal's handler may raise at any point: no other thread relies on this one.
            self._loop.call_soon_threadsafe(self._take_posted)
        elif not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._take_posted)

    def _take_posted(self) -> None:
        self._is_woken = False
        while self._posted:
            callback, context = self._posted.popleft()
            self._loop.call_soon(callback, context=context)

    def close(self) -> None:
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._ending.wait(2 * CLOSE_LIMIT):
            self.thread.join(CLOSE_LIMIT * (5 + self._resources))
        if self.thread.is_alive():
            logger.warning("the loop of the async tasks is blocked, and is left behind")

    def _serve(self) -> None:
        resources = Resources()
        self._loop.set_task_factory(resources.make_task)
        while not self._closing:
            self._go_on(self._loop.run_forever)
        self._resources = len(resources)
        self._ending.set()
        try:
            end = self._loop.create_task(self._wind_up(resources))
            while not end.done():
                self._go_on(partial(self._loop.run_until_complete, end))
            self._end_threads()
        finally:
            self._loop.close()

    def _go_on(self, run: Callable[[], object]) -> None:
        try:
            run()
        except (SystemExit, KeyboardInterrupt):
            # Raised in a task that a coroutine had started, which asyncio lets through.
            logger.exception("the loop of the async tasks goes on")

    async def _wind_up(self, resources: Resources) -> None:
        await _cancel({task for task in asyncio.all_tasks() if not resources.keeps(task)})
        await resources.close(CLOSE_LIMIT)
        await _cancel(asyncio.all_tasks())
        generators = asyncio.ensure_future(self._loop.shutdown_asyncgens())
        await asyncio.wait([generators], timeout=CLOSE_LIMIT)

    def _end_threads(self) -> None:
        """Those of ``asyncio.to_thread``. One that is blocked is left to end with the process."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        ending = threading.Thread(target=self._executor.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_LIMIT)
        if ending.is_alive():
            logger.warning("a thread that an async task has started is blocked, and is left behind")
            # They are daemons, but Python waits for those of executors all the same.
            waited_for = getattr(executors, "_threads_queues", {})
            for blocked in getattr(self._executor, "_threads", ()):
                waited_for.pop(blocked, None)


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    tasks -= {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_LIMIT)


def _make_loop(task: Any) -> asyncio.AbstractEventLoop:
    """uvloop's, if the app of *task* asks for it and it is installed."""
    if task is not None and Settings.load(task.app.conf, scheduler=False).worker_async_uvloop:
        try:
            import uvloop
        except ImportError:
            logger.warning("worker_async_uvloop is set, but uvloop is not installed: asyncio's own")
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


class _Here:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loop: Loop | None = None
        self._inherited: list[Loop | None] = []

    def get_loop(self) -> Loop:
        if is_on_loop():
            raise RuntimeError(
                "an async task was called from a coroutine as if it were a function, which would "
                "block the loop that it needs: await its execute(), or send it with delay()"
            )
        if self.loop is None:
            self.loop = Loop()
        return self.loop

    def after_fork(self) -> None:
        """The parent's loop is kept in the child, unused: once collected, it would take the
        parent's registrations out of the selector that both share."""
        self._inherited.append(self.loop)
        self.lock, self.loop = threading.Lock(), None


_here = _Here()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_here.after_fork)


def _on_shutdown(**_: Any) -> None:
    close()


signals.worker_process_shutdown.connect(_on_shutdown, weak=False, dispatch_uid=__name__)
signals.worker_shutdown.connect(_on_shutdown, weak=False, dispatch_uid=__name__)
