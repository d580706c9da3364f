"""The verbs of `Routines` that have to do with runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..details import RoutineDetails, RunDetails
from ..routines import OneOff, State
from ..store.orders import Backfill, Span
from .transacting import Transacting

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .fields import Within

HOUR = timedelta(hours=1)


class RunVerbs(Transacting):
    """Runs now, then, and those that have been; see `Routines`."""

    def run_now(
        self,
        key: str | UUID,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        note: str | None = None,
        **where: Unpack[Within],
    ) -> UUID:
        """Run a routine now, once, whether it is active or not; returns the run's id, which is the
        Celery task's. What is given takes the place of the routine's own.

        Raises:
            NotFoundError: there is no such routine.
            ConflictError: its ``overlap`` forbids it, as a run is unfinished.
            RoutineError: what is given, or the routine itself, cannot be sent.
        """
        given = {"args": args, "kwargs": kwargs, "options": options}
        return self._do(self.verbs.run_now(key, given, note), **where)

    def backfill(
        self,
        key: str | UUID,
        span: Span,
        *,
        dry_run: bool = False,
        note: str | None = None,
        **where: Unpack[Within],
    ) -> Backfill:
        """Run a routine for occurrences that have been; see `Span`. *dry_run*: only tell which.

        Raises:
            NotFoundError: there is no such routine.
            RoutineError: there are more occurrences than the span's limit, or none that are known
                beforehand, or the routine cannot be sent.
        """
        verb = self.verbs.backfill(key, span, dry_run=dry_run, note=note)
        return self._do(verb, **where)

    def history(
        self,
        key: str | UUID | None = None,
        *,
        states: Iterable[State | str] = (),
        since: datetime | None = None,
        limit: int | None = 100,
        **where: Unpack[Within],
    ) -> list[RunDetails]:
        """The runs of one routine, or of all, newest first, at most *limit* (None: all there are).

        *key* may also be that of a routine that has been removed, and the id of a one-off.
        *states*: only those; none: any. *since*: an aware instant; of one routine by the
        occurrence, of all by the end.

        Raises:
            NotFoundError: there is no such routine, and no run of it.
        """
        return self._look(self.verbs.history(key, states, since, limit), **where)

    def run(self, run_id: str | UUID, **where: Unpack[Within]) -> RunDetails:
        """The run of that id.

        Raises:
            NotFoundError: there is none, or it was pruned.
        """
        return self._look(self.verbs.run(run_id), **where)

    def last_runs(self, ids: Iterable[UUID], **where: Unpack[Within]) -> dict[UUID, RunDetails]:
        """Of each routine the run whose occurrence is the newest, by the routine's id."""
        return self._look(self.verbs.last_runs(ids), **where)

    def upcoming(
        self, within: timedelta = HOUR, *, limit: int = 1000, **where: Unpack[Within]
    ) -> list[tuple[datetime, RoutineDetails]]:
        """When routines are due from now on, in order: the first *limit* *within* that time."""
        return self._look(self.verbs.upcoming(within, limit), **where)

    def next_runs(self, key: str | UUID, n: int = 10, **where: Unpack[Within]) -> list[datetime]:
        """When one routine is due next, at most *n* times; not at all if it is off.

        Raises:
            NotFoundError: there is no such routine.
        """
        return self._look(self.verbs.next_runs(key, n), **where)

    def once(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
        in_: timedelta | float | None = None,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        **where: Unpack[Within],
    ) -> UUID:
        """Run a task once: *at* an aware instant, *in_* a while (a timedelta, or seconds), or now.

        In the caller's transaction this is an outbox: the task is sent if and only if that is
        committed. Returns an id, with which to `get`, `reschedule` and `cancel` it, and to see
        its run by `history`. Exact to the microsecond that the database keeps; it is sent when a
        scheduler is there, however late.

        Raises:
            RoutineError: names the field, its value and what is allowed.
            ConflictError: a routine has this *name*.
        """
        wanted = OneOff(task, args, kwargs or {}, options or {}, at, in_, name)
        return self._do(self.verbs.once([wanted]), **where)[0]

    def once_all(self, wanted: Iterable[OneOff], **where: Unpack[Within]) -> list[UUID]:
        """`once` for many, in one transaction; returns the ids, in the same order."""
        return self._do(self.verbs.once(wanted), **where)

    def reschedule(
        self,
        key: str | UUID,
        *,
        at: datetime | None = None,
        in_: timedelta | float | None = None,
        note: str | None = None,
        **where: Unpack[Within],
    ) -> datetime:
        """Have a one-off run at another time; returns that.

        Raises:
            NotFoundError: there is no such one-off.
            ConflictError: it has been claimed: it runs, or has run.
        """
        return self._do(self.verbs.reschedule(key, at, in_, note), **where)

    def cancel(self, key: str | UUID, *, note: str | None = None, **where: Unpack[Within]) -> bool:
        """Have a one-off not run; false: too late, it has begun, or is over.

        One whose message has been sent can be stopped until it begins if its task is built on the
        kit's; a worker runs another task all the same.

        Raises:
            NotFoundError: there is no such one-off.
        """
        return self._do(self.verbs.cancel(key, note), **where)
