"""Every statement there is: `store.Store` is the scheduler's door, `ledger.Ledger` the worker's.

Nothing is imported here: a command that lists routines has no use for claims, nor a worker for
the scheduler's half.
"""
