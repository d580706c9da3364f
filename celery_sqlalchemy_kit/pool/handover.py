"""Jobs on their way to the threads that trace them: one by one, or, while many run, in batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from .alarms import Alarms
from .threads import Threads

#: Seconds between two batches, and what a job that is one of many may wait for at most.
INTERVAL = 0.02
#: Of more jobs at work than that each is one of many: as many, begun once an `INTERVAL`, are still
#: as many a second as Celery can take from Redis.
MANY = 8


class Handover:
    """For any thread, and for a signal's handler in the middle of any of it.

    To wake a thread for each job by itself costs about a third of all that a job costs, as main
    thread and tracer then take the interpreter's lock from each other with every message.
    """

    def __init__(self, running: Callable[[], int], alarms: Alarms) -> None:
        self._running, self._alarms = running, alarms
        self._waiting: deque[tuple[Threads, Callable[[], object]]] = deque()
        self._last = 0.0
        self._is_set = False

    def put(self, threads: Threads, call: Callable[[], object]) -> None:
        """Have *call* made by *threads*, within `INTERVAL`."""
        self._waiting.append((threads, call))
        if self._is_set:
            return
        if self._running() > MANY and time.monotonic() < self._last + INTERVAL:
            self._is_set = True
            # Not a timer of Celery's event loop, which may be held up by the broker, or by a stop.
            self._alarms.set(INTERVAL, self.deliver)
        else:
            self.deliver()

    def deliver(self) -> None:
        """Hand over what waits; at any time."""
        self._is_set, self._last = False, time.monotonic()
        with suppress(IndexError):
            while True:
                threads, call = self._waiting.popleft()
                threads.put(call)
