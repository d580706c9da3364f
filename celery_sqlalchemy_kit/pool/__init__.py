"""A pool for Celery's worker that runs as many async tasks at once as ``-c`` says, in one process.

Celery's own tracer, which calls the hooks, stores the result, retries and sends the signals, is
run as it is. It runs in a greenlet; at the body of an `AsyncTask` the greenlet is parked, the
coroutine runs on the loop of the process, and then the greenlet goes on. So a task that waits
costs no thread, and what of the tracer blocks, blocks a tracer's thread: neither the loop nor the
worker's main thread, which talks to the broker. Tasks of other kinds run on a few threads beside.
"""

from .pool import AsyncioPool

__all__ = ["AsyncioPool"]
