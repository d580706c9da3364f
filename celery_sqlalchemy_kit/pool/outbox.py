"""What threads have to tell the worker, told in order on its main thread."""

from __future__ import annotations

import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.utils.log import get_logger

logger = get_logger(__name__)


class Outbox:
    """Calls that any thread may post. Celery's event loop makes them, where there is one.

    Where there is none, as with brokers that kombu reads without its event loop, the thread that
    posts a call makes it: one thread at a time, still in order.

    Safe in a signal's handler, which may come in the middle of any of it.
    """

    def __init__(self) -> None:
        self._posted: deque[Callable[[], object]] = deque()
        #: A socket, as the event loop of kombu < 5.7 is woken by nothing else.
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        self._is_woken = False
        self._hub: Any = None
        self._delivering = threading.RLock()

    def register(self, hub: Any) -> None:
        self._hub = hub
        hub.add_reader(self._reader, self.deliver)

    def post(self, call: Callable[[], object]) -> None:
        self._posted.append(call)
        if self._hub is None:
            self.deliver()
        if not self._is_woken:
            self._is_woken = True
            self.wake()

    def wake(self) -> None:
        """Have the main thread look up, which may sleep for seconds."""
        with suppress(OSError):  # full, or closed
            self._writer.send(b"\0")

    def deliver(self) -> None:
        """Make the calls that were posted."""
        with suppress(OSError):
            self._reader.recv(4096)
        self._is_woken = False
        # Whoever delivers already takes these calls as well: nobody waits for another's.
        while self._posted and self._delivering.acquire(blocking=False):
            try:
                with suppress(IndexError):
                    while True:
                        make_one(self._posted.popleft())
            finally:
                self._delivering.release()

    def make(self, call: Callable[[], object]) -> None:
        """Make a call of the main thread's own, which comes between those that are posted."""
        with self._delivering:
            make_one(call)
        if self._hub is None:
            self.deliver()  # what others have posted meanwhile, and could not deliver

    def wait(self, seconds: float) -> None:
        """Wait for a call, and make it, while Celery's event loop does not run as it stops.

        Its timers are kept going, and what it has put off, such as acknowledgements.
        """
        with suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            selector.select(seconds)
        self.deliver()
        if self._hub is not None:
            make_one(self._hub.fire_timers)
            ready, self._hub._ready = self._hub._ready, set()  # noqa: SLF001  nothing else has it
            for each in list(ready):
                make_one(each)

    def close(self) -> None:
        if self._hub is not None:
            self._hub.remove(self._reader)
        self._reader.close()
        self._writer.close()


def make_one(call: Callable[[], object]) -> None:
    """Make *call*; what it raises is logged."""
    try:
        call()
    except Exception:
        logger.exception("the worker goes on, although %r failed", call)
