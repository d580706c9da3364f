"""Whether routines are sent as they should be: beats and overdue rows in, a verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

#: Rows of each kind that are looked at; what is beyond is not counted.
COUNTED = 1000
#: Rows of each kind that are told one by one.
SHOWN = 10
#: Lateness of a live scheduler from which a namespace is unhealthy, unless somebody says otherwise.
MAX_LATENESS = timedelta(seconds=60)


@dataclass(frozen=True)
class Beat:
    """What a scheduler has last told; *lateness* is its worst between its last two beats."""

    host: str
    pid: int
    seen_at: datetime
    lateness: timedelta


@dataclass(frozen=True)
class Overdue:
    """A routine whose time has come and gone."""

    name: str
    due_at: datetime


@dataclass(frozen=True)
class Bounds:
    """What is allowed; None: not judged. *host*: only the schedulers there count."""

    silence: timedelta
    lateness: timedelta | None
    overdue: timedelta | None
    host: str | None = None


@dataclass(frozen=True)
class Seen:
    """What the tables say: beats, the latest first; overdue routines, the oldest first.

    At most `COUNTED` of each.
    """

    now: datetime
    beats: tuple[Beat, ...] = ()
    overdue: tuple[Overdue, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """*problems* in words, none if *healthy*, but for an outage that is tolerated."""

    healthy: bool
    problems: tuple[str, ...]
    seen: Seen | None = None
    alive: frozenset[Beat] = frozenset()

    def lines(self) -> list[str]:
        """One for each scheduler, then what is wrong or that nothing is; bounded."""
        told = [] if self.seen is None else self._schedulers(self.seen)
        word = "healthy" if self.healthy else "unhealthy"
        return [*told, *([f"{word}: {problem}" for problem in self.problems] or [word])]

    def to_json(self) -> dict[str, Any]:
        """The same as values; times are ISO 8601 in UTC, durations are seconds."""
        seen = self.seen
        return {
            "healthy": self.healthy,
            "problems": list(self.problems),
            "now": None if seen is None else seen.now.isoformat(),
            "schedulers": [
                {
                    "host": beat.host,
                    "pid": beat.pid,
                    "alive": beat in self.alive,
                    "seen_at": beat.seen_at.isoformat(),
                    "lateness_seconds": beat.lateness.total_seconds(),
                }
                for beat in (seen.beats[:SHOWN] if seen else ())
            ],
            "overdue": [
                {"name": routine.name, "due_at": routine.due_at.isoformat()}
                for routine in (seen.overdue[:SHOWN] if seen else ())
            ],
        }

    def _schedulers(self, seen: Seen) -> list[str]:
        told = []
        for beat in seen.beats[:SHOWN]:
            ago = f"scheduler {_who(beat)}: last beat {_seconds(seen.now - beat.seen_at)} ago"
            late = f", at most {_seconds(beat.lateness)} late"
            told.append(ago + (late if beat in self.alive else ", counts no longer"))
        return told + _more(seen.beats, "schedulers")


def judge(seen: Seen, bounds: Bounds) -> Verdict:
    """At least one scheduler has beaten lately, none that lives is late, no routine is overdue."""
    alive = [beat for beat in seen.beats if seen.now - beat.seen_at <= bounds.silence]
    problems = [] if alive else [_silence(seen, bounds)]
    if bounds.lateness is not None:
        late = [beat for beat in alive if beat.lateness > bounds.lateness]
        problems += [
            f"scheduler {_who(beat)} was {_seconds(beat.lateness)} late; allowed are "
            f"{_seconds(bounds.lateness)}"
            for beat in late[:SHOWN]
        ]
        problems += _more(late, "schedulers were late")
    if bounds.overdue is not None:
        problems += [
            f"routine {routine.name!r} is overdue: due at {routine.due_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"{_seconds(seen.now - routine.due_at)} ago"
            for routine in seen.overdue[:SHOWN]
        ]
        problems += _more(seen.overdue, "routines are overdue")
    return Verdict(not problems, tuple(problems), seen, frozenset(alive))


def _silence(seen: Seen, bounds: Bounds) -> str:
    where = "" if bounds.host is None else f" on {bounds.host}"
    if not seen.beats:
        return f"no scheduler runs{where}"
    silent = _seconds(seen.now - seen.beats[0].seen_at)
    return f"no scheduler{where} has beaten for {silent}; allowed are {_seconds(bounds.silence)}"


def _who(beat: Beat) -> str:
    return f"{beat.host}[{beat.pid}]"


def _more(rows: Sequence[object], what: str) -> list[str]:
    if len(rows) <= SHOWN:
        return []
    least = "at least " if len(rows) >= COUNTED else ""
    return [f"and {least}{len(rows) - SHOWN} more {what}"]


def _seconds(duration: timedelta) -> str:
    return f"{max(0.0, duration.total_seconds()):.1f} s"
