"""What a million routines cost of which ten are due, and then none."""

from __future__ import annotations

import time

import redis

from benchmarks import QUEUE
from benchmarks.beats import beat, wait_until
from benchmarks.lines import alone
from benchmarks.rows import DAY, engine_of, execute, store
from benchmarks.statements import Statements, Uncounted, counted

TITLE = "idle: a million routines, ten due: the first message, then nothing due"
DUE = 10
FILL = f"""
    INSERT INTO routines (name, task, schedule, origin, next_run_at, occurrence_at)
    SELECT 'r' || n, 'benchmark.nothing', '{DAY}', 'db', due, due
    FROM generate_series(1, :rows) AS n,
         LATERAL (SELECT now() + make_interval(hours => 10 + n % 10) AS due) AS later"""
MAKE_DUE = (
    "UPDATE routines SET next_run_at = now() - interval '1 s', "
    "occurrence_at = now() - interval '1 s' WHERE name IN (SELECT 'r' || n "
    f"FROM generate_series(1, {DUE}) AS n)"
)
#: As a worker would.
DONE = "UPDATE routine_runs SET state = 'succeeded', finished_at = now()"


def measure(database, broker, *, scale):
    rows, seconds = max(1000, int(1_000_000 * scale)), max(20, int(60 * scale))
    engine = engine_of(database)
    store(engine, 0)
    execute(engine, FILL, rows=rows)
    execute(engine, MAKE_DUE)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE routines")
    client = redis.Redis.from_url(broker)
    client.delete(QUEUE)
    began = time.perf_counter()
    with beat(database, broker) as scheduler:
        client.blmpop(60, 1, QUEUE, direction="RIGHT")
        first = time.perf_counter() - began
        wait_until(lambda: client.llen(QUEUE) >= DUE - 1)
        used_by_then = scheduler.cpu_seconds()
        time.sleep(5)
        execute(engine, DONE)  # or they would be sent again
        used = scheduler.cpu_seconds()
        asked = _asked(engine, seconds)
        used = scheduler.cpu_seconds() - used
        rss = scheduler.usage(0).rss_mb
    client.delete(QUEUE)
    return {
        "routines": rows,
        "process start to first message, s": first,
        "processor until then, s": used_by_then,
        "RSS, MB": rss,
        "nothing due: share of a core, %": used / seconds * 100,
        "nothing due: statements a minute": asked,
    }


def _asked(engine, seconds):
    """Statements a minute; those that begin and end transactions are not counted."""
    try:
        statements = Statements(engine)
    except Uncounted as missing:
        time.sleep(seconds)
        return f"not counted: {missing}"
    statements.reset()
    time.sleep(seconds)
    return counted(statements.asked())[0] * 60 / seconds


if __name__ == "__main__":
    alone.main(TITLE, measure)
