"""Claims, and what is published of them: one after the other, or several under way at once.

A claim waits for the database half of its time. While there is more to claim than one batch, others
are begun in threads meanwhile, each as if it were another scheduler's; what they have taken is
published by the one thread that publishes, as soon as it is done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from .bookmark import Bookmark
from .clock import Clock
from .storage import SchedulerStore
from .storage.values import Batch, Decide, Position

#: Rows that the first of several claims in a row takes; each next one twice as many as the one
#: before, up to the batch size. The first messages of many leave soon, and while they do, the
#: others are claimed. Only gradually is it less again: what comes in all the time comes unevenly.
FIRST = 100


class Ahead(NamedTuple):
    """What may be done before it has to be.

    *claims*: how many may be under way while one is published; the store has to bear as many calls
    besides. *seconds*: by which, at most, what is due is claimed before it is, to be sent when it
    is.
    """

    claims: int = 0
    seconds: float = 0.0


NOTHING_AHEAD = Ahead()

T = TypeVar("T")


class Taken(NamedTuple):
    """What a claim took; when it was begun, in monotonic seconds, and until when it went."""

    batch: Batch
    began: float
    until: datetime | None


class Streak:
    """Work without a pause in between: since when, by the database's clock.

    What becomes late while it lasts is the scheduler's own backlog, not a miss.
    """

    def __init__(self, began: float) -> None:
        self.since: datetime | None = None
        self.more = False
        self.touched = began

    def goes_on(self, batch: Batch, now: float) -> None:
        self.since = self.since or batch.now
        self.touched = now
        self.more = batch.more


@dataclass(frozen=True, eq=False)
class _Claim:
    """One that is under way: since when, how many rows at most, from where on, until when, and what
    has been published that it confirms."""

    began: float
    limit: int
    after: Position | None
    until: datetime | None
    confirms: list[list[UUID]]
    batch: Future[Batch]


class Pipeline:
    """The claims of one scheduler. *ahead*: see `Ahead.claims`."""

    def __init__(
        self, store: SchedulerStore, clock: Clock, bookmark: Bookmark, *, limit: int, ahead: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._bookmark = bookmark
        self._limit = limit
        self._most_ahead = ahead
        #: How often the number of rows of the next claim is doubled: once more with each that is
        #: begun, as long as it is no full batch; and twice less with each that has left nothing.
        self._doublings = 0
        self._ahead: deque[_Claim] = deque()
        #: By batch: what is handed to a claim to be confirmed stays here until that has returned.
        self._published: list[list[UUID]] = []
        self._own = Future[None]()
        self._own.set_result(None)

    @property
    def published(self) -> list[UUID]:
        """What is not yet known as such to the ledger."""
        return list(chain.from_iterable(self._published))

    @property
    def under_way(self) -> bool:
        """Whether there are batches to come that are claimed already."""
        return bool(self._ahead)

    def record(self) -> list[UUID]:
        """Where to note what is published now."""
        sent: list[UUID] = []
        self._published.append(sent)
        return sent

    def take(self, decide: Decide, until: datetime | None = None) -> Taken:
        """The next batch: of claims under way, of the first that is done. *until*: see
        `SchedulerStore.claim`; what is under way has its own.

        Of claims under way that fail, as one that is cut off takes others with it, one is told,
        and that only if none succeeds.

        Raises:
            Exception: what the claim raised. What it was to confirm, a later one does.
        """
        fault: Exception | None = None
        while self._ahead:
            claim = self._done()[0]
            try:
                return Taken(self._leave(claim), claim.began, claim.until)
            except Exception as error:  # noqa: BLE001  raised below
                fault = error
        if fault is not None:
            raise fault
        claim = self._claim(until)
        with self._own_call():
            batch = self._ask(claim, decide)
        return Taken(self._taken(claim, batch), claim.began, until)

    def gather(self, decide: Decide, first: Taken, by: float, most: int) -> Iterator[Batch]:
        """What else is due until the same instant as the *first*, as far as it has come *by* then,
        in monotonic seconds; about *most* rows. One that has failed is left to `take`."""
        more, rows = first.batch.more, first.batch.rows
        while (more or self._ahead) and rows < most:
            if more:
                self.go_ahead(decide, first.until)
            done = self._done(max(0.0, by - self._clock.monotonic()))
            claim = next((each for each in done if each.batch.exception() is None), None)
            if claim is None:
                return
            batch = self._leave(claim)
            more, rows = batch.more, rows + batch.rows
            yield batch

    def go_ahead(self, decide: Decide, until: datetime | None = None) -> None:
        """Begin further claims, as there is more."""
        while len(self._ahead) < self._most_ahead:
            claim = self._claim(until)
            try:
                in_a_thread(claim.batch, partial(self._ask, claim, decide))
            except RuntimeError:  # the system has no more threads for us
                return
            self._ahead.append(claim)

    def finish(self, seconds: float) -> None:
        """Wait so long at most for what is under way: what it confirms is not confirmed otherwise
        meanwhile. As long, if a stop has cut short a call, for the database to notice it."""
        calls: list[Future[Any]] = [self._own, *(claim.batch for claim in self._ahead)]
        wait(calls, timeout=seconds)

    def confirm(self) -> None:
        """Tell the ledger what was published, without a claim."""
        confirms = self._unconfirmed()
        if confirms:
            with self._own_call():
                self._store.confirm(chain.from_iterable(confirms))
            self._forget(confirms)

    def settle(self) -> None:
        """Nothing can be published: what is claimed already is claimed anew later."""
        while self._ahead:
            self._leave(self._done()[0])
        self.confirm()

    def _claim(self, until: datetime | None) -> _Claim:
        limit = min(self._limit, FIRST << self._doublings)
        if limit < self._limit:
            self._doublings += 1
        began, after = self._clock.monotonic(), self._bookmark.position()
        return _Claim(began, limit, after, until, self._unconfirmed(), Future())

    def _ask(self, claim: _Claim, decide: Decide) -> Batch:
        return self._store.claim(
            decide,
            limit=claim.limit,
            after=claim.after,
            published=chain.from_iterable(claim.confirms),
            until=claim.until,
        )

    def _done(self, seconds: float | None = None) -> list[_Claim]:
        """Claims under way that are done, as soon as one is; none if it takes longer than that."""
        wait([claim.batch for claim in self._ahead], seconds, FIRST_COMPLETED)
        return [claim for claim in self._ahead if claim.batch.done()]

    def _leave(self, claim: _Claim) -> Batch:
        """One that is done is under way no longer; until then it is, as a stop may come.

        Raises:
            Exception: it has failed; what it was to take is still due.
        """
        try:
            batch = self._taken(claim, claim.batch.result())
        except Exception:
            self._ahead.remove(claim)
            self._bookmark.begin_anew()
            raise
        self._ahead.remove(claim)
        return batch

    def _taken(self, claim: _Claim, batch: Batch) -> Batch:
        if not batch.more:
            self._doublings = max(0, self._doublings - 2)
        self._forget(claim.confirms)
        self._bookmark.claimed(batch, claim.after, claim.began)
        return batch

    @contextmanager
    def _own_call(self) -> Iterator[None]:
        """A call of this thread, which a stop may cut short."""
        self._own = Future()
        try:
            yield
        except Exception:
            self._own.set_result(None)
            raise
        self._own.set_result(None)

    def _unconfirmed(self) -> list[list[UUID]]:
        """What no claim under way confirms."""
        told = {id(sent) for claim in self._ahead for sent in claim.confirms}
        return [sent for sent in self._published if sent and id(sent) not in told]

    def _forget(self, confirmed: list[list[UUID]]) -> None:
        told = set(map(id, confirmed))
        self._published = [sent for sent in self._published if sent and id(sent) not in told]


def in_a_thread(answer: Future[T], call: Callable[[], T]) -> None:
    """One that nobody waits for when the process ends: a database may never answer.

    Raises:
        RuntimeError: the system has no more threads for us.
    """

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised where the answer is waited for
            answer.set_exception(error)

    threading.Thread(target=run, name="routines-claim", daemon=True).start()
