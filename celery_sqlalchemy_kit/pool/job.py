"""One message that the worker has handed to its pool."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import WorkerLostError
from celery.utils.functional import noop
from celery.utils.log import get_logger

from ..history import Stopped
from .threads import Threads

logger = get_logger(__name__)


class Job:
    """A task on its way through the pool; what Celery calls the result of ``apply_async``.

    Begun on the worker's main thread, traced on one of *threads*; what it has to tell the worker
    goes through *tell*, and *ended* comes last.
    """

    is_terminated = False

    def __init__(
        self,
        trace: Callable[[], Any],
        threads: Threads,
        tell: Callable[[Callable[[], object]], None],
        ended: Callable[[Job], None],
        callback: Callable[[Any], object] = noop,
        error_callback: Callable[[ExceptionInfo], object] = noop,
        accept_callback: Callable[[int, float], object] = noop,
        **_: Any,
    ) -> None:
        self._trace, self._threads, self._tell, self._ended = trace, threads, tell, ended
        self._on_success, self._on_error = callback, error_callback
        self._on_accepted = accept_callback

    def __str__(self) -> str:
        request = self._request
        return f"{request.name}[{request.id}]" if request is not None else repr(self._trace)

    @property
    def _request(self) -> Any:
        return getattr(self._on_accepted, "__self__", None)

    def is_revoked(self) -> bool:
        """Whether it was revoked, or has expired, while it waited; Celery then says so.

        The worker asks before it hands a message over, which may have been long ago.
        """
        request = self._request
        return request is not None and bool(request.revoked())

    def begin(self) -> None:
        """Accept it: the worker acknowledges its message now, unless that is to be late."""
        try:
            self._on_accepted(os.getpid(), time.monotonic())
        finally:
            self._start()

    def _start(self) -> None:
        self._threads.put(self.run)

    def terminate(self, signum: int | None = None) -> None:
        """What runs in a thread cannot be stopped; nor does a worker that stops wait for it."""
        if not self.is_terminated:
            self.is_terminated = True
            logger.warning("%s: goes on, as it runs in a thread, which cannot be ended", self)

    def run(self) -> None:
        """Trace the task, and tell the worker how it ended."""
        self._tell(partial(self._end, self._outcome()))

    def _outcome(self) -> Callable[[], object]:
        try:
            return partial(self._on_success, self._trace())
        except Stopped:
            return nothing
        except BaseException as error:  # noqa: BLE001  in other pools it would end the process
            return partial(self._on_error, _told(error))

    def _end(self, outcome: Callable[[], object]) -> None:
        try:
            outcome()
        finally:
            self._ended(self)


def nothing() -> None:
    """What the worker is told of a job that was stopped: whatever stopped it has told the rest."""


def _told(error: BaseException) -> ExceptionInfo:
    if not isinstance(error, Exception):
        error = WorkerLostError(repr(error)).with_traceback(error.__traceback__)
    return ExceptionInfo((type(error), error, error.__traceback__))
