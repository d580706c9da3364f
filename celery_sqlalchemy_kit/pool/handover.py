"""Jobs on their way to the threads that trace them: one by one, or, while many run, in batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .threads import Threads

#: Seconds between two batches, and what a job that is one of many may wait for at most.
INTERVAL = 0.02
#: Jobs at work beside which another one is one of many: as many, begun once an `INTERVAL`, are
#: still as many a second as Celery can take from Redis.
MANY = 8


class Handover:
    """Used on the worker's main thread.

    To wake a thread for each job by itself costs about a third of all that a job costs, as main
    thread and tracer then take the interpreter's lock from each other with every message.
    """

    def __init__(self, running: Callable[[], int]) -> None:
        self._running = running
        self._waiting: deque[tuple[Threads, Callable[[], object]]] = deque()
        self._last = 0.0
        self._is_set = False
        self._hub: Any = None

    def register(self, hub: Any) -> None:
        self._hub = hub

    def put(self, threads: Threads, call: Callable[[], object]) -> None:
        """Have *call* made by *threads*, within `INTERVAL`."""
        self._waiting.append((threads, call))
        if self._is_set:
            return
        is_one_of_many = self._running() > MANY and time.monotonic() < self._last + INTERVAL
        if self._hub is None or not is_one_of_many:
            self.deliver()
        else:
            self._is_set = True
            self._hub.call_later(INTERVAL, self.deliver)

    def deliver(self) -> None:
        """Hand over what waits; at any time."""
        self._is_set, self._last = False, time.monotonic()
        while self._waiting:
            threads, call = self._waiting.popleft()
            threads.put(call)
