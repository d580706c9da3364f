"""After: a fixed delay from the end of a run to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery.schedules import schedule as celery_schedule

from ..clock import as_utc
from .interval import LONGEST, is_number, seconds_of, shown_seconds
from .schedule import Schedule, check_keys, refused

_ALLOWED = "allowed are 0 to 3155760000 seconds (100 years)"


@dataclass(frozen=True, init=False)
class After(Schedule):
    """That long after the run before has ended, however it ended; the first run is at once.

    *delay* is a timedelta or seconds, 0 to 100 years. To it, an instant is the end of a run.
    """

    delay: timedelta

    def __init__(self, delay: timedelta | float) -> None:
        object.__setattr__(self, "delay", _delay(delay, delay))

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        try:
            return as_utc(instant) + max(self.delay, _MOMENT)
        except OverflowError:  # past the year 9999
            return None

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        """None: what comes after a run is known once it has ended."""

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        """0, for the same reason."""
        return 0

    def upcoming(
        self, after: datetime, n: int, *, anchor: datetime | None = None
    ) -> list[datetime]:
        return super().upcoming(after, min(n, 1))

    def to_json(self) -> dict[str, Any]:
        return {"after": shown_seconds(self.delay)}

    def words(self) -> str:
        return f"{shown_seconds(self.delay)} s after the run before has ended"


def from_json(value: Mapping[str, Any], timezone: str) -> After:
    """Read ``{"after": 5}``: seconds; *timezone* means nothing to elapsed time."""
    check_keys(value, ("after",))
    return After(_delay(value["after"], value))


def from_code(value: object, timezone: str) -> After | None:
    """Read an `After`; None for anything else."""
    return value if isinstance(value, After) else None


def to_celery(after: After) -> celery_schedule:
    """Celery has no such schedule: an interval as long takes its place."""
    return celery_schedule(after.delay)


def _delay(value: object, of: object) -> timedelta:
    delay = value if isinstance(value, timedelta) else None
    if is_number(value):
        delay = seconds_of(value)
    if delay is None or not timedelta(0) <= delay <= LONGEST:
        raise refused(of, f"a delay is a number of seconds; {_ALLOWED}")
    return delay


_MOMENT = timedelta(microseconds=1)
