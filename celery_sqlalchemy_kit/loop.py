"""The tick: look, claim, publish, rescue, wait. Knows the store and a publisher, not Celery."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from . import due, housekeeping, rescue, stops
from .bookmark import Bookmark
from .clock import Clock
from .config import Settings
from .lateness import Lateness
from .lead import Lead
from .link import PROBE_SECONDS
from .pace import Pace
from .pipeline import NOTHING_AHEAD, Ahead, Pipeline, Streak, Taken
from .recall import Recall
from .routines import Cause, Routine
from .storage import SchedulerStore
from .storage.values import Batch, Claimed, Decide, OnWorkerLost, View
from .store.faults import Fault, kind_of

logger = logging.getLogger(__name__)

#: Seconds between heartbeats, each with a look at the table, whatever wakes are heard or not.
HEARTBEAT_SECONDS = 10.0
#: Seconds until rows that somebody else holds are looked at again: doubles from the first.
HELD_SECONDS = (0.05, 1.0)
#: Seconds of rest before which it is told what was published; else the next claim tells.
CONFIRM_SECONDS = 0.1
#: Seconds between looks at the table, and between tries to rescue, while there is work.
LOOK_SECONDS = 1.0


class Publishes(housekeeping.Publishes, Protocol):
    """What the loop needs of a publisher."""

    def ready(self) -> bool:
        """Whether the broker can be published to."""


class Loop:
    """One scheduler's work, a turn at a time.

    *register* reconciles code and table once more; it is called while a live scheduler keeps a
    routine that this one no longer declares. *on_worker_lost* tells what it knows of a task, see
    `store.sweeps`.
    """

    def __init__(
        self,
        store: SchedulerStore,
        publisher: Publishes,
        settings: Settings,
        clock: Clock,
        register: Callable[[], bool],
        on_worker_lost: OnWorkerLost,
        *,
        ahead: Ahead = NOTHING_AHEAD,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._clock = clock
        self._register = register
        self._rescue_after = timedelta(seconds=settings.scheduler_rescue_after)
        self._grace = timedelta(seconds=settings.scheduler_misfire_grace)
        self._register_again = False
        self._bookmark = Bookmark(clock, self._rescue_after, self._grace)
        self._pipeline = Pipeline(
            store,
            clock,
            self._bookmark,
            limit=settings.scheduler_batch_size,
            ahead=ahead.claims,
        )
        self._housekeeping = housekeeping.Housekeeping(
            store, publisher, settings, clock, on_worker_lost
        )
        seconds = settings.scheduler_rescue_after / 2 / (ahead.claims + 2)
        self._pace = Pace(settings.scheduler_batch_size, seconds)
        self._told = Lateness()
        self._lateness = timedelta(0)
        self._beat_at = clock.monotonic()
        self._streak: Streak | None = None
        #: There was nothing to do in this turn, though there may be at once.
        self._rests = False
        self._held_seconds = 0.0
        self._looked_at = clock.monotonic()
        self._due_at = math.inf
        self._lead = Lead(ahead.seconds)
        self._recall = Recall(store, clock)
        self._rescue_at = clock.monotonic()

    @property
    def published(self) -> list[UUID]:
        """Published, and not yet known as such to the ledger."""
        return self._pipeline.published

    def finish(self, seconds: float) -> None:
        """Before the end: wait so long at most for claims that are under way."""
        self._pipeline.finish(seconds)

    def begin(self) -> None:
        """Reconcile; before the first turn."""
        self._register_again = self._register()
        self._beat_at = self._clock.monotonic() + HEARTBEAT_SECONDS

    def turn(self) -> float:
        """Do what there is to do now; returns the seconds to wait before the next turn."""
        self._told.begin(self._clock.monotonic())
        try:
            seconds = self._turn()
        except BaseException as error:
            # What comes late while something is wrong is late, and no backlog of our own.
            self._streak = None
            if kind_of(error) is not Fault.TRANSIENT:  # a lost race says nothing about the server
                self._housekeeping.interrupt()
            raise
        self._told.wait(self._clock.monotonic(), seconds)
        return seconds

    def _turn(self) -> float:
        if self._beat():
            self._housekeeping.begin_round()
        view = self._look()
        ready = self._publisher.ready()
        seconds = self._dispatch(view, ready=ready)
        if view is None:
            return seconds
        busy = seconds <= 0 and not self._rests
        if self._housekeeping.turn(view.now, busy=busy, ready=ready) or busy:
            return 0.0
        # What is due next was seen before that.
        return max(0.0, seconds - (self._clock.monotonic() - self._looked_at))

    def _dispatch(self, view: View | None, *, ready: bool) -> float:
        """Do what is due; returns the seconds until something is again."""
        self._rests = False
        if not ready:
            self._pipeline.settle()
            self._streak = None  # and stop counting as busy
            return PROBE_SECONDS
        if view is not None and self._may_rescue(view):
            self._pipeline.confirm()  # what it published before an outage is not to be rescued
            return self._rescue()
        if view is not None and view.to_release and self._release():
            return self._claim(None)
        if view is None or view.to_claim or self._pipeline.under_way:
            return self._claim(view)
        self._streak, self._rests = None, True
        self._told.note(timedelta(0))
        seconds = self._seconds_until_next(view)
        if seconds > CONFIRM_SECONDS:
            self._pipeline.confirm()
        return seconds

    def _look(self) -> View | None:
        """None while there is more to claim, and when something comes due that was seen before;
        but once a second in any case."""
        now = self._clock.monotonic()
        more = self._streak is not None and (self._streak.more or self._pipeline.under_way)
        look_by = min(self._looked_at + LOOK_SECONDS, self._bookmark.anew_at)
        is_due = now >= self._due_at
        if (more or is_due) and now < look_by:
            if is_due and not more:
                self._lead.begins()
            self._due_at = math.inf
            return None
        self._looked_at = now
        view = self._bookmark.look(lambda passed: self._store.look(after=passed))
        self._lead.saw(view)
        self._due_at = now + self._lead.seconds_until_due(view)
        return view

    def _claim(self, view: View | None) -> float:
        began = self._clock.monotonic()
        streak = self._streak
        if streak is None or began - streak.touched > self._rescue_after.total_seconds():
            # A gap that long is no work: the process was stopped, or its machine asleep.
            streak = Streak(began)
        # What a stop leaves unsent, another scheduler takes over only seconds later.
        with nullcontext() if self._lead.until is None else stops.held():
            rows = self._take_and_publish(partial(self._decide, streak), streak)
        works = bool(rows or self._pipeline.under_way)
        self._streak = streak if works else None
        if works or view is None or not view.to_claim:
            self._held_seconds = 0.0
            return 0.0
        shortest, longest = HELD_SECONDS
        self._held_seconds = min(longest, max(shortest, self._held_seconds * 2))
        return min(self._held_seconds, max(0.0, self._due_at - self._clock.monotonic()))

    def _take_and_publish(self, decide: Decide, streak: Streak) -> int:
        """One batch; and with it what else is claimed for the same instant, before that comes.
        Returns of how many rows."""
        until, own = self._lead.until, not self._pipeline.under_way
        if own and self._lead.many and self._pace.is_quick:
            self._pipeline.go_ahead(decide, until)
        taken = self._pipeline.take(decide, until)
        asked_at = self._recall.asked_at(taken) if self._lead.many else None
        batches, stopped = [taken.batch], frozenset[UUID]()
        try:
            if taken.batch.not_before > self._clock.monotonic():
                by = taken.batch.not_before if asked_at is None else asked_at
                batches += self._pipeline.gather(decide, taken, by, self._pace.most_rows)
            rows = sum(batch.rows for batch in batches)
            if own and rows:
                self._lead.adapt(self._clock.monotonic() - taken.began)
            self._lead.claimed(taken.until)
            for batch in batches:
                _tell(batch)
                self._note_lateness(batch)
                streak.goes_on(batch, self._clock.monotonic())
            if streak.more and self._pace.is_quick:
                self._pipeline.go_ahead(decide, until)
            if asked_at is not None:
                stopped = self._recall.stopped(batches, asked_at)
        finally:
            self._publish_taken(taken, batches, stopped)
            streak.touched = self._clock.monotonic()
        return rows

    def _publish_taken(
        self, taken: Taken, batches: Sequence[Batch], stopped: frozenset[UUID]
    ) -> None:
        """All but what is *stopped*."""
        claimed = [held for batch in batches for held in batch.claimed]
        if stopped:
            claimed = [held for held in claimed if held.run.id not in stopped]
        not_before = min((each.not_before for each in batches if each.not_before), default=0.0)
        began = max(self._clock.monotonic(), not_before)
        self._publish(claimed, max(taken.began, not_before), not_before)
        self._pace.note(len(claimed), self._clock.monotonic() - began)

    def _decide(self, streak: Streak, routine: Routine, now: datetime) -> due.Decision:
        streak.since = streak.since or now
        limits = due.Limits(self._grace, self._settings.scheduler_catch_up_limit, streak.since)
        decision = due.decide(routine, now, limits)
        if decision.occurrences or decision.missed:
            self._housekeeping.decided(routine, now)
        return decision

    def _rescue(self) -> float:
        began = self._clock.monotonic()
        rescued = self._store.rescue(
            lambda run, now: rescue.judge(run, now, self._grace),
            age=self._rescue_after,
            limit=self._settings.scheduler_batch_size,
        )
        for run, state, reason in rescued.ended:
            logger.warning("routines: run %s is %s: %s", run, state.value, reason)
        if rescued.claimed:
            logger.info(
                "routines: publishing %d runs that were ordered, or left unpublished",
                len(rescued.claimed),
            )
        if not rescued.claimed and not rescued.ended:
            self._rescue_at = began + LOOK_SECONDS  # somebody else is at it
        self._publish(rescued.claimed, began)
        return 0.0

    def _release(self) -> bool:
        """Let go runs that waited for the run before them; whether there were any."""
        began = self._clock.monotonic()
        released = self._store.release(limit=self._settings.scheduler_batch_size)
        for run, state, reason in released.ended:
            logger.warning("routines: run %s is %s: %s", run, state.value, reason)
        self._publish(released.claimed, began)
        return bool(released.claimed or released.ended)

    def _publish(self, claimed: Sequence[Claimed], since: float, not_before: float = 0.0) -> None:
        if not claimed:
            return
        sent = self._pipeline.record()
        faults = self._publisher.publish(claimed, since, sent, not_before=not_before)
        for run, fault in faults:
            logger.error(
                "routines: %s cannot be published, run %s: %s", run.routine_name, run.id, fault
            )
            self._store.note_fault(run.id, fault)

    def _beat(self) -> bool:
        """Whether it was time for one."""
        if self._clock.monotonic() < self._beat_at:
            return False
        self._beat_at = self._clock.monotonic() + HEARTBEAT_SECONDS
        known = self._store.beat(self._lateness)
        self._lateness = timedelta(0)
        if self._register_again or not known:
            self._register_again = self._register()
        return True

    def _note_lateness(self, batch: Batch) -> None:
        # An order by hand for yesterday is not late.
        late = [
            batch.now - held.routine.next_run_at
            for held in batch.claimed
            if held.routine is not None
            and held.routine.next_run_at is not None
            and held.run.cause is not Cause.MANUAL
        ]
        if late:
            self._lateness = max(self._lateness, *late)
            self._told.note(max(late))

    def _may_rescue(self, view: View) -> bool:
        oldest = view.oldest_claim_at
        stranded = oldest is not None and view.now - oldest >= self._rescue_after
        return stranded and self._clock.monotonic() >= self._rescue_at

    def _seconds_until_next(self, view: View) -> float:
        """Counted from the look, as is what it saw."""
        seconds = [
            self._settings.scheduler_max_interval,
            self._settings.scheduler_sync_every,
            self._beat_at - self._looked_at,
            self._bookmark.anew_at - self._looked_at,
        ]
        if view.waiting:
            # The end that it waits for may not be heard: while it is being written, say.
            seconds.append(LOOK_SECONDS)
        seconds.append(self._lead.seconds_until_due(view))
        if view.oldest_claim_at is not None:
            rescue_in = (view.oldest_claim_at + self._rescue_after - view.now).total_seconds()
            seconds.append(max(rescue_in, self._rescue_at - self._looked_at))
        return max(0.0, min(seconds))


def _tell(batch: Batch) -> None:
    for name, fault in batch.faults:
        logger.error("routines: %s cannot be scheduled: %s", name, fault)
    for run_id in batch.repeated:
        logger.warning("routines: run %s is in the ledger already and is not run again", run_id)
