"""The event loop of a process, on a thread of its own: begun when first needed, after a fork."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import signals
from celery.utils.log import get_logger
from kombu.utils.compat import detect_environment

#: Seconds that closing the loop waits for what it has cancelled, and again for the rest.
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
                "worker with --pool prefork, threads or solo"
            )
        self._loop = asyncio.new_event_loop()
        self._closing = False
        self.thread = threading.Thread(target=self._serve, name="async tasks", daemon=True)
        self.thread.start()

    def call_soon(
        self, callback: Callable[[], object], context: contextvars.Context | None = None
    ) -> None:
        self._loop.call_soon_threadsafe(callback, context=context)

    def close(self) -> None:
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.thread.join(2 * CLOSE_LIMIT)
        if self.thread.is_alive():
            logger.warning("the loop of the async tasks is blocked, and is left behind")

    def _serve(self) -> None:
        while not self._closing:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # Raised in a task that a coroutine had started, which asyncio lets through.
                logger.exception("the loop of the async tasks goes on")
        try:
            self._loop.run_until_complete(self._wind_up())
        finally:
            self._loop.close()

    async def _wind_up(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLOSE_LIMIT)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


class _Here:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loop: Loop | None = None
        self._inherited: list[Loop | None] = []

    def get_loop(self) -> Loop:
        if self.loop is None:
            self.loop = Loop()
        if self.loop.thread is threading.current_thread():
            raise RuntimeError(
                "an async task was called from a coroutine as if it were a function, which would "
                "block the loop that it needs: await its execute(), or send it with delay()"
            )
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
