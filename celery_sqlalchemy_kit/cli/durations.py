"""Durations and instants as people type them: types of parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click

from ..clock import as_utc

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECONDS |= {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_SECONDS |= {f"{unit}s": _SECONDS[unit] for unit in ("second", "minute", "hour", "day", "week")}
_PART = rf"([0-9]+(?:\.[0-9]+)?)\s*({'|'.join(sorted(_SECONDS, key=len, reverse=True))})"
_WHOLE = re.compile(rf"{_PART}(?:\s*{_PART})*", re.ASCII)
ALLOWED = "such as 90s, 15m, 2h, 13.5d or 1h30m"


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A ``timedelta`` from ``90s``, ``15m``, ``2h``, ``13.5d``, ``1w`` or ``1h30m``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = duration(value)
        if found is None:
            self.fail(f"{value!r} is no duration; allowed are durations {ALLOWED}", param, ctx)
        return found


@dataclass(frozen=True)
class When:
    """An instant, or how far it is from the present, which only the database can tell."""

    instant: datetime | None = None
    offset: timedelta = timedelta(0)

    def at(self, now: datetime) -> datetime:
        """The instant, in UTC, if the present is *now*.

        Raises:
            click.UsageError: it is before the year 1, or after 9999.
        """
        if self.instant is not None:
            return self.instant
        try:
            return now + self.offset
        except OverflowError:
            raise click.UsageError(f"{abs(self.offset).days} days is too far away") from None


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A `When` from ISO 8601 with an offset, ``now``, or a duration.

    A duration is one before now if *past*, else one after; ``-2h`` and ``+2h`` say it themselves.
    """

    name = "instant"

    def __init__(self, *, past: bool = False) -> None:
        self.past = past

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> When:
        if isinstance(value, When):
            return value
        text = str(value).strip()
        if text == "now":
            return When()
        sign = text[:1] if text[:1] in ("+", "-") else "-" if self.past else "+"
        found = duration(text.removeprefix(sign))
        if found is not None:
            return When(offset=found if sign == "+" else -found)
        try:
            # Python 3.10 does not read the Z.
            return When(as_utc(datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))))
        except (ValueError, OverflowError):
            side = "before" if self.past else "after"
            self.fail(
                f"{value!r} is no instant; allowed are ISO 8601 with an offset, such as "
                f"2026-12-01T09:00:00Z or 2026-12-01T09:00+01:00, now, and durations {side} now "
                f"{ALLOWED}",
                param,
                ctx,
            )


def duration(text: str) -> timedelta | None:
    """How long *text* says: numbers with units; None: it says nothing.

    >>> duration("1h30m").total_seconds()
    5400.0
    """
    if not _WHOLE.fullmatch(text.strip().lower()):
        return None
    parts = re.findall(_PART, text.lower())
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
    except OverflowError:
        return None
