"""When messages arrive in the queue of a benchmark in Redis, from where they are taken at once."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from uuid import UUID

import redis
import sqlalchemy as sa

from benchmarks import QUEUE
from benchmarks.percentiles import lateness
from benchmarks.rows import number as count
from celery_sqlalchemy_kit.tables import runs

_ID = re.compile(rb'"correlation_id": ?"([0-9a-f-]{36})"')
#: Messages that are taken in one go.
_TAKEN = 1000


class Arrivals:
    """Drains the queue for as long as it is entered."""

    def __init__(self, broker):
        self._client = redis.Redis.from_url(broker)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._drain)
        #: Of each batch that was taken: when, by this machine's clock, and its messages.
        self.batches = []
        self._number = 0

    def __enter__(self):
        self._client.delete(QUEUE)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def _drain(self):
        while not self._stopping.is_set():
            taken = self._client.blmpop(0.2, 1, QUEUE, direction="RIGHT", count=_TAKEN)
            if taken:
                self._number += len(taken[1])
                self.batches.append((time.time(), taken[1]))

    def take_all(self):
        """What is there now, without waiting for more."""
        while taken := self._client.rpop(QUEUE, _TAKEN):
            self._number += len(taken)
            self.batches.append((time.time(), taken))

    def number(self):
        """All there were."""
        return self._number

    def take_seen(self):
        """See `seen`; they are forgotten."""
        batches = [self.batches.pop(0) for _ in range(len(self.batches))]
        return _read(batches)

    def seen(self):
        """Each message: the id of its run, and when it arrived."""
        return _read(self.batches)


def _read(batches):
    return [
        (UUID(_ID.search(message)[1].decode()), at)
        for at, messages in batches
        for message in messages
    ]


def scheduled(engine, since, until, like="%"):
    """The ids of the runs of a while, with when they were scheduled for, as seconds."""
    chosen = sa.select(runs.c.id, runs.c.scheduled_for).where(
        runs.c.scheduled_for >= since,
        runs.c.scheduled_for < until,
        runs.c.routine_name.like(like),
        runs.c.state.not_in(("missed", "skipped")),
    )
    with engine.connect().execution_options(reading=True) as connection:
        return {key: instant.timestamp() for key, instant in connection.execute(chosen)}


def missed(engine):
    return count(engine, runs, runs.c.state.in_(("missed", "skipped", "lost")))


def judged(seen, due, expected):
    """Figures: how late what was *due* arrived, whether all that was *expected* did, and once.

    *seen*: pairs of id and arrival; *due*: by id, the instant.
    """
    mine = [(key, at) for key, at in seen if key in due]
    times = Counter(key for key, _ in mine)
    return {
        **lateness([at - due[key] for key, at in mine]),
        "arrived": len(times),
        "not arrived": expected - len(times),
        "arrived twice": sum(times.values()) - len(times),
    }
