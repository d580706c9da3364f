"""How quickly messages are published: what is claimed ahead must not be old in its turn."""

from __future__ import annotations

from .pipeline import FIRST

#: Batches that are claimed before the first is published, at most.
MOST_BATCHES = 3


class Pace:
    """By the last messages. *batch_size*: runs of a full batch. *most_seconds*: that publishing it
    may take, for others to be claimed meanwhile."""

    def __init__(self, batch_size: int, most_seconds: float) -> None:
        self._batch_size = batch_size
        self._most_seconds = most_seconds
        self._seconds = 0.0

    @property
    def is_quick(self) -> bool:
        """Whether another batch may be claimed while one is published."""
        return self._seconds < self._most_seconds

    @property
    def most_rows(self) -> int:
        """How many rows may be claimed before the first is published; none but those of the first
        claim if that is not quick."""
        return self._batch_size * MOST_BATCHES if self.is_quick else 0

    def note(self, messages: int, seconds: float) -> None:
        """So many were published in so long. What few take says little of what many do."""
        if messages:
            few = min(FIRST, self._batch_size)
            self._seconds = max(0.0, seconds) * self._batch_size / max(few, messages)
