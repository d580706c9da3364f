"""What a store has to do, whatever it stores in: `SchedulerStore` for schedulers, `RunLedger` for
workers.

`store.Store` and `store.ledger.Ledger` do it in SQL. `testing.StoreConformance` proves another one.
"""

from __future__ import annotations

from .scheduling import SchedulerStore
from .working import RunLedger

__all__ = ["RunLedger", "SchedulerStore"]
