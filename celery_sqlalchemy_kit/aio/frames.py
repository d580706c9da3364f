"""The frames of an error, which Celery clears once it has stored the error."""

from __future__ import annotations

import contextlib
import inspect
import sys
import traceback

from celery.app import trace

_SUSPENDABLE = (
    inspect.CO_COROUTINE
    | inspect.CO_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


def spare_suspended() -> None:
    """Have Celery leave alone the frames that may be those of coroutines which go on.

    Before 3.13 Python closes a coroutine whose frame is cleared; and an error that a driver's own
    task hands to whoever waits, or that several tasks wait for, has passed frames of others.
    """
    if sys.version_info < (3, 13) and hasattr(trace, "traceback_clear"):
        trace.traceback_clear = _clear


def _clear(error: BaseException | None = None) -> None:
    frames = getattr(error, "__traceback__", None) or sys.exc_info()[2]
    for frame, _ in traceback.walk_tb(frames):
        if not frame.f_code.co_flags & _SUSPENDABLE:
            with contextlib.suppress(RuntimeError):  # it runs
                frame.clear()
