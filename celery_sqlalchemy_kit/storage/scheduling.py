"""The scheduler's side of a store, method by method."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from ..reconcile import Plan
from ..routines import Declared
from .values import (
    Batch,
    Change,
    Decide,
    Found,
    Judge,
    JudgeUnbegun,
    OnWorkerLost,
    Passed,
    Position,
    Rescued,
    Since,
    Survey,
    Swept,
    View,
    Walk,
)


class SchedulerStore(Protocol):
    """Routines and their runs, as one scheduler of one namespace sees and changes them.

    Any number of schedulers, in any number of processes, have each a store of their own on one
    storage, and a scheduler may be killed within any call. So, of every method:

    - It is **atomic**: it happens as a whole, by the time it returns, or not at all. If it raises,
      or what it calls back does, nothing has happened; only whoever lost the answer does not know.
    - It **moves runs forwards only**: each change names the states, and the claimer or attempt,
      that it moves from, and skips what stands otherwise by now.
    - What somebody else holds just then is **skipped**, not waited for, and found again by a later
      call. `reconcile` alone waits. A storage that lets in one call after the other makes each
      wait, but for no longer than such a call takes, and for nobody else.
    - The present is **one clock's for all**, the storage's own, never the scheduler's.

    Callbacks (*decide*, *judge*, …) are pure and quick; they may be called more than once for one
    row, and what they returned last counts.

    Raises:
        StoreBusyError: a lock or a race was lost; the same again may succeed at once.
        StoreAwayError: the storage cannot be reached. The scheduler knocks until it can.

    Any other exception is a fault: it is logged, and the scheduler goes on after five seconds.
    """

    def look(self, *, after: Passed | None = None) -> View:
        """What there is to do, and when next. Called before every turn: make it cheap.

        Holds nothing. It may be stale by what is committed meanwhile; what was committed before it
        began it has to see, or an edit would wait for the next look. ``to_claim`` and
        ``to_release`` may be true in vain (somebody else is at it), never false in vain.

        *after*: what was done with when it was last seen, and need not be looked through again.
        What does stand there then may be left out, in ``to_claim`` and ``oldest_claim_at`` alone;
        a look without it follows. May be ignored.
        """

    def claim(
        self,
        decide: Decide,
        *,
        limit: int,
        after: Position | None = None,
        published: Iterable[UUID] = (),
        until: datetime | None = None,
    ) -> Batch:
        """Confirm what was *published*, then take what is due, and plan what is unplanned.

        For each routine of the namespace that is active, has no ``error`` and is due
        (``next_run_at`` has come), or unplanned (no ``next_run_at``, and waits for no run), held so
        that no other claim gets it: write, at once, what ``steps.step_of`` makes of it, of *decide*
        and of its unfinished runs. That is the runs, the one that waits, the records of what does
        not run, and the routine's own step, which also clears ``paused_at``; one that is over turns
        inactive, and was paused just now. The oldest due come first.

        A run whose id is there already is **not written and not claimed again**: it is told in
        ``Batch.repeated``, and its routine takes the step all the same.

        A routine that cannot be read gets an ``error``, told in ``Batch.faults``, and keeps no
        other from being claimed. *limit*: the most rows of each kind, due and unplanned, to look
        at, and runs after which the batch is ended; those of one row stay together. *after*: where
        the batch before ended; may be ignored, and ``Batch.last`` be None then.

        *until*: an instant that is about to come, for which all of this may be done as if it had,
        but for routines that may not overlap; then ``Batch.now`` is that instant, and
        ``Batch.not_before`` tells when it comes. May be ignored.
        """

    def stopped(self, routine_ids: Iterable[UUID], *, at: datetime) -> frozenset[UUID]:
        """Which of these routines are there no more, or not ``active``; but not those that are off
        as they were over *at* that instant: without ``waiting_for``, nor an ``occurrence_at`` after
        it.

        Asked of what was claimed with *until*, by another thread, shortly before it is sent.
        Holds nothing.
        """

    def confirm(self, published: Iterable[UUID]) -> None:
        """Runs that this scheduler has claimed and published turn ``claimed`` → ``sent``.

        Idempotent. One that a worker has begun stays as it is; so does one that was rescued by
        another scheduler, as that is about to publish it.
        """

    def note_fault(self, run_id: UUID, fault: str) -> None:
        """Write into a run that is still ``claimed`` why its message cannot be published."""

    def rescue(self, judge: Judge, *, age: timedelta, limit: int) -> Rescued:
        """Take over runs that were ``claimed`` at least *age* ago, by anybody; oldest first.

        Each that *judge* lets go keeps its id, and has another claimer and instant of the claim,
        and one more in ``publish_attempts``: no other rescue gets it before it is *age* old again.
        The others end as *judge* says, and are taken back from their routine's
        ``total_run_count``, which counts the causes ``routines.COUNTED``. ``rescue.stranded``
        tells what *judge* is given.
        """

    def release(self, *, limit: int) -> Rescued:
        """Claim runs that are ``waiting`` and need not any more, as others are claimed.

        Their routine has no other unfinished run; or its ``overlap`` is ``allow`` by now. Should
        several wait for one another, the oldest goes. ``overlap.released`` says which of them end
        ``skipped`` instead; these are taken back from ``total_run_count``, as by `rescue`.
        """

    def survey(self, since: Since) -> Survey:
        """Whether there is anything to tidy up. Holds nothing; may be stale, and true in vain."""

    def sweep(
        self,
        on_worker_lost: OnWorkerLost,
        *,
        now: datetime,
        lost_after: timedelta,
        limit: int,
        may_send: bool,
    ) -> Swept:
        """Runs that are ``running`` and whose worker was silent for *lost_after* at *now*.

        They turn ``lost``; or, where *on_worker_lost* says ``again``, ``sent``, with one more in
        ``publish_attempts``, and are returned to be sent; these are left alone unless *may_send*.
        Each is told by one sweep only, unless it falls silent again. The attempt that it was lost
        in may still end it, while there is no other: so it stays noted, also in what is ``sent``.
        """

    def redeliver(self, judge: JudgeUnbegun, walk: Walk, *, limit: int) -> Swept:
        """Runs in ``walk.state`` that nobody begins: sent again (they stay as they are, with one
        more in ``publish_attempts``), or ``lost``, as *judge* says, or left alone.

        In the order of (claimed_at, id), until *limit* of them are acted on or ``walk.looks_at``
        looked at: then ``Swept.place`` says where to go on. Of each task the first
        ``rescue.WINDOW`` alone are sent again. Of what is ``retrying`` it is the next attempt that
        is sent, by its number, or lost: no message of the last one begins the run.
        """

    def alert(
        self,
        *,
        overdue_before: datetime,
        tells_overdue: bool,
        failed_since: datetime,
        alerted_after: str | None,
        limit: int,
    ) -> tuple[Found, tuple[Change, ...]]:
        """Give routines the alerts that they should have, by ``alerts.judge``.

        A change is told by the one scheduler that makes it. Without alerts: ``Found(()), ()``.
        """

    def prune(self, before: datetime, changes_before: datetime, *, limit: int) -> int:
        """Delete at most *limit* runs that ended before *before*; returns how many.

        **Never an unfinished one**, however old. 0 also while another scheduler does.
        *changes_before*: the same for the log of who changed what, if the storage keeps one.
        """

    def surplus(self, routine_id: UUID, *, keep: int) -> datetime | None:
        """The newest occurrence of a routine that *keep* ended runs have come after; may be
        stale. None: it has not so many."""

    def prune_surplus(self, routine_id: UUID, until: datetime, *, limit: int) -> int:
        """Like `prune`, of one routine's ended runs for occurrences up to *until*."""

    def reconcile(
        self, declared: Iterable[Declared], *, known_tasks: Iterable[str], removal: str, merge: bool
    ) -> Plan:
        """Carry out ``reconcile.plan`` of what is declared and stored; announce this scheduler.

        Schedulers that do so at once do it one after another. Idempotent: a second one finds
        nothing to do. What a live scheduler declares is never removed; the state of what is
        removed is kept, and comes back when it is declared again: with the task that the code
        names, unplanned, and as if it had been off since it was removed.
        """

    def beat(self, lateness: timedelta) -> bool:
        """This scheduler is alive; false if it is not known (any more), and has to `reconcile`.

        Who has not done so for 30 seconds (``SILENCE``) counts no longer. Also lets go, if nothing
        else does, routines whose ``waiting_for`` is a run that has ended or is gone.
        """

    def leave(self, published: Iterable[UUID] = ()) -> None:
        """A clean stop: confirm what was *published*; this scheduler counts no longer. Idempotent.

        Called on another store of the same identity, in another thread, as a call of the first one
        may have been cut short; the process ends within a second, whether it has returned or not.
        """
