"""A server that is away: said once, knocked at until it answers, said again when it is back."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from .clock import Clock, pause

logger = logging.getLogger(__name__)

#: Seconds between two knocks: they double from the first.
SHORTEST_SECONDS = 0.25
#: With the second that a connection takes at most, dispatch goes on within two of the return.
LONGEST_SECONDS = 1.0
#: Seconds between looks for an answer.
STEP_SECONDS = 0.05
#: Knocks that may wait for an answer at once.
MOST_KNOCKS = 6


class Outage:
    """The state of one server as seen from here; *what* names it in the log.

    *reaches* makes a new connection, and tells whether the server answered. It is called in
    threads, again while it has not returned: over a slow network it may take its time, and what
    one connection has to wait for, as a server that hung when it was made and forgot it, does not
    hold up the next.
    """

    def __init__(
        self, what: str, clock: Clock, reaches: Callable[[], bool], halts: str = "dispatched"
    ) -> None:
        self._what = what
        self._halts = halts
        self._clock = clock
        self._reaches = reaches
        self._since: float | None = None
        self._seconds = 0.0
        self._knock_at = 0.0
        self._answered = threading.Event()
        self._free = threading.Semaphore(MOST_KNOCKS)

    @property
    def lasts(self) -> bool:
        """Whether the server could not be reached and nothing has said since that it can."""
        return self._since is not None

    def goes_on(self, error: BaseException, where: str = "") -> None:
        """It could not be reached just now; *where*: what the log names besides."""
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
            self._seconds = SHORTEST_SECONDS / 2
            logger.error(
                "routines: %s cannot be reached, nothing is %s until it can: %s",
                f"{self._what} {where}".strip(),
                self._halts,
                " ".join(str(error).split()),  # drivers tell theirs in several lines
            )
        self._answered = threading.Event()
        self._put_off(now)

    def answered(self) -> bool:
        """Whether a connection was made since it last went on. Makes another when it is time."""
        now = self._clock.monotonic()
        if not self._answered.is_set() and now >= self._knock_at:
            self._put_off(now)
            if self._free.acquire(blocking=False):
                answered = self._answered
                threading.Thread(target=self._knock, args=(answered,), daemon=True).start()
        return self._answered.is_set()

    def wait(self, seconds: float) -> None:
        """Until it answers, or until it is time to knock again, or that long."""
        left = min(seconds, self._knock_at - self._clock.monotonic())
        while left > 0 and not self._answered.is_set():
            pause(min(left, STEP_SECONDS))
            left -= STEP_SECONDS

    def ends(self) -> None:
        """It has done what it was asked."""
        if self._since is not None:
            away = self._clock.monotonic() - self._since
            logger.warning("routines: %s is back after %.1f s", self._what, away)
            self._since = None

    def _put_off(self, now: float) -> None:
        """With jitter: many schedulers must not knock all at once."""
        self._seconds = min(LONGEST_SECONDS, self._seconds * 2)
        self._knock_at = now + self._seconds * random.uniform(0.5, 1.0)  # noqa: S311  no secret

    def _knock(self, answered: threading.Event) -> None:
        try:
            if self._reaches():
                answered.set()
        finally:
            self._free.release()
