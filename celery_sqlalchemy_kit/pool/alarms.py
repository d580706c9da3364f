"""Calls at their time, by a thread of their own, which neither a busy loop nor worker delays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import inf
from queue import Empty, SimpleQueue

from celery.utils.log import get_logger

from .threads import STOP_SECONDS

logger = get_logger(__name__)


class Alarm:
    """A call that is due at *when*, of the monotonic clock."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when, self.call = when, call


class Alarms:
    """Those that are set. No locks: a signal's handler may set one in the middle of another."""

    def __init__(self, name: str) -> None:
        #: In a dict, as most are dropped long before they are due.
        self._set: dict[Alarm, None] = {}
        self._wakes_at = inf
        self._changes: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def set(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Have *call* made in so many seconds, once, on the thread of the alarms."""
        alarm = Alarm(time.monotonic() + seconds, call)
        self._set[alarm] = None
        if alarm.when < self._wakes_at:
            self._changes.put(None)
        return alarm

    def drop(self, alarm: Alarm) -> None:
        self._set.pop(alarm, None)

    def stop(self) -> None:
        self._stopped = True
        self._changes.put(None)
        self._thread.join(STOP_SECONDS)

    def _serve(self) -> None:
        while not self._stopped:
            self._ring()
            left = None if self._wakes_at == inf else max(0.0, self._wakes_at - time.monotonic())
            try:
                self._changes.get(timeout=left)
            except Empty:
                continue

    def _ring(self) -> None:
        """Make the calls that are due. Apart, so that no wait holds the others, and their jobs."""
        # In this order: an alarm set from here on is either seen below, or wakes the thread.
        self._wakes_at = inf
        now = time.monotonic()
        for alarm in sorted(self._set, key=lambda alarm: alarm.when):
            if alarm.when > now:
                self._wakes_at = alarm.when
                break
            self.drop(alarm)
            try:
                alarm.call()
            except Exception:
                logger.exception("the pool goes on, although %r failed", alarm.call)
