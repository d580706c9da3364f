"""The worker's side of a store, method by method."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from ..routines import State
from .values import Begun, Fate


class RunLedger(Protocol):
    """Runs, as workers begin and end them.

    Every method is atomic and may be repeated, with the same answer: a worker that lost the answer
    asks again. Nothing here waits for a scheduler, nor a scheduler for it.
    """

    def begin(
        self,
        run_id: UUID,
        attempt_id: UUID,
        *,
        retries: int,
        worker: str,
        again: bool = False,
        lost_after: timedelta | None = None,
        ago: float = 0.0,
    ) -> Begun:
        """Take the run for this attempt, if nobody has: **granted to one attempt only**.

        Begun may be what is ``claimed`` or ``sent``, or ``lost`` and never begun; and, by a higher
        number of *retries*, what is ``retrying``, ``running`` or ``lost``. With *again* also what
        is ``lost``; and, with *lost_after*, what is ``running`` and has not beaten for so long.
        Asked again by the attempt that has it: ``BEGUN``. *ago*: seconds since it began in fact.
        """

    def end(
        self,
        run_id: UUID,
        attempt_id: UUID,
        state: State,
        *,
        reason: str | None = None,
        error: str | None = None,
        due: float | datetime | None = None,
        ago: float = 0.0,
    ) -> bool:
        """How an attempt ended; **false, and nothing happens, if the run is not this attempt's**.

        True also if it stands so already. ``SENT`` makes the run unstarted again; *due*: when the
        attempt after ``RETRYING`` is. A run that was given up for lost in this attempt, or is to
        be sent again, ends all the same while there is no other attempt.
        """

    def lose(
        self, run_id: UUID, attempt_id: UUID, *, retries: int, reason: str, again: bool = False
    ) -> Fate:
        """The process of this attempt is gone: ``running`` → ``lost``, or ``sent`` with *again*."""

    def drop(self, run_id: UUID, state: State, *, retries: int, reason: str) -> bool:
        """End a run, as *state*, whose message nobody will begin; false if it has begun or ended.

        To be ``SKIPPED``, one that is ``retrying`` has ``FAILED``.
        """

    def beat(self, active: Iterable[tuple[UUID, UUID | None]], worker: str) -> int:
        """These runs' worker is alive; with the attempt, if it is known. How many it is running."""

    def owner(self, run_id: UUID) -> tuple[str, str]:
        """The names of the run's routine and of its worker; empty if there is no such run."""

    def now(self) -> datetime:
        """The present, by the clock that the runs' instants are taken from."""
