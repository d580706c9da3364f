"""What becomes of a run that was claimed and, for whatever reason, not published: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .clock import UTC
from .routines import CatchUp, Cause, State

#: A run that nobody could publish for so long is given up.
LONGEST_WAIT = timedelta(hours=24)
#: Attempts after which a run whose message is at fault is given up.
MOST_ATTEMPTS = 5


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
class Verdict:
    """Published again (``state`` is None), or ended with a reason."""

    state: State | None = None
    reason: str | None = None


def judge(run: Stranded, now: datetime, misfire_grace: timedelta) -> Verdict:
    """Publish it, or say why not.

    It runs only while its routine is there and active (an order by hand excepted, and the last
    run of a routine that is over and turned inactive with it), and ends ``missed`` at the
    earliest of its ``expires``, its routine's next occurrence (once it is later than the grace,
    and unless all are to be caught up) and 24 hours.
    """
    by_hand = run.cause in (Cause.MANUAL, Cause.BACKFILL)
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


def expiry(scheduled_for: datetime, options: Mapping[str, Any]) -> datetime | None:
    """When the option ``expires`` (seconds, or an ISO 8601 instant) makes a run worthless."""
    expires = options.get("expires")
    if isinstance(expires, (int, float)) and not isinstance(expires, bool):
        try:
            return scheduled_for + timedelta(seconds=expires)
        except (OverflowError, ValueError):  # past the year 9999; not a number
            return None
    if isinstance(expires, str):
        try:
            instant = datetime.fromisoformat(expires.replace("Z", "+00:00"))
        except ValueError:
            return None
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return None
