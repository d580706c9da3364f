"""The errors of this package, one small tree.

::

    KitError
    ├── SettingsError      settings that are missing or wrong, all of them at once
    ├── DeclarationError   a task or routine declared wrongly in code
    ├── ScheduleError      a value that is no schedule
    ├── RoutineError       one row of ``routines`` that cannot be scheduled
    ├── SchemaError        tables that are not ours, too old, or cannot be upgraded
    ├── NotFoundError      no routine, or no run, of that name or id
    └── ConflictError      what cannot be done as things stand: a name is taken, a run has begun
"""

from __future__ import annotations

from collections.abc import Sequence


class KitError(Exception):
    """Root of every error that this package raises on its own account."""


class SettingsError(KitError):
    """Settings are missing or wrong; ``faults`` holds one line for each of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))

    def __reduce__(self) -> tuple[type[SettingsError], tuple[tuple[str, ...]]]:
        return type(self), (self.faults,)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        return f"{len(self.faults)} settings are wrong:{lines}"


class DeclarationError(KitError):
    """A task or routine is declared wrongly in code; raised where it is declared."""


class ScheduleError(KitError, ValueError):
    """A value is no schedule; the message names the field, the value and what is allowed."""


class RoutineError(KitError, ValueError):
    """One row of ``routines`` cannot be scheduled; the message goes into its ``error``."""


class SchemaError(KitError):
    """The tables are not ours, are newer than this code, or cannot be upgraded as they stand."""


class NotFoundError(KitError, LookupError):
    """There is no routine, or no run, of that name or id; the message says which was asked for."""


class ConflictError(KitError):
    """What was asked for cannot be done as things stand; the message says what is in its way."""
