"""Routines written down as documents. Pure."""

from __future__ import annotations

from .comparison import Changes, Difference, Update, changes
from .definition import Definition
from .document import Format, dump, load

__all__ = [
    "Changes",
    "Definition",
    "Difference",
    "Format",
    "Update",
    "changes",
    "dump",
    "load",
]
