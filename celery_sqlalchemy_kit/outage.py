"""A server that is away: said once, waited for with back-off, said again when it is back."""

from __future__ import annotations

import logging
import random

from .clock import Clock

logger = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.25
#: Well below the two seconds within which dispatch goes on after a server's return.
LONGEST_SECONDS = 1.5


class Outage:
    """The state of one server as seen from here; *what* names it in the log."""

    def __init__(self, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._since: float | None = None
        self._seconds = 0.0

    def goes_on(self, error: BaseException) -> float:
        """It cannot be reached; returns the seconds to wait, with jitter, before another try."""
        if self._since is None:
            self._since = self._clock.monotonic()
            self._seconds = SHORTEST_SECONDS / 2
            logger.error(
                "routines: %s cannot be reached, nothing is dispatched until it can: %s",
                self._what,
                " ".join(str(error).split()),  # drivers tell theirs in several lines
            )
        self._seconds = min(LONGEST_SECONDS, self._seconds * 2)
        return self._seconds * random.uniform(0.5, 1.0)  # noqa: S311  spreads retries, no secret

    def ends(self) -> None:
        """It answers."""
        if self._since is not None:
            away = self._clock.monotonic() - self._since
            logger.warning("routines: %s is back after %.1f s", self._what, away)
            self._since = None
