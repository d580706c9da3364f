"""Routines written down: as documents, and as other schedulers keep them. Pure.

What a store of another scheduler holds comes in as it was read: see `store.django_celery_beat`
and `store.redbeat`.
"""

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
