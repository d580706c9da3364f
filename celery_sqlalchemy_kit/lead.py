"""How long before its instant what is due next is claimed, where a store can do that.

About twice as long as it took, the last times, to claim what was due at one instant. Told apart is
what is due by the hundred: it takes longer, and may come but once in a while.
"""

from __future__ import annotations

import math
from datetime import datetime

from .recall import ASKED_SECONDS, OBEYED_SECONDS
from .storage.values import View

#: What is left of the lead after each instant for which claims were quicker.
DECAY = 0.9


class Lead:
    """*most_seconds*: see `Ahead.seconds`; of few at one instant, nothing need be asked."""

    def __init__(self, most_seconds: float) -> None:
        self._most = {False: min(most_seconds, OBEYED_SECONDS), True: most_seconds}
        self._seconds = dict(self._most)
        self._next_run_at: datetime | None = None
        self._many = False
        #: What was not to be had then, as it may not overlap or as somebody else held it, is not
        #: tried for again before that instant has come.
        self._claimed_for: datetime | None = None
        #: The instant that is claimed for before it comes, by the store's clock.
        self.until: datetime | None = None

    def saw(self, view: View) -> None:
        """There was a look."""
        self._next_run_at, self._many, self.until = view.next_run_at, view.many_next, None

    def seconds_until_due(self, view: View) -> float:
        """From a look until what is due next is to be claimed; infinity: there is nothing."""
        if view.next_run_at is None:
            return math.inf
        early = 0.0 if view.next_run_at == self._claimed_for else self._seconds[view.many_next]
        return (view.next_run_at - view.now).total_seconds() - early

    def begins(self) -> None:
        """What is due next is claimed from now on."""
        if self._most[True]:
            self.until = self._next_run_at

    @property
    def many(self) -> bool:
        """What is claimed for before it comes is due by the hundred."""
        return self._many and self.until is not None

    def claimed(self, until: datetime | None) -> None:
        """There was a claim, *until* that instant."""
        self._claimed_for = until or self._claimed_for

    def adapt(self, seconds: float) -> None:
        """What was due took so long to claim. What is claimed too early is waited for, and nothing
        else is done meanwhile."""
        if self.until is None:
            return
        asked = ASKED_SECONDS if self._many else 0.0
        seconds = max(2 * seconds + asked, self._seconds[self._many] * DECAY)
        self._seconds[self._many] = min(self._most[self._many], seconds)
