"""`Routines` and `AsyncRoutines`: what other programs do with routines, in Python."""

from ..details import Change, RoutineDetails, RunDetails
from ..routines import OneOff
from ..store.orders import Backfill, Span
from ..store.routine_list import Wanted
from .asynchronous import AsyncRoutines
from .fields import Fields
from .synchronous import Routines

__all__ = [
    "AsyncRoutines",
    "Backfill",
    "Change",
    "Fields",
    "OneOff",
    "RoutineDetails",
    "Routines",
    "RunDetails",
    "Span",
    "Wanted",
]
