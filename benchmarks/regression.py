"""Ratios that should not fall, in about a minute: on a PostgreSQL and a Redis of its own.

scripts/bench
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import servers  # noqa: E402


def main():
    with servers.postgresql() as database, servers.redis() as broker:
        environment = os.environ | {"CELERY_BROKER_URL": broker}
        environment["SCHEDULER_DB_URI"] = database.replace("@/?", "@/postgres?")
        for between in ("nothing", "listener", "router"):
            command = [sys.executable, "-m", "benchmarks.dispatch", "--between", between]
            command += sys.argv[1:] or ["--routines", "5000"]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main()
