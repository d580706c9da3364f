"""What ``celery routines check`` has found, judged: pure, values in, lines out."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from ..migrations import CURRENT
from ..store.checkup import TOLD, Rows, Tables
from ..wakeups import Wakeups

#: By how much the clocks of host and database may differ.
OFFSET = timedelta(seconds=1)


class Level(str, enum.Enum):
    """How bad it is: an ``error`` keeps routines from running, or a scheduler from starting."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    words: str

    def line(self) -> str:
        return f"{self.level.value:<7}  {self.about}: {self.words}"

    def to_json(self) -> dict[str, str]:
        return {"level": self.level.value, "about": self.about, "words": self.words}


def ok(about: str, words: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, about, words)


def warning(about: str, words: str) -> Finding:
    """Routines run; something is late, or unlikely to be meant."""
    return Finding(Level.WARNING, about, words)


def error(about: str, words: str) -> Finding:
    """Routines do not run, or a scheduler does not start."""
    return Finding(Level.ERROR, about, words)


def of_settings(faults: Collection[str]) -> list[Finding]:
    """Each fault, by its setting."""
    return [error("settings", fault) for fault in faults] or [ok("settings", "all are right")]


def of_tables(tables: Tables, *, create_table: bool) -> list[Finding]:
    """Their version, and what takes note of an edit."""
    version = tables.version
    if version is not None and version > CURRENT:
        words = (
            f"of version {version}, and this code knows {CURRENT}: upgrade celery-sqlalchemy-kit"
        )
        return [error("tables", words)]
    if tables.lacking is not None or version not in (None, CURRENT):
        words = tables.lacking or f"of version {version}, this code works with {CURRENT}"
        if create_table:
            return [warning("tables", f"{words}; the next start of a scheduler does, or migrate")]
        return [error("tables", words)]
    made = "made by migrations of your own" if version is None else f"of version {version}"
    return [ok("tables", made), _of_triggers(tables)]


def _of_triggers(tables: Tables) -> Finding:
    if not tables.missing_triggers:
        return ok("triggers", "in force")
    missing = ", ".join(tables.missing_triggers)
    if tables.stand_in:
        words = "the columns planned_hash and edited stand in: edits are seen within a second"
        return ok("triggers", words)
    return warning(
        "triggers",
        f"missing, or not to be seen: {missing}; an edit of a schedule counts after the run that "
        "was planned before. migrate --sql prints them",
    )


def of_hearing(wakeups: Wakeups, *, heard: bool | None) -> Finding:
    """*heard*: whether what was called out came through; None: nobody calls."""
    if heard is False:
        return warning(
            "changes",
            "NOTIFY does not come through, as with a pooler in transaction mode: set "
            "scheduler_notify to false, or changes are seen late",
        )
    return ok("changes", f"heard of by {wakeups.how}")


def of_offset(offset: timedelta) -> Finding:
    """By how much the database's clock is before this host's."""
    seconds = offset.total_seconds()
    words = f"the database's is {abs(seconds):.3f} s {'behind' if seconds < 0 else 'ahead of'} ours"
    return (warning if abs(offset) > OFFSET else ok)("clock", words)


def of_rows(rows: Rows) -> list[Finding]:
    """Active routines that cannot be scheduled."""
    told = [error("routines", f"{name!r}: {fault}") for name, fault in rows.faulty.items()]
    if rows.faults > len(told):
        told.append(error("routines", f"… and {rows.faults - len(told)} more with an error"))
    return told or [ok("routines", "none that is active has an error")]


def of_tasks(rows: Rows, known: Collection[str]) -> list[Finding]:
    """Of those that active routines name; workers may know more tasks than this app."""
    unknown = sorted(rows.tasks.keys() - set(known))
    told = [warning("tasks", _unknown(task, rows.tasks[task])) for task in unknown[:TOLD]]
    if len(unknown) > TOLD:
        told.append(warning("tasks", f"… and {len(unknown) - TOLD} more that are not known"))
    return told or [ok("tasks", "this app knows all that active routines name")]


def _unknown(task: str, routines: int) -> str:
    many = "1 active routine names" if routines == 1 else f"{routines} active routines name"
    return f"{many} {task!r}, which this app does not know"


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of all."""
    levels = list(Level)
    return max((each.level for each in findings), key=levels.index, default=Level.OK)
