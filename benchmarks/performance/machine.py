"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def machine():
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _first("/proc/cpuinfo", r"^model name\s*:\s*(.+)$"),
        "memory_gb": round(int(_first("/proc/meminfo", r"^MemTotal:\s*(\d+)")) / 1024**2),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _first(path, pattern):
    found = re.search(pattern, Path(path).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "0"
