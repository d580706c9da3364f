"""The examples below the help of a command."""

from __future__ import annotations


def examples(*calls: str) -> str:
    """For ``epilog=``: *calls* as they are typed after ``celery -A proj routines``."""
    # The first line keeps click from filling the others into a paragraph.
    lines = ("\b", "Examples:", *(f"  celery -A proj routines {call}" for call in calls))
    return "\n".join(lines)
