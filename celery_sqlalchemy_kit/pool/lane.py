"""The jobs of one kind: as many at once as there are slots; the others wait, in order."""

from __future__ import annotations

from collections import deque
from functools import partial

from .job import Job
from .outbox import make_one


class Lane:
    """Used on one thread at a time, that of the outbox."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        #: The worker refers to them weakly.
        self.running: set[Job] = set()
        self.waiting: deque[Job] = deque()

    def add(self, job: Job) -> None:
        if self.waiting or len(self.running) >= self.slots:
            self.waiting.append(job)
        else:
            self._begin(job)

    def remove(self, job: Job) -> None:
        self.running.discard(job)
        self.fill()

    def fill(self) -> None:
        """Begin what waits, as far as there are slots, and as it was not revoked meanwhile."""
        while self.waiting and len(self.running) < self.slots:
            # One that cannot be told revoked, as the result backend is down, holds up no other.
            make_one(partial(self._begin_unless_revoked, self.waiting.popleft()))

    def _begin_unless_revoked(self, job: Job) -> None:
        if not job.is_revoked():
            self._begin(job)

    def _begin(self, job: Job) -> None:
        self.running.add(job)
        job.begin()
