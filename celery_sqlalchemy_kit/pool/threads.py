"""Threads that work off one queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from celery.utils.log import get_logger

#: Seconds that a stop waits for threads which may be blocked.
STOP_SECONDS = 1.0
#: Seconds after which a call that goes on is taken for blocked.
HELD_UP_SECONDS = 0.05

logger = get_logger(__name__)


class Threads:
    """Daemons: what blocks one of them does not hold up the end of the process."""

    def __init__(self, name: str, number: int) -> None:
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        #: When the present call began.
        self._busy_since: float | None = None
        self._threads = [
            threading.Thread(target=self._serve, name=name, daemon=True) for _ in range(number)
        ]

    @property
    def load(self) -> int:
        """How much there is to do, for a single thread."""
        return self._queue.qsize() + (self._busy_since is not None)

    @property
    def held_up(self) -> float:
        """For how many seconds the present call has been blocked, for a single thread."""
        since = self._busy_since
        return 0.0 if since is None else max(0.0, time.monotonic() - since - HELD_UP_SECONDS)

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def put(self, call: Callable[[], object]) -> None:
        if self._busy_since is None:  # from now on, not from when the thread has woken
            self._busy_since = time.monotonic()
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
            self._busy_since = time.monotonic()
            try:
                call()
            except Exception:
                logger.exception("the pool goes on, although %r failed", call)
            self._busy_since = None
