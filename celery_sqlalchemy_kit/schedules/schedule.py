"""What every kind of schedule can do, and how a value that is no schedule is refused."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from ..errors import ScheduleError


class Schedule:
    """When a routine is due: a frozen, hashable value, equal to another of the same meaning.

    The kinds derive from it.

    Instants are aware UTC, in and out. *anchor* is any instant of the phase grid; intervals count
    from it, what follows the calendar ignores it.
    """

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """The first occurrence strictly after *instant*; None: never again."""
        raise NotImplementedError

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        """The newest occurrence after *after*, at or before *until*; None: there is none."""
        raise NotImplementedError

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        """How many occurrences there are after *after*, at or before *until*."""
        raise NotImplementedError

    def upcoming(
        self, after: datetime, n: int, *, anchor: datetime | None = None
    ) -> list[datetime]:
        """The next *n* occurrences after *after*; fewer if there are no more.

        Of an interval without an anchor: as if it were planned at *after*. Of `After` the first
        alone, if its run ended at *after*: when that one ends, nobody knows yet.
        """
        found: list[datetime] = []
        instant = self.next_after(after, anchor=anchor) if n > 0 else None
        while instant is not None:
            found.append(instant)
            instant = self.next_after(instant, anchor=anchor) if len(found) < n else None
        return found

    def to_json(self) -> dict[str, Any]:
        """What stands in the table; `from_json` makes an equal schedule of it."""
        raise NotImplementedError

    def words(self) -> str:
        """What a person reads: ``every 15 s``, ``at 09:00, Monday through Friday``."""
        raise NotImplementedError


def refused(value: object, fault: str) -> ScheduleError:
    """The error that says what is wrong with *value* as a schedule."""
    return ScheduleError(f"schedule {shown(value)}: {fault}")


def check_keys(value: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raise a `ScheduleError` if *value*, a schedule's JSON, has any other key."""
    for key in value:
        if key not in allowed:
            raise refused(value, f"unknown key {quoted(key)}; allowed are {', '.join(allowed)}")


def shown(value: object) -> str:
    """*value* as JSON where that is possible, in at most 200 characters that any column takes."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = quoted(value)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 3] + "..."
    # JSON may hold half of a surrogate pair, which no encoding does.
    return text.encode(errors="backslashreplace").decode()


def quoted(value: object) -> str:
    """*value* as Python writes it, with the middle left out if it is long."""
    try:
        return _REPR.repr(value)
    except ValueError:  # an int of more digits than Python prints
        return f"<{type(value).__name__}>"


_LONGEST = 200
_REPR = reprlib.Repr()
_REPR.maxother = _REPR.maxstring = _LONGEST
