"""How far looks and claims have come, so that they need not begin at the beginning.

While anybody holds an old snapshot, a dump say, PostgreSQL keeps the index entries of all that has
been done since, and who begins at the beginning walks through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from .clock import Clock
from .storage.values import Batch, Passed, Position, View

#: If the last two looks from the beginning took more seconds than this each, they are dear …
DEAR_SECONDS = 0.01
#: … and are followed, for so many times as long as the quicker one, by looks that go on from the
#: bookmark; but no longer than so many seconds.
REST, LONGEST_REST_SECONDS = 20, 15.0
#: What is done for the present is committed up to so much later, and must not be passed by then.
MARGIN = timedelta(seconds=1)
_FIRST = str(UUID(int=0))


class Bookmark:
    """From where looks and claims go on; what is found late because of it is found all the same.

    Looks begin at the beginning as long as they are cheap, and dear ones take a twentieth of the
    time. What such a look sees is claimed from the beginning; later claims go on where the last one
    ended. What stands before the bookmark (set into the past by hand, held by somebody else,
    committed late) so waits for the next look from the beginning. *rescue_after*: what people order
    stands as claimed so long ago. *grace*: what is found later than that may count as missed.
    """

    def __init__(self, clock: Clock, rescue_after: timedelta, grace: timedelta) -> None:
        self._clock = clock
        self._back = rescue_after + MARGIN
        self._longest_rest = min(LONGEST_REST_SECONDS, grace.total_seconds() / 4)
        self._position: Position | None = None
        self._claimed_at: datetime | None = None
        self._behind = True
        self._looked_at = -math.inf
        self._took = 0.0
        self._rests_until = -math.inf
        self._went_on = False

    @property
    def anew_at(self) -> float:
        """When, in monotonic seconds, there has to be a look from the beginning, as the last one
        was none; infinity: it was."""
        return self._rests_until if self._went_on else math.inf

    def look(self, look: Callable[[Passed | None], View]) -> View:
        began = self._clock.monotonic()
        passed = self._passed() if began < self._rests_until else None
        view = look(passed)
        self._went_on = passed is not None
        if passed is None:
            self._rest(self._clock.monotonic(), began)
            self._looked_at, self._behind = began, view.to_claim
        if not view.to_claim:
            self._position = _shortly_before(view.now)
        self._claimed_at = min(view.oldest_claim_at or view.now, view.now - self._back)
        return view

    def _rest(self, now: float, began: float) -> None:
        """By the quicker of two, as one may have waited for something else."""
        before, self._took = self._took, now - began
        took = min(before, self._took)
        if took > DEAR_SECONDS:
            self._rests_until = now + min(REST * took, self._longest_rest)

    def _passed(self) -> Passed | None:
        if self._position is None or self._claimed_at is None:
            return None
        return Passed(self._position, self._claimed_at)

    def position(self) -> Position | None:
        """Where the next claim starts; None: at the beginning."""
        return None if self._behind else self._position

    def claimed(self, batch: Batch, after: Position | None, began: float) -> None:
        """A claim that *began* then, in monotonic seconds, behind *after*, has returned."""
        if after is None and began >= self._looked_at:
            self._behind = False
        if batch.still_due:
            self.begin_anew()
        if not batch.more:
            self._position = _shortly_before(batch.now)
        elif batch.last is not None:
            self._position = batch.last

    def begin_anew(self) -> None:
        """What is due may stand before the bookmark, as what a claim that failed was to take."""
        self._behind, self._rests_until = True, -math.inf


def _shortly_before(now: datetime) -> Position:
    return Position(now - MARGIN, _FIRST)
