"""How fast routines of several kinds that are due at once reach the broker."""

from __future__ import annotations

import json
import statistics
from uuid import uuid4

from benchmarks import app as measured
from benchmarks import dispatch
from benchmarks.beats import Queue
from benchmarks.lines import alone
from benchmarks.rows import PLAIN, engine_of, execute, make_due, store
from celery_sqlalchemy_kit.store.bulk import insert_all
from celery_sqlalchemy_kit.tables import routines

TITLE = "kinds: 10,000 due at once, by what each has of its own; in multiples of the bare loop"
#: One is enough for a quick try.
ROUNDS = 3
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
LATER = {"once": "2100-01-01T00:00:00Z"}
#: What a routine has besides its name, by its number.
KINDS = {
    "alike": lambda n: {},
    "own arguments": lambda n: {"args": [n, f"customer {n}"]},
    "own intervals": lambda n: {"schedule": {"timedelta": 86_400 + n}},
    "crontab fields": lambda n: {"schedule": {"minute": n % 60, "hour": n // 60 % 24}},
    "cron strings in four zones": lambda n: {
        "schedule": {
            "cron": f"{n % 60} {n // 60 % 24} * * MON-FRI",
            "timezone": ZONES[n // 1440 % 4],
        }
    },
    "rules (RFC 5545)": lambda n: {
        "schedule": {"rrule": f"FREQ=MONTHLY;BYDAY=-1FR;BYHOUR={n // 60 % 24};BYMINUTE={n % 60}"}
    },
    "overlap = skip": lambda n: {"overlap": "skip"},
    "ten priorities": lambda n: {"options": {"priority": n % 10}},
    "one-offs": lambda n: {"schedule": LATER, "origin": "once"},
    "own headers": lambda n: {"options": {"headers": {"customer": n}}},
}
COLUMNS = ("id", "name", "task", "schedule", "args", "options", "overlap", "origin")
JSON = ("schedule", "args", "options")
#: Each at an instant of its own, a microsecond after another's.
ONE_OFFS_DUE = """
    UPDATE routines SET next_run_at = at, occurrence_at = at, schedule = json_build_object(
        'once', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    FROM (SELECT id, clock_timestamp() + row_number() OVER () * interval '1 microsecond' AS at
          FROM routines) AS own
    WHERE own.id = routines.id"""


def measure(database, broker, *, scale):
    number = max(500, int(10_000 * scale))
    engine = engine_of(database)
    ratios = {kind: [] for kind in KINDS}
    measured.app.conf.broker_url = broker
    with Queue(broker) as queue:
        for _ in range(ROUNDS if scale >= 1 else 1):
            for kind, own in KINDS.items():
                _store(engine, number, own)
                due = _make_one_offs_due if kind == "one-offs" else make_due
                bare, _ = dispatch.bare(queue, number)
                kit, _ = dispatch.kit(engine, queue, database, broker, number, make_due=due)
                ratios[kind].append(kit / bare)
    return {kind: statistics.median(each) for kind, each in ratios.items()}


def _store(engine, number, own):
    store(engine, 0)
    like = {"task": PLAIN, "schedule": {"timedelta": 86_400}, "args": [1, 2], "options": None}
    like |= {"overlap": "allow", "origin": "db"}
    rows = [{"id": uuid4(), "name": f"r{n}", **like, **own(n)} for n in range(number)]
    for row in rows:
        row |= {name: json.dumps(row[name]) for name in JSON if row[name] is not None}
    with engine.begin() as connection:
        insert_all(connection, routines, COLUMNS, rows)


def _make_one_offs_due(engine):
    execute(engine, ONE_OFFS_DUE)


if __name__ == "__main__":
    alone.main(TITLE, measure)
