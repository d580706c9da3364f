"""The queue of a benchmark in Redis: filled beforehand, and let loose in an instant.

Senders are slower than some workers, and would share their cores. So a batch is sent by its
system's own client while there is no worker, taken out of Redis as it is, and put back when a
worker waits for it.
"""

from __future__ import annotations

import contextlib
import os
import runpy
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import redis

ROOT = Path(__file__).parent.parent
#: The databases of a Redis that are emptied: for queues, and for results.
QUEUE, RESULTS = 14, 15


@contextlib.contextmanager
def server():
    """The URL of the Redis named by the environment, or of one that lives as long as this."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
    else:
        with runpy.run_path(str(ROOT / "tests" / "servers.py"))["redis"]() as url:
            yield url


class Queues:
    def __init__(self, url):
        self._url = url
        self._queue = redis.Redis.from_url(self.url(QUEUE))
        self._results = redis.Redis.from_url(self.url(RESULTS))

    def url(self, database):
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def version(self):
        return self._queue.info("server")["redis_version"]

    def empty(self):
        self._queue.flushdb()
        self._results.flushdb()

    def forget_results(self):
        self._results.flushdb()

    def take(self):
        """All that has been sent, and is no longer in Redis then."""
        batch = [(key, self._queue.dump(key)) for key in self._queue.scan_iter(count=1000)]
        self.empty()
        return batch

    def put(self, batch, system):
        """Last of all the queue itself, which is what a worker looks at."""
        ordered = sorted(batch, key=lambda item: item[0] == system.queue.encode())
        with self._queue.pipeline(transaction=False) as pipeline:
            for key, dumped in ordered:
                pipeline.restore(key, 0, dumped, replace=True)
            pipeline.execute()

    def unfinished(self, system, sent):
        """How many of *sent* have no result yet; counted by Redis without a look at them."""
        if system.name == "arq":  # a job leaves the queue with its result
            return self._queue.zcard(system.queue)
        return sent - self._results.dbsize()

    def connections(self):
        return self._queue.info("clients")["connected_clients"]

    def close(self):
        self.empty()
        self._queue.close()
        self._results.close()
