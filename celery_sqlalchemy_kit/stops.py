"""A stop that comes in the middle of what had better be known to be done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Seconds after which a stop waits no longer.
STOP_SECONDS = 0.3


@contextmanager
def held() -> Iterator[None]:
    """SIGTERM and SIGINT that come within are obeyed when it is left; or after `STOP_SECONDS`; or
    when another comes. In the main thread only, as no other is told of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _Stop()
    try:
        yield
    finally:
        stop.obey()


class _Stop:
    """One that may come until it is to be obeyed."""

    def __init__(self) -> None:
        handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {
            number: handler for number, handler in handlers.items() if callable(handler)
        }
        self._came: int | None = None
        self._obeyed = False
        self._lock = threading.Lock()
        for number in self._handlers:
            signal.signal(number, self._note)

    def obey(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        with self._lock:
            obeyed, self._obeyed = self._obeyed, True
        if self._came is not None and not obeyed:
            signal.raise_signal(self._came)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:
            with self._lock:
                self._obeyed = True
            self._handlers[number](number, frame)
            return
        self._came = number
        late = threading.Timer(STOP_SECONDS, self._insist, [number])
        late.daemon = True
        with suppress(RuntimeError):  # the system has no more threads for us
            late.start()

    def _insist(self, number: int) -> None:
        """To the main thread, which may wait for a broker."""
        with self._lock:
            if not self._obeyed:
                self._obeyed = True
                signal.pthread_kill(threading.main_thread().ident or 0, number)
