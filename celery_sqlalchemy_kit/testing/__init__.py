"""For tests, ours and yours: a scheduler moved by hand, and the proof of a store of your own.

    from celery_sqlalchemy_kit.testing import ManualBeat, SettableClock, StoreConformance

`StoreConformance` needs pytest, and is imported only when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..clock import SettableClock
from .beat import ManualBeat, Recorder
from .bench import Bench

if TYPE_CHECKING:
    from .conformance import StoreConformance

__all__ = ["Bench", "ManualBeat", "Recorder", "SettableClock", "StoreConformance"]


def __getattr__(name: str) -> Any:
    if name == "StoreConformance":
        from .conformance import StoreConformance

        return StoreConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
