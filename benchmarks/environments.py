"""Virtual environments for what a benchmark compares the kit with, so that it depends on none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
#: Told for each package of its arguments that is installed.
VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def python_with(packages):
    """The Python of an environment that has *packages*, made if it is not there; else this one.

    Raises:
        CalledProcessError: they cannot be installed; what pip said is its ``stdout``.
    """
    if not packages:
        return sys.executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = re.sub(r"[^\w.-]+", "_", "-".join(packages))
    home = CACHE / "celery-sqlalchemy-kit" / f"{name}-{version}"
    python, whole = home / "bin" / "python", home / "installed"
    if not whole.exists():
        print(f"installing {', '.join(packages)} into {home}")
        for command in (
            [sys.executable, "-m", "venv", "--clear", home],
            [python, "-m", "pip", "install", "--quiet", *packages],
        ):
            subprocess.run(
                command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        whole.touch()
    return str(python)


def installed(python, names):
    """The version of each of *names* that is installed there."""
    told = subprocess.run(
        [python, "-c", VERSIONS, *names], check=True, text=True, stdout=subprocess.PIPE
    )
    return json.loads(told.stdout)


def versions(python, names):
    """What of *names* is installed there, as one line."""
    return ", ".join(f"{name} {version}" for name, version in installed(python, names).items())
