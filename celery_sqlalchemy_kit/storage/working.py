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

    Every method is atomic, and may be repeated, as a worker that lost the answer asks again:
    nothing happens a second time, and the answer is the same, but where it says otherwise. Nothing
    here waits for a scheduler, nor a scheduler for it, for longer than a call takes.
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

        *retries* is the number of the message, 0 at first, and noted. Begun may be:

        - what nobody has begun (``claimed``, ``sent``, or ``lost`` before anybody has) and no
          later attempt was put back;
        - by a higher number than that noted, what is ``retrying``, ``running`` or ``lost``;
        - with *again*, what is ``lost``;
        - with *lost_after*, for a message that may be the second of its run, and *again*, what is
          ``running`` and has not beaten for so long; ``OWNED`` if it has. Without *again* such a
          run is ``LOST`` by that.

        Asked again by the attempt that has it: ``BEGUN``. All else is a ``DUPLICATE``. *ago*:
        seconds since it began in fact.
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

        True also if it stands so already. ``SENT``, for a message that was put back, makes the run
        unstarted again, and nobody's: asked once more it is false. *due*, of ``RETRYING``: when
        the next attempt is, as an instant, or in seconds after the end; *ago*: seconds since the
        end. A run that was given up for lost in this attempt, or is to be sent again, ends all the
        same while there is no other attempt.
        """

    def lose(
        self, run_id: UUID, attempt_id: UUID, *, retries: int, reason: str, again: bool = False
    ) -> Fate:
        """The process of this attempt is gone: ``running`` → ``lost``, or ``sent`` with *again*.

        Known again, the second time, by the attempt and *reason*. *retries*: those of the message,
        by which, if the attempt had not begun, another may (``UNSTARTED``), as `begin` has it.
        """

    def drop(self, run_id: UUID, state: State, *, retries: int, reason: str) -> bool:
        """End a run, as *state*, whose message nobody will begin.

        It is ``claimed`` or ``sent``; ``retrying`` with fewer *retries*, which has ``FAILED`` if it
        is to be ``SKIPPED``; or ``lost`` before anybody has begun it, if it is to be anything else.
        False if it is none of these: so also, asked once more, if it has been dropped.
        """

    def beat(self, active: Iterable[tuple[UUID, UUID | None]], worker: str) -> int:
        """These runs' worker is alive; with the attempt, if it is known. How many it is running."""

    def owner(self, run_id: UUID) -> tuple[str, str]:
        """The names of the run's routine and of its worker; empty if there is no such run."""

    def now(self) -> datetime:
        """The present, by the clock that the runs' instants are taken from."""
