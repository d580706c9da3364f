"""One event loop for the async tasks of a process; it lives as long as the process does.

`asyncio.run` for each task would tear down with its loop whatever was opened on it: pools of
connections, HTTP clients. Here the loop runs on a thread of its own, and the thread on which
Celery runs the task waits.
"""

from .call import (
    GRACE,
    NO_LIMITS,
    AsyncSoftTimeLimitExceeded,
    Call,
    EscapedError,
    Limits,
    Park,
    ident,
    park_with,
    run,
)
from .loop import close
from .pauses import pause

__all__ = [
    "GRACE",
    "NO_LIMITS",
    "AsyncSoftTimeLimitExceeded",
    "Call",
    "EscapedError",
    "Limits",
    "Park",
    "close",
    "ident",
    "park_with",
    "pause",
    "run",
]
