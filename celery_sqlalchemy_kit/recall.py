"""What was claimed before it is due, and is switched off or deleted since, is not sent.

It is asked for shortly before that instant, and no answer is no reason to send anything later: what
is wrong with the database, the next call tells.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, wait
from datetime import datetime
from functools import partial
from uuid import UUID

from .clock import Clock, pause
from .pipeline import Taken, in_a_thread
from .routines import BY_HAND
from .storage import SchedulerStore
from .storage.values import Batch

#: Seconds within which an edit is to be obeyed: what is claimed longer before it is due is asked
#: for, so many seconds before that instant.
OBEYED_SECONDS, ASKED_SECONDS = 0.05, 0.025

logger = logging.getLogger(__name__)


class Recall:
    """What one scheduler asks of its *store*, in a call besides its own."""

    def __init__(self, store: SchedulerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @staticmethod
    def asked_at(taken: Taken) -> float | None:
        """When, in monotonic seconds, to ask for what was claimed; None: it need not be."""
        not_before = taken.batch.not_before
        return not_before - ASKED_SECONDS if not_before - taken.began > OBEYED_SECONDS else None

    def stopped(self, batches: Sequence[Batch], asked_at: float) -> frozenset[UUID]:
        """Runs of *batches*, all for one instant, that are not to be sent. They are left to the
        rescue, which ends them unless their routine is on again. Orders run all the same.

        Returns shortly before the batches are due.
        """
        claimed = [held.run for batch in batches for held in batch.claimed]
        runs = {run.id: run.routine_id for run in claimed if run.cause not in BY_HAND}
        if not runs:
            return frozenset()
        pause(asked_at - self._clock.monotonic())
        by = max(asked_at, self._clock.monotonic()) + ASKED_SECONDS
        stopped = self._ask(frozenset(runs.values()), batches[0].now, by)
        return frozenset(run_id for run_id, routine_id in runs.items() if routine_id in stopped)

    def _ask(self, routine_ids: frozenset[UUID], at: datetime, by: float) -> frozenset[UUID]:
        answer = Future[frozenset[UUID]]()
        try:
            in_a_thread(answer, partial(self._store.stopped, routine_ids, at=at))
        except RuntimeError as fault:  # the system has no more threads for us
            answer.set_exception(fault)
        wait([answer], timeout=by - self._clock.monotonic())
        if not answer.done():
            logger.debug(
                "routines: what was just switched off may run once more: no answer in time"
            )
        elif error := answer.exception():
            told = f"{type(error).__name__}: {error}"
            logger.warning("routines: what was just switched off may run once more: %s", told)
        else:
            return answer.result()
        return frozenset()
