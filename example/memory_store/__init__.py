"""Routines and runs in the memory of one process: a store without SQL, to read before you write
one of your own, and to prove that it can be done.

    app.conf.scheduler_store = "example.memory_store:make_store"
    app.conf.worker_ledger = "example.memory_store:make_ledger"

Read `rows` (what is kept), `memory` (how it stays whole), `store` and `ledger` (the two protocols),
then what these call. All of it is gone with the process, so that a scheduler and its workers have
to be threads of one.
"""

from __future__ import annotations

from celery_sqlalchemy_kit.clock import Clock
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.storage.values import Presence

from .ledger import MemoryLedger
from .memory import Memory
from .store import MemoryStore

__all__ = ["Memory", "MemoryLedger", "MemoryStore", "make_ledger", "make_store"]

#: What the factories' stores have in common; another one would open a connection in each.
HERE = Memory()


def make_store(settings: Settings, me: Presence, *, timezone: str, clock: Clock) -> MemoryStore:
    """What ``scheduler_store`` names."""
    allowed = settings.scheduler_allowed_tasks
    return MemoryStore(HERE, me, timezone=timezone, clock=clock, allowed_tasks=allowed)


def make_ledger(settings: Settings, *, clock: Clock) -> MemoryLedger:
    """What ``worker_ledger`` names."""
    return MemoryLedger(HERE, clock)
