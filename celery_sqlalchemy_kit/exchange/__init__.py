"""Routines written down: as documents, and as other schedulers keep them. Pure."""

from __future__ import annotations

from .comparison import Changes, Difference, Update, changes
from .definition import Definition, Found
from .document import Format, dump, load

__all__ = [
    "Changes",
    "Definition",
    "Difference",
    "Format",
    "Found",
    "Update",
    "changes",
    "dump",
    "load",
]
