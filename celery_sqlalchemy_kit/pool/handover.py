"""Jobs on their way to the threads that trace them: one by one, or, while many run, in batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from .alarms import Alarms
from .lane import Lane
from .threads import Threads

#: Seconds between two batches, and what a job that is one of many may wait for at most.
INTERVAL = 0.02
#: Of more jobs at work than that each is one of many.
MANY = 8
#: With fewer slots each job is begun at once: where all of them wait for the end of an `INTERVAL`,
#: so many begin in it and no more, which has to be more than Celery can take from its broker.
SLOTS = 100


class Handover:
    """For any thread, and for a signal's handler in the middle of any of it.

    To wake a thread for each job by itself costs about a third of all that a job costs, as main
    thread and tracer then take the interpreter's lock from each other with every message.
    """

    def __init__(self, lane: Lane, alarms: Alarms) -> None:
        self._lane, self._alarms = lane, alarms
        self._waiting: deque[tuple[Threads, Callable[[], object]]] = deque()
        self._last = 0.0
        self._is_set = False

    def put(self, threads: Threads, call: Callable[[], object]) -> None:
        """Have *call* made by *threads*, within `INTERVAL`."""
        self._waiting.append((threads, call))
        if self._is_set:
            return
        if self._is_one_of_many() and time.monotonic() < self._last + INTERVAL:
            self._is_set = True
            # Not a timer of Celery's event loop, which may be held up by the broker, or by a stop.
            self._alarms.set(INTERVAL, self.deliver)
        else:
            self.deliver()

    def _is_one_of_many(self) -> bool:
        return len(self._lane.running) > MANY and self._lane.slots >= SLOTS

    def deliver(self) -> None:
        """Hand over what waits; at any time."""
        self._is_set, self._last = False, time.monotonic()
        with suppress(IndexError):
            while True:
                threads, call = self._waiting.popleft()
                threads.put(call)
