"""What becomes of a run that got stuck: claimed and not published, or sent and not begun: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from .clock import UTC
from .routines import BY_HAND, CatchUp, Cause, Overlap, Run, State

#: A run that nobody could publish for so long is given up.
LONGEST_WAIT = timedelta(hours=24)
#: Attempts after which a run whose message is at fault is given up.
MOST_ATTEMPTS = 5
#: Unbegun runs of one task that are sent again; the others wait until these have begun. Where
#: workers have fallen behind, all of them would make the queue longer, and that them slower.
WINDOW = 50


@dataclass(frozen=True)
class Stranded:
    """A claimed run that is still unpublished, and how its routine stands now.

    ``following`` is the routine's occurrence after it, None if none is known; ``over``: none will
    ever follow. ``present`` and ``active`` tell whether the routine is still there and switched
    on. ``claimed_at`` is when it was last claimed: what was late already when it was claimed waits
    since then.
    """

    scheduled_for: datetime
    cause: Cause
    options: Mapping[str, Any]
    publish_attempts: int
    fault: str | None
    present: bool
    active: bool
    catch_up: CatchUp
    following: datetime | None
    over: bool = False
    claimed_at: datetime | None = None


@dataclass(frozen=True)
class Standing:
    """How the routine of a run stands now: its columns of these names."""

    active: bool
    catch_up: str
    overlap: str
    occurrence_at: datetime | None
    waiting_for: UUID | str | None


def stranded(
    run: Run,
    routine: Standing | None,
    *,
    claimed_at: datetime | None,
    publish_attempts: int = 1,
    fault: str | None = None,
) -> Stranded:
    """What a run that is claimed, or waits, is judged by; *routine*: None if it is there no more.

    *claimed_at*: when it was last claimed, or began to wait.
    """
    # One that was queued is late because it waited: neither that nor what has come since is a
    # reason to drop it.
    queued = routine is not None and routine.overlap == Overlap.QUEUE
    kept = queued or (routine is not None and routine.catch_up == CatchUp.ALL)
    late = queued and run.cause is Cause.SCHEDULE
    following = routine.occurrence_at if routine else None
    if following == run.scheduled_for:  # a routine that runs once, or waits for the run's end
        following = None
    return Stranded(
        scheduled_for=run.scheduled_for,
        cause=Cause.CATCH_UP if late else run.cause,
        options=run.options,
        publish_attempts=publish_attempts,
        fault=fault,
        present=routine is not None,
        active=routine is not None and routine.active,
        catch_up=CatchUp.ALL if kept else CatchUp.LATEST,
        following=following,
        over=following is None and not (routine and routine.waiting_for),
        claimed_at=claimed_at,
    )


@dataclass(frozen=True)
class Verdict:
    """Published again (``state`` is None), or ended with a reason."""

    state: State | None = None
    reason: str | None = None


def judge(run: Stranded, now: datetime, misfire_grace: timedelta) -> Verdict:
    """Publish it, or say why not.

    It runs only while its routine is there and active (an order by hand excepted, and the last
    run of a routine that is over and turned inactive with it), and ends ``missed`` at the
    earliest of its ``expires``, its routine's next occurrence (once it is later than the grace,
    and unless all are to be caught up) and 24 hours. One that ends, however, is not counted in
    ``total_run_count``.
    """
    by_hand = run.cause in BY_HAND
    if not by_hand and not (run.present and (run.active or run.over)):
        return Verdict(State.SKIPPED, "inactive" if run.present else "removed")
    if run.fault is not None and run.publish_attempts >= MOST_ATTEMPTS:
        return Verdict(State.MISSED, f"not publishable: {run.fault}")
    late = now - run.scheduled_for
    since = run.scheduled_for
    if run.cause is not Cause.SCHEDULE:
        since = max(since, run.claimed_at or since)
    expires = expiry(since, run.options)
    if expires is not None and expires <= now:
        return Verdict(State.MISSED, "expired before it could be published")
    if now - since > LONGEST_WAIT:
        return Verdict(State.MISSED, "not published within 24 hours")
    overtaken = run.following is not None and run.following <= now and late > misfire_grace
    if overtaken and not by_hand and run.catch_up is not CatchUp.ALL:
        return Verdict(State.MISSED, "not published before the next occurrence")
    return Verdict()


@dataclass(frozen=True)
class Unbegun:
    """A run whose message the broker has, and which nobody has begun *since* it was sent, or put
    back by who had begun it last, or since its retry was due."""

    since: datetime
    claimed_at: datetime
    options: Mapping[str, Any]
    publish_attempts: int


@dataclass(frozen=True)
class Patience:
    """How long a run may be unbegun until it is sent again (zero: never), and until it is lost."""

    redeliver_after: timedelta
    unstarted_after: timedelta

    @property
    def shortest(self) -> timedelta:
        """An age below which nothing is done."""
        return min(self.redeliver_after or self.unstarted_after, self.unstarted_after)


def judge_unbegun(
    run: Unbegun, now: datetime, patience: Patience, *, redelivers: bool
) -> Verdict | None:
    """Send it again, or end it ``lost``; None: neither yet.

    *redelivers*: a worker that is given its message twice runs it once. It is sent again each time
    that its age has doubled, as its message may well be waiting in a long queue; and not before
    the ``countdown`` or ``eta`` that it was sent with.
    """
    expires = expiry(run.claimed_at, run.options)
    if expires is not None and expires <= now:
        # Its worker, if there is one, is left some time to say so.
        over = now - max(expires, run.since) >= patience.shortest
        return Verdict(State.LOST, "expired before it was begun") if over else None
    age = now - max(run.since, not_before(run.claimed_at, run.options) or run.since)
    if age >= patience.unstarted_after:
        return Verdict(State.LOST, f"nobody began it for {age.total_seconds():.0f} s")
    doubled = 2 ** min(max(run.publish_attempts, 1) - 1, 30)
    waited = patience.redeliver_after and age >= patience.redeliver_after * doubled
    return Verdict() if redelivers and waited else None


def at_once(run: Run) -> Run:
    """The run as its message is sent again: what put it off the first time is over."""
    options = {k: v for k, v in run.options.items() if k not in ("countdown", "eta")}
    return replace(run, options=options)


def expiry(since: datetime, options: Mapping[str, Any]) -> datetime | None:
    """When the option ``expires`` (seconds, or an ISO 8601 instant) makes a run worthless."""
    return _instant(since, options.get("expires"))


def not_before(since: datetime, options: Mapping[str, Any]) -> datetime | None:
    """Until when the options ``countdown`` (seconds) or ``eta`` put a run off."""
    put_off = options.get("countdown") or options.get("eta")
    return _instant(since, put_off)


def _instant(since: datetime, value: Any) -> datetime | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return since + timedelta(seconds=value)
        except (OverflowError, ValueError):  # past the year 9999; not a number
            return None
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return None
