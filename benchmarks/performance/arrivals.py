"""Messages as they reach the broker: taken out of their queues at once, and stamped.

Redis 7 or newer.
"""

from __future__ import annotations

import ast
import json
import threading
import time
from dataclasses import dataclass

import redis

#: Seconds between two batches: no arrival is stamped later than this, by much.
INTERVAL = 0.001
AT_A_TIME = 1000
#: Seconds that Redis is waited for at a time, so that the end is heard of.
WAIT = 0.2


@dataclass(frozen=True)
class Arrival:
    queue: str
    #: Seconds since the epoch.
    at: float
    #: Which routine of its batch.
    number: int


class Arrivals:
    """Takes messages out of *queues* from beginning to end of a ``with``."""

    def __init__(self, broker, *queues):
        self._redis = redis.Redis.from_url(broker)
        self._queues = queues
        self._taken = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._redis.close()

    def all(self):
        """Those of now, in their order."""
        return [Arrival(queue, at, number(text)) for queue, at, text in list(self._taken)]

    def first(self, queue, timeout, *, check):
        """The first in *queue*; None if there is none within *timeout* seconds.

        *check* is called now and then, and may raise.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for name, at, text in list(self._taken):
                if name == queue:
                    return Arrival(name, at, number(text))
            check()
            time.sleep(WAIT / 20)
        return None

    def _take(self):
        while not self._over.is_set():
            found = self._redis.blmpop(
                WAIT, len(self._queues), *self._queues, direction="RIGHT", count=AT_A_TIME
            )
            if found:
                at = time.time()
                queue, texts = found
                self._taken.extend((queue.decode(), at, text) for text in texts)
                time.sleep(INTERVAL)


def number(text):
    """The argument of a message, which is the number of its routine."""
    return ast.literal_eval(json.loads(text)["headers"]["argsrepr"])[0]
