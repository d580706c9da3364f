"""Threads that work off one queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from celery.utils.log import get_logger

#: Seconds that a stop waits for threads which may be blocked.
STOP_SECONDS = 1.0

logger = get_logger(__name__)


class Threads:
    """Daemons: what blocks one of them does not hold up the end of the process."""

    def __init__(self, name: str, number: int) -> None:
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._is_busy = False
        self._threads = [
            threading.Thread(target=self._serve, name=name, daemon=True) for _ in range(number)
        ]

    @property
    def load(self) -> int:
        """How much there is to do, for a single thread."""
        return self._queue.qsize() + self._is_busy

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def put(self, call: Callable[[], object]) -> None:
        self._is_busy = True  # from now on, not from when the thread has woken
        self._queue.put(call)

    def stop(self) -> None:
        """End them once they have done what there is to do; what blocks one is left behind."""
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + STOP_SECONDS
        for each in self._threads:
            each.join(max(0.0, deadline - time.monotonic()))

    def _serve(self) -> None:
        while (call := self._queue.get()) is not None:
            self._is_busy = True
            try:
                call()
            except Exception:
                logger.exception("the pool goes on, although %r failed", call)
            self._is_busy = False
