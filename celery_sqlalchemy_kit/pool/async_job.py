"""An async task in the pool: traced in a greenlet, which is parked while its coroutine runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.functional import noop
from greenlet import getcurrent, greenlet

from .. import aio
from ..history import Stopped
from .alarms import Alarm, Alarms
from .job import Job, nothing
from .threads import Threads


class AsyncJob(Job):
    """Its time limits, and what else ends it early, hold for its coroutine.

    Reached while the tracer is at work, they take effect where it next runs a coroutine, if it
    does: what stores a result is not interrupted.
    """

    def __init__(
        self,
        *args: Any,
        alarms: Alarms,
        hand_over: Callable[[Threads, Callable[[], object]], None],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        timeout_callback: Callable[[bool, float | None], object] = noop,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._soft, self._hard, self._on_timeout = soft_timeout, timeout, timeout_callback
        self._alarms, self._hand_over = alarms, hand_over
        self._alarms_set: list[Alarm] = []
        #: Whoever holds it decides how the coroutine ends. Reentrant: a signal's handler may
        #: terminate the job that it has interrupted the worker in.
        self._deciding = threading.RLock()
        self._soft_reached = self._hard_reached = False
        #: The coroutine that the greenlet is parked for, and what wakes the greenlet.
        self._call: aio.Call[Any] | None = None
        self._wake: Callable[[], None] = nothing

    def _start(self) -> None:
        limits = (self._soft, self._on_soft_limit), (self._hard, self._on_hard_limit)
        for seconds, reached in limits:
            if seconds:
                self._alarms_set.append(self._alarms.set(seconds, reached))
        self._hand_over(self._threads, self._trace_in_greenlet)

    def _trace_in_greenlet(self) -> None:
        traced = greenlet(self.run)
        traced.park = self.park
        traced.switch()

    def _outcome(self) -> Callable[[], object]:
        try:
            return nothing if self.is_terminated else super()._outcome()
        finally:
            while self._alarms_set:
                self._alarms.drop(self._alarms_set.pop())

    def park(self, call: aio.Call[Any]) -> None:
        """Run *call*, and let the thread go on with other greenlets until it has ended.

        Raises:
            SoftTimeLimitExceeded: the limit had been reached before.
            Stopped: the job was terminated, or has reached its hard time limit.
        """
        parked = getcurrent()
        with self._deciding:
            if self._hard_reached:
                self._time_out()
            self._go_on()
            if self._soft_reached:
                raise self._soft_limit(SoftTimeLimitExceeded)
            # A second time, it does nothing: a greenlet that was woken is never parked again once
            # its job was terminated.
            self._wake = partial(self._threads.put, parked.switch)
            call.submit(self._wake)
            self._call = call
        parked.parent.switch()
        with self._deciding:
            self._call, self._wake = None, nothing
            self._go_on()

    def _go_on(self) -> None:
        if self.is_terminated:
            raise Stopped

    def terminate(self, signum: int | None = None) -> None:
        """Cancel the coroutine, and trace no further; whoever calls it tells the worker."""
        with self._deciding:
            if self.is_terminated:
                return
            self.is_terminated = True
            if self._call is not None:
                self._call.cancel()
                self._alarms_set.append(self._alarms.set(aio.GRACE, self._give_up))

    def _give_up(self) -> None:
        with self._deciding:
            if self._call is not None:
                self._call.give_up()
                self._wake()

    def _on_soft_limit(self) -> None:
        with self._deciding:
            self._soft_reached = True
            if self._call is not None and not self.is_terminated:
                self._call.cancel(self._soft_limit(aio.AsyncSoftTimeLimitExceeded))

    def _soft_limit(self, kind: type[SoftTimeLimitExceeded]) -> Any:
        self._soft_reached = False
        self._tell(partial(self._on_timeout, True, self._soft))  # noqa: FBT003  Celery's
        return kind(self._soft)

    def _on_hard_limit(self) -> None:
        with self._deciding:
            self._hard_reached = True
            if self._call is not None:
                self._time_out()

    def _time_out(self) -> None:
        if not self.is_terminated:
            self._tell(partial(self._on_timeout, False, self._hard))  # noqa: FBT003  Celery's
            self.terminate()


def _parking() -> aio.Park | None:
    return getattr(getcurrent(), "park", None)


aio.park_with(_parking)
