"""Process groups: whether one of them is still at work, and how to end it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def is_alive(group: int) -> bool:
    """Whether a process of *group* is alive, that is has not ended, reaped or not.

    Orphans are reaped by the first process of the machine or the container, which may take its
    time or never do so.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, by sudo
        return True
    states = list(_states(group))
    # Where there is no /proc, nothing is known of zombies.
    return not states or any(state not in "ZX" for state in states)


def send(group: int, number: int) -> None:
    """Send the signal *number* to all processes of *group*, as far as that is permitted."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _states(group: int) -> Iterator[str]:
    for path in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            # The name, in parentheses, may hold anything.
            state, _, of_group, *_ = path.read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(of_group) == group:
                yield state
