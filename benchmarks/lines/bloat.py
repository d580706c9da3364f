"""What hours of dispatch leave behind: dead rows, sizes of tables, what a claim takes."""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

from benchmarks.arrivals import Arrivals
from benchmarks.beats import beat, wait_until
from benchmarks.lines import alone
from benchmarks.rows import engine_of, present, spread, store
from benchmarks.statements import Statements, calls

TITLE = (
    "bloat: 500 runs a second for an hour, ended as by workers; an old snapshot in a quarter of it"
)
RATE, SETTLE = 500, 5
#: Seconds between two lines, at most, and the fewest lines.
STEP, FEWEST = 60, 8
#: The parts of the time between which somebody holds a snapshot.
HELD = (0.5, 0.75)
#: As a worker does it, but many at a time: begun, then ended.
BEGIN = """
    UPDATE routine_runs SET state = 'running', attempt_id = gen_random_uuid(),
        attempts = attempts + 1, worker = 'w', started_at = now(), heartbeat_at = now()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND state IN ('claimed', 'sent')"""
END = """
    UPDATE routine_runs SET state = 'succeeded', finished_at = now()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'running'"""
#: With what a claim's last statement begins.
CLAIMING = "WITH quiet AS"
SIZES = """
    SELECT relname, pg_table_size(oid) / 1024 / 1024, pg_indexes_size(oid) / 1024 / 1024,
        pg_stat_get_dead_tuples(oid), pg_stat_get_live_tuples(oid)
    FROM pg_class WHERE oid IN ('routines'::regclass, 'routine_runs'::regclass)"""


def measure(database, broker, *, scale):
    seconds = max(60, int(3600 * scale))
    step = min(STEP, seconds / FEWEST)
    engine = engine_of(database)
    statements = Statements(engine)
    store(engine, 0)
    first = present(SETTLE)
    spread(engine, "load ", RATE, 1, first)
    lines = []
    with (
        beat(database, broker) as scheduler,
        Arrivals(broker) as arrivals,
        _Ends(database, arrivals),
        _Snapshot(database) as snapshot,
    ):
        wait_until(lambda: present() > first)
        began = time.monotonic()
        while (past := time.monotonic() - began) < seconds:
            snapshot.hold(wanted=HELD[0] <= past / seconds < HELD[1])
            statements.reset()
            used, arrived = scheduler.cpu_seconds(), arrivals.number()
            time.sleep(step)
            scheduler.check()
            line = {"minute": past / 60, "snapshot held": "yes" if snapshot.held else "no"}
            arrived = max(1, arrivals.number() - arrived)
            line["runs/s"] = arrived / step
            line["scheduler ms a run"] = (scheduler.cpu_seconds() - used) * 1000 / arrived
            line |= _of_claims(statements.asked(), arrived) | _sizes(engine)
            print("  " + ", ".join(f"{name} {alone.shown(each)}" for name, each in line.items()))
            lines.append(line)
    return {
        f"{where}: {name}": value
        for where, line in _told(lines).items()
        for name, value in line.items()
    }


def _told(lines):
    held = [line for line in lines if line["snapshot held"] == "yes"]
    return {
        "start": lines[0],
        "middle": lines[len(lines) // 2 - 1],
        "held": held[-1],
        "end": lines[-1],
    }


def _of_claims(asked, arrived):
    """What PostgreSQL spends on the scheduler's statements."""
    mine = [each for each in asked if each.text.startswith(("WITH", "SELECT to_char"))]
    spent = sum(each.milliseconds for each in mine)
    return {"server ms a run": spent / arrived, "claims": calls(asked, CLAIMING)}


def _sizes(engine):
    figures = {}
    with engine.connect() as connection:
        for name, *values in connection.execute(sa.text(SIZES)):
            titles = ("MB", "indexes MB", "dead rows", "rows")
            figures |= {f"{name} {title}": v for title, v in zip(titles, values, strict=True)}
    return figures


class _Ends:
    """In place of workers: begins and ends what has arrived, ten times a second."""

    def __init__(self, database, arrivals):
        self._engine = engine_of(database)
        self._arrivals = arrivals
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()
        self._engine.dispose()

    def _work(self):
        while not self._stopping.wait(0.1):
            ids = [str(key) for key, _ in self._arrivals.take_seen()]
            for statement in (BEGIN, END) if ids else ():
                with self._engine.begin() as connection:
                    connection.execute(sa.text(statement), {"ids": "{" + ",".join(ids) + "}"})


class _Snapshot:
    """A transaction at REPEATABLE READ that is left open, such as a dump's."""

    def __init__(self, database):
        # Without a deadline, which the kit's engines have.
        self._engine = sa.create_engine(database, isolation_level="REPEATABLE READ")
        self._connection = None

    @property
    def held(self):
        return self._connection is not None

    def hold(self, *, wanted):
        if wanted and not self.held:
            self._connection = self._engine.connect()
            self._connection.execute(sa.text("SELECT count(*) FROM routine_schedulers"))
        elif self.held and not wanted:
            self._connection.close()
            self._connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hold(wanted=False)
        self._engine.dispose()


if __name__ == "__main__":
    alone.main(TITLE, measure)
