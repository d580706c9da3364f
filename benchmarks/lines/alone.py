"""One line alone: ``SCHEDULER_DB_URI=… CELERY_BROKER_URL=… python -m benchmarks.lines.NAME``."""

from __future__ import annotations

import argparse
import os


def main(title, measure):
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--scale", type=float, default=1.0, help="less than 1: a quick try")
    scale = parser.parse_args().scale
    print(title)
    figures = measure(os.environ["SCHEDULER_DB_URI"], os.environ["CELERY_BROKER_URL"], scale=scale)
    for name, value in figures.items():
        print(f"  {name:44} {shown(value)}")


def shown(value):
    if isinstance(value, str):
        return value
    whole = abs(value) >= 1000 or float(value).is_integer()
    return f"{value:,.0f}" if whole else f"{value:,.2f}"
