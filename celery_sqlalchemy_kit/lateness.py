"""Being late is told once when it begins, and once when it is over."""

from __future__ import annotations

import logging
from datetime import timedelta

logger = logging.getLogger(__name__)

#: Seconds by which a turn may begin late.
TURN_SECONDS = 1.0
#: How late dispatch may be.
DISPATCH = timedelta(seconds=5)


class Lateness:
    """How late one scheduler is, by its monotonic clock: with its turns, and with what is due."""

    def __init__(self) -> None:
        self._turn_at: float | None = None
        self._late = False

    def wait(self, at: float, seconds: float) -> None:
        """A turn has ended at *at*, and the next is to begin *seconds* later."""
        self._turn_at = at + seconds

    def begin(self, at: float) -> None:
        """A turn begins; it is told if the process was held up."""
        due_at, self._turn_at = self._turn_at, None
        if due_at is not None and at - due_at > TURN_SECONDS:
            logger.warning("routines: a turn begins %.1f s late", at - due_at)

    def note(self, late: timedelta) -> None:
        """What has just been claimed was so late; zero also where nothing is due."""
        if (late > DISPATCH) is self._late:
            return
        self._late = not self._late
        if self._late:
            logger.warning("routines: dispatch is %.0f s late", late.total_seconds())
        else:
            logger.warning("routines: dispatch is on time again")
