"""The errors of this package, one small tree.

::

    KitError
    ├── SettingsError      settings that are missing or wrong, all of them at once
    ├── DeclarationError   a task or routine declared wrongly in code
    ├── ScheduleError      a value that is no schedule
    ├── RoutineError       one row of ``routines`` that cannot be scheduled
    ├── SchemaError        tables that are not ours, too old, or cannot be upgraded
    ├── NotFoundError      no routine, or no run, of that name or id
    ├── ConflictError      what cannot be done as things stand: a name is taken, a run has begun
    ├── StoreError         what a store of another kind than SQL raises
    │   ├── StoreBusyError    a lock or a race was lost: the same again may succeed
    │   └── StoreAwayError    it cannot be reached
    ├── ParameterError     what the command of a ShellTask cannot be called with
    ├── CommandError       the command of a ShellTask, failed or ended at its limit
    ├── DocumentError      a document of routines that cannot be read, all its faults at once
    └── SourceError        another scheduler's store that cannot be read
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

#: Bytes of a command's output that the message of its `CommandError` shows.
_SHOWN_BYTES = 3072


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


class StoreError(KitError):
    """A store of another kind than SQL is in trouble; raised by these stores alone."""


class StoreBusyError(StoreError):
    """A lock or a race was lost; the same again may well succeed."""


class StoreAwayError(StoreError):
    """The storage cannot be reached, or went away."""


class ParameterError(KitError, ValueError):
    """A command cannot be called with these parameters; the message names the task, each wrong
    parameter, its value and what is allowed."""


class CommandError(KitError):
    """The command of a ShellTask failed, or was ended as it had reached its limit.

    The message shows the last 3,072 bytes of the output, so that ``routine_runs.error`` holds it.
    """

    def __init__(
        self,
        task: str,
        program: str,
        exit_code: int | None,
        output: str,
        seconds: float,
        limit_seconds: float | None = None,
    ) -> None:
        # Result backends make it anew of these.
        super().__init__(task, program, exit_code, output, seconds, limit_seconds)
        self.task = task
        self.program = program
        #: Negative for a signal; None for a process that not even SIGKILL has ended.
        self.exit_code = exit_code
        #: As much of its end as ``output_tail_bytes`` says.
        self.output = output
        self.seconds = seconds
        #: The limit, if it was reached.
        self.limit_seconds = limit_seconds

    def __str__(self) -> str:
        shown = self.output.encode("utf-8", "backslashreplace")[-_SHOWN_BYTES:]
        output = shown.decode("utf-8", "ignore").strip()
        told = f"the output ends:\n{output}" if output else "there is no output"
        return f"task {self.task!r}: {self.program} {self._end()}; {told}"

    def _end(self) -> str:
        if self.limit_seconds is not None:
            return f"has reached its limit of {self.limit_seconds:g} s"
        if self.exit_code is not None and self.exit_code < 0:
            return f"was killed by {_signal_name(-self.exit_code)} after {self.seconds:g} s"
        return f"ended with exit code {self.exit_code} after {self.seconds:g} s"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class DocumentError(KitError, ValueError):
    """A document of routines cannot be read or written; ``faults`` holds one line for each."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))

    def __reduce__(self) -> tuple[type[DocumentError], tuple[tuple[str, ...]]]:
        return type(self), (self.faults,)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        lines = [f"\n  - {fault}" for fault in self.faults[:_MOST_LINES]]
        left = len(self.faults) - len(lines)
        lines += [f"\n  … and {left} more"] if left else []
        return f"{len(self.faults)} faults:{''.join(lines)}"


class SourceError(KitError):
    """The store of another scheduler cannot be read: it, its tables or a library is not there."""


#: Faults of a document that are told; a table given for one would have as many as rows.
_MOST_LINES = 100
