"""The lines that only the kit has; each is measured in a process of its own.

python -m benchmarks.performance.lines NAME DATABASE BROKER SCALE
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

from benchmarks.performance.plan import Case
from benchmarks.performance.servers import ROOT
from benchmarks.performance.stage import Failed

NAMES = (
    "statements",
    "side_by_side",
    "kinds",
    "burst",
    "bulk",
    "reconciling",
    "idle",
    "workers",
    "bloat",
)
FOLDER = "benchmarks.lines"
#: Seconds a line takes at full scale, roughly; and those that take longer.
EACH, LONG = 30, {"kinds": 300, "bloat": 3620}


def cases(scale):
    for name in NAMES:
        yield Case("lines", name, "kit", 5 + LONG.get(name, EACH) * scale.lines, 1)


def measure(stage, case, scale):
    """Figures by name and unit; the title of the line is one of them."""
    stage.servers.empty()
    addresses = (stage.servers.database, stage.servers.broker)
    command = [sys.executable, "-m", __name__, case.contender, *addresses, str(scale.lines)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        text=True,
        check=False,
        capture_output=True,
    )
    if done.returncode:
        raise Failed(done.stderr[-800:])
    # The last line: it may have printed others.
    return json.loads(done.stdout.splitlines()[-1])


def told(name, database, broker, scale, folder=FOLDER):
    line = importlib.import_module(f"{folder}.{name}")
    return {"title": line.TITLE, "figures": line.measure(database, broker, scale=scale)}


if __name__ == "__main__":
    print(json.dumps(told(*sys.argv[1:4], float(sys.argv[4]))))
