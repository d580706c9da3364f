"""What a scheduler does besides dispatching: it finds what got stuck, tells of it, and tidies up.

One round every heartbeat, a chore a turn, and only while nothing is due; or one a second if there
is always something due. A chore that fails is put off, and holds up neither the others nor
dispatch.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from . import announcements
from .clock import Clock
from .config import Settings
from .errors import StoreError
from .rescue import Patience, Unbegun, Verdict, judge_unbegun
from .routines import Routine, Run, State
from .storage import SchedulerStore
from .storage.values import Claimed, OnWorkerLost, Place, Since, Survey, Swept, Walk
from .store.faults import Fault, kind_of

logger = logging.getLogger(__name__)

#: Seconds between chores while there is always something due.
BUSY_SECONDS = 1.0
#: Seconds for which a chore that failed is put off, and one that was not answered.
FAILED_SECONDS, UNANSWERED_SECONDS = 300.0, 30.0
#: Runs that one sweep acts on, and that a walk through the unbegun ones looks at.
SWEPT, LOOKED_AT = 100, 2000
#: Runs that are deleted in one go.
PRUNED = 500
#: Routines whose alerts are judged in one go.
ALERTED = 100
#: Seconds without a turn past which this scheduler was not at work: it was stopped, or the database
#: was away. What is overdue then is about to be claimed.
GAP_SECONDS = 30.0
GAP = timedelta(seconds=GAP_SECONDS)
#: Seconds that workers may take, beyond the time between two beats, to beat again after an outage.
BEATS_AGAIN = timedelta(seconds=5)
#: Seconds in which workers write down, after an outage, what they have begun without the ledger.
RECORDED_SECONDS = 10.0
#: Pages of a walk in one round in which there is nothing to be done.
IDLE_PAGES = 3
#: How far back runs are looked for that have failed: at first, now and then, as a worker may write
#: an end late that it could not write in time, and else.
FAILED_WITHIN = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1))


class Publishes(Protocol):
    """What housekeeping needs of a publisher."""

    def publish(
        self,
        claimed: Sequence[Claimed],
        since: float,
        sent: list[UUID],
        *,
        not_before: float = 0.0,
    ) -> Sequence[tuple[Run, str]]:
        """Publish a batch claimed at *since*, but *not_before* then; both in monotonic seconds.

        What has been sent is added to *sent* at once, so that it is known whatever interrupts;
        returned are the runs whose message is at fault, and why.
        """


@dataclass(frozen=True)
class _Now:
    """The present: of the database, of this process; and whether the broker is there."""

    instant: datetime
    monotonic: float
    ready: bool


_Chore = Callable[[_Now], bool]


class Housekeeping:
    """The chores of one scheduler; *on_worker_lost* tells what it knows of a task."""

    def __init__(
        self,
        store: SchedulerStore,
        publisher: Publishes,
        settings: Settings,
        clock: Clock,
        on_worker_lost: OnWorkerLost,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._clock = clock
        self._on_worker_lost = on_worker_lost
        self._lost_after = timedelta(seconds=settings.scheduler_lost_after)
        self._overdue_after = timedelta(seconds=settings.scheduler_overdue_after)
        self._patience = Patience(
            timedelta(seconds=settings.scheduler_redeliver_after),
            timedelta(seconds=settings.scheduler_unstarted_after),
        )
        self._chores: deque[_Chore] = deque()
        self._prunes: deque[_Chore] = deque()
        self._put_off: dict[str, float] = {}
        self._worked_at = clock.monotonic() - BUSY_SECONDS
        self._turned_at = self._well_since = clock.monotonic()
        self._seen_at: datetime | None = None
        self._idle_pages = 0
        self._places: dict[State, Place | None] = {}
        self._failed_since: datetime | None = None
        self._failed_within, self._rewind_at = FAILED_WITHIN[0], 0.0
        self._alerted_after: str | None = None
        #: Routines that may have too many runs, and up to which occurrence, once that is known.
        self._crowded: dict[UUID, datetime | None] = {}

    def begin_round(self) -> None:
        """Look what there is to do; what is left of the round before comes first."""
        if not self._chores:
            self._chores.append(self._survey)

    def interrupt(self) -> None:
        """Something is wrong, with the database perhaps: what it kept from being written says
        nothing, until it has been well for a while."""
        self._well_since = self._clock.monotonic()

    def decided(self, routine: Routine, now: datetime) -> None:
        """A decision adds to a routine's runs: by chance, as often as a tenth of what may be kept
        goes into them, it is looked whether these are too many. Nothing has to be counted for
        that, nor is forgotten when a scheduler ends."""
        if (keep := self._settings.scheduler_keep_runs) == 0 or len(self._crowded) >= PRUNED:
            return
        if hash((routine.id.int, now)) % max(1, keep // 10) == 0:
            self._crowded[routine.id] = None

    def turn(self, instant: datetime, *, busy: bool, ready: bool) -> bool:
        """Do one chore, and delete one batch; whether there is more to do.

        *instant* is the present, as the database had it a moment ago; *ready*: the broker is there.
        """
        at = self._clock.monotonic()
        held_up = at - self._turned_at > GAP_SECONDS
        # The monotonic clock stands still while a machine sleeps, and knows no other's.
        jumped = self._seen_at is not None and abs(instant - self._seen_at) > GAP
        if held_up or jumped:
            self._well_since = at
        self._turned_at, self._seen_at = at, instant
        if busy and at - self._worked_at < BUSY_SECONDS:
            return False
        for chores in (self._chores, self._prunes):
            if chores:
                self._worked_at = at
                self._do(chores.popleft(), chores, _Now(instant, at, ready))
        return bool(self._chores or self._prunes)

    def _do(self, chore: _Chore, chores: deque[_Chore], now: _Now) -> None:
        name = getattr(getattr(chore, "func", chore), "__name__", "").strip("_")
        if now.monotonic < self._put_off.get(name, now.monotonic):
            return
        try:
            if chore(now):
                chores.append(chore)
        except (SQLAlchemyError, StoreError) as error:
            kind = kind_of(error)
            if kind is Fault.AWAY:
                self._put_off[name] = now.monotonic + UNANSWERED_SECONDS
                raise
            if kind is Fault.TRANSIENT:
                logger.debug("routines: %s met a lock, and is put off: %s", name, error)
                return
            self._put_off[name] = now.monotonic + FAILED_SECONDS
            logger.error(  # noqa: TRY400  the traceback is given
                "routines: %s failed, and is put off for %g s", name, FAILED_SECONDS, exc_info=error
            )

    def _survey(self, now: _Now) -> bool:
        if self._failed_since is None:
            self._failed_since = now.instant - self._failed_window(now.monotonic)
        self._idle_pages = 0
        tells_overdue = self._tells_overdue(now)
        found = self._store.survey(
            Since(
                silent=now.instant - self._lost_after if self._tells_silent(now) else None,
                unbegun=now.instant - self._patience.shortest,
                ended=now.instant - timedelta(seconds=self._settings.scheduler_keep_runs_for),
                overdue=now.instant - self._overdue_after if tells_overdue else None,
                failed=self._failed_since,
            )
        )
        self._chores += self._to_do(found)
        if not found.alerts:
            self._failed_since = None
        if not self._prunes:
            self._prunes += [self._prune] * found.old + [self._prune_crowded] * bool(self._crowded)
        return False

    def _to_do(self, found: Survey) -> list[_Chore]:
        chores = (
            (found.silent, self._sweep),
            (found.sent, self._redeliver),
            (found.retrying, self._redeliver_retries),
            (found.alerts, self._alert),
        )
        return [chore for wanted, chore in chores if wanted]

    def _sweep(self, now: _Now) -> bool:
        swept = self._store.sweep(
            self._on_worker_lost,
            now=now.instant,
            lost_after=self._lost_after,
            limit=SWEPT,
            may_send=now.ready,
        )
        self._settle(swept, now)
        return len(swept.lost) == SWEPT

    def _redeliver(self, now: _Now) -> bool:
        return self._walk(State.SENT, now)

    def _redeliver_retries(self, now: _Now) -> bool:
        return self._walk(State.RETRYING, now)

    def _walk(self, state: State, now: _Now) -> bool:
        def judge(task: str, run: Unbegun) -> Verdict | None:
            known = sends and self._on_worker_lost(task) is not None
            return judge_unbegun(run, now.instant, self._patience, redelivers=known)

        sends = now.ready and self._well_for(now, RECORDED_SECONDS)

        before = now.instant - self._patience.shortest
        walk = Walk(state, before, self._places.get(state), LOOKED_AT)
        swept = self._store.redeliver(judge, walk, limit=SWEPT)
        self._places[state] = swept.place
        self._settle(swept, now)
        # A long queue is not made twice as long all at once, nor looked through in every round.
        if not (swept.again or swept.lost):
            self._idle_pages += 1
        more = swept.place is not None and len(swept.again) < SWEPT
        return more and self._idle_pages < IDLE_PAGES

    def _settle(self, swept: Swept, now: _Now) -> None:
        """Tell what was found, and send what is to be sent again."""
        if swept.again:
            logger.info("routines: sending %d runs again", len(swept.again))
        for run, fault in self._publisher.publish(swept.again, now.monotonic, []):
            logger.error("routines: run %s cannot be sent again: %s", run.id, fault)
        for lost in swept.lost:
            announcements.tell_lost(lost)

    def _prune(self, now: _Now) -> bool:
        keeps = self._settings.scheduler_keep_runs_for, self._settings.scheduler_keep_changes_for
        before = (now.instant - timedelta(seconds=each) for each in keeps)
        return self._store.prune(*before, limit=PRUNED) == PRUNED

    def _prune_crowded(self, now: _Now) -> bool:
        """One batch of one routine."""
        key, until = self._crowded.popitem()
        if until is None:
            until = self._store.surplus(key, keep=self._settings.scheduler_keep_runs)
        if until is not None and self._store.prune_surplus(key, until, limit=PRUNED) == PRUNED:
            self._crowded[key] = until
        return bool(self._crowded)

    def _alert(self, now: _Now) -> bool:
        since = self._failed_since or now.instant
        found, changes = self._store.alert(
            overdue_before=now.instant - self._overdue_after,
            tells_overdue=self._tells_overdue(now),
            failed_since=since,
            alerted_after=self._alerted_after,
            limit=ALERTED,
        )
        self._alerted_after = found.alerted_after
        # As many at one instant as one look takes, with nothing to tell, would be seen for ever.
        step = timedelta(microseconds=found.failed_since == since and not changes)
        self._failed_since = found.failed_since and found.failed_since + step
        for change in changes:
            announcements.tell_change(change)
        goes_on = self._alerted_after is not None or self._failed_since is not None
        return goes_on or (found.more and bool(changes))

    def _failed_window(self, at: float) -> timedelta:
        """From how far back on runs that have failed are looked for in this round."""
        first, now_and_then, else_ = FAILED_WITHIN
        if self._failed_within == first or at >= self._rewind_at:
            window = first if self._failed_within == first else now_and_then
            self._failed_within = now_and_then
            self._rewind_at = at + self._settings.scheduler_sync_every
            return window
        return else_

    def _tells_overdue(self, now: _Now) -> bool:
        """Not while this scheduler may be about to claim it, after a stop or an outage."""
        return self._well_for(now, self._overdue_after.total_seconds())

    def _tells_silent(self, now: _Now) -> bool:
        """Not while workers may be about to beat again: in an outage none of them could."""
        return self._well_for(now, (self._lost_after / 3 + BEATS_AGAIN).total_seconds())

    def _well_for(self, now: _Now, seconds: float) -> bool:
        """Whether this scheduler has been at work that long, without an outage."""
        return now.monotonic - self._well_since >= seconds
