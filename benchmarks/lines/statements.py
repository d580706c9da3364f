"""Statements and commits of a dispatch, and of a worker, counted by PostgreSQL."""

from __future__ import annotations

from benchmarks.beats import Queue, beat, wait_until, worker
from benchmarks.lines import alone
from benchmarks.rows import LEDGERED, engine_of, make_due, number, planned, store
from benchmarks.statements import Statements, calls, counted
from celery_sqlalchemy_kit.tables import runs

TITLE = "statements: 10,000 due at once, then their runs by a worker (PostgreSQL)"
#: How the statements of a claim begin, and what is in one of each batch.
CLAIM = ("WITH confirmed", "WITH due", "SELECT CAST(routines.id", "WITH quiet", "WITH free")
INSERT = "INSERT INTO routine_runs"


def measure(database, broker, *, scale):
    due = max(500, int(10_000 * scale))
    engine = engine_of(database)
    statements = Statements(engine)
    store(engine, due, LEDGERED)
    with Queue(broker) as queue:
        with beat(database, broker):
            wait_until(lambda: planned(engine) >= due)
            statements.reset()
            make_due(engine)
            wait_until(lambda: queue.waiting() >= due)
            claimed = statements.asked()
        statements.reset()
        with worker(database, broker, "-c", "2"):
            wait_until(lambda: queue.waiting() == 0, interval=0.2)
            wait_until(lambda: number(engine, runs, runs.c.state != "succeeded") == 0, interval=0.5)
            begun = statements.asked()
    return {**of_claims(claimed, due), **of_runs(begun, due)}


def of_claims(asked, due):
    batches = sum(each.calls for each in asked if INSERT in each.text)
    in_batches = sum(calls(asked, start) for start in CLAIM)
    # Of all there are two that are ours: what makes them due, and its COMMIT.
    statements, commits = (each - 1 for each in counted(asked))
    return {
        "batches of claims": batches,
        "statements a batch of claims": in_batches / batches,
        "commits a batch of claims": commits / batches,
        "statements a dispatched run, all there are": statements / due,
    }


def of_runs(asked, done):
    commits = counted(asked)[1]
    return {
        "worker: statements a run": calls(asked, "UPDATE routine_runs") / done,
        "worker: commits a run": commits / done,
    }


if __name__ == "__main__":
    alone.main(TITLE, measure)
