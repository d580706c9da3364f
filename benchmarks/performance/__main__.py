"""The kit's scheduler beside its peers, and what only the kit has: measured, and written down.

    python -m benchmarks.performance

Each peer is installed into an environment of its own, kept in ~/.cache; PostgreSQL and Redis are
started here. What is measured is written to the results at once: begun again, it goes on where it
was. In the end docs/performance.md is written, and its plots. With --report nothing is measured.
"""

from __future__ import annotations

import argparse
import compileall
import datetime as dt
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import environments
from benchmarks.performance import dispatch, edits, idle, lateness, lines, page, start, tables
from benchmarks.performance.machine import machine
from benchmarks.performance.plan import FULL, QUICK, minutes, ordered
from benchmarks.performance.results import Results
from benchmarks.performance.servers import ROOT, started
from benchmarks.performance.stage import Failed, Stage
from benchmarks.processes import Ended
from benchmarks.schedulers import KIT, SCHEDULERS

MEASURES = {
    "dispatch": dispatch,
    "start": start,
    "lateness": lateness,
    "edits": edits,
    "idle": idle,
}
NAMES = (*MEASURES, "lines")
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "performance" / "results.json"
#: Those of a quick run, which is no more than a proof that all of it works.
QUICK_RESULTS = environments.CACHE / "celery-sqlalchemy-kit" / "performance" / "results.json"


def planned(chosen, measures, scale):
    cases = [
        case
        for name in measures
        if name in MEASURES
        for scheduler in chosen
        for case in MEASURES[name].cases(scheduler, scale)
    ]
    if "lines" in measures and KIT in chosen:
        cases += lines.cases(scale)
    return cases


def installed(chosen):
    """{name: {package: version}} of those that are there, or could be installed."""
    versions = {}
    for scheduler in chosen:
        try:
            python = environments.python_with(scheduler.packages)
        except subprocess.CalledProcessError as error:
            print(f"{scheduler.title} is left out, as it could not be installed:\n{error.stdout}")
        else:
            versions[scheduler.name] = environments.installed(python, scheduler.versions)
    return versions


def run(results, options, scale):
    names = installed([each for each in SCHEDULERS if each.name in options.contenders])
    chosen = [each for each in SCHEDULERS if each.name in names]
    cases = planned(chosen, options.only, scale)
    due = [(n, case) for n, case in ordered(cases, options.rounds) if not results.has(case, n)]
    print(
        f"{len(due)} measurements, about {sum(case.seconds for _, case in due) / 60:.0f} of "
        f"{minutes(cases, options.rounds):.0f} minutes",
        flush=True,
    )
    if not due:
        return
    # As pip does with what it installs, the peers, wherever Python may write no such files.
    compileall.compile_dir(ROOT / "celery_sqlalchemy_kit", quiet=1)
    with started() as servers:
        today = dt.datetime.now(dt.timezone.utc).date().isoformat()
        results.describe(date=today, machine=machine(), servers=servers.versions(), versions=names)
        stage = Stage(servers)
        for place, (number, case) in enumerate(due, 1):
            began = time.monotonic()
            told = _measured(stage, case, scale)
            seconds = round(time.monotonic() - began, 1)
            results.add(case, number, **told, took=seconds)
            print(
                f"{place}/{len(due)} round {number}: {case.measure} {case.contender} {case.name}, "
                f"{seconds} s: {_brief(told)}",
                flush=True,
            )


def _measured(stage, case, scale):
    try:
        if case.measure == "lines":
            return {"figures": lines.measure(stage, case, scale)}
        scheduler = next(each for each in SCHEDULERS if each.name == case.contender)
        figures = MEASURES[case.measure].measure(stage, scheduler, case, scale)
    except (Ended, Failed) as error:
        return {"failed": str(error)}
    return {"figures": figures}


def _brief(told):
    figures = told.get("figures")
    if not figures:
        return told["failed"]
    return ", ".join(
        f"{name} {tables.shown(value)}"
        for name, value in figures.items()
        if isinstance(value, (int, float))
    )


def report(results):
    """Tables and plots: of the results that are kept into the docs, of others beside them."""
    if not results.document["measurements"]:
        print(f"{results.path}: nothing has been measured")
        return
    ours = results.path.resolve() == RESULTS
    folder = results.path.parent
    python = environments.python_with(("matplotlib",))
    command = [python, "-m", "benchmarks.performance.plots", results.path.resolve(), folder]
    drawn = subprocess.run(command, cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE)
    place = folder.name if ours else "."
    figures = page.illustrated(
        tables.all_of(results.document), json.loads(drawn.stdout.splitlines()[-1]), place
    )
    written = PAGE if ours else results.path.with_suffix(".md")
    text = page.written(PAGE.read_text(encoding="utf-8"), figures) if ours else f"{figures}\n"
    written.write_text(text, encoding="utf-8")
    print(f"written: {written}")


def parse():
    names = [each.name for each in SCHEDULERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="2; of what takes long there is one")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="MEASURE")
    parser.add_argument("--contenders", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small numbers, one round")
    parser.add_argument("--results", type=Path, help="docs/performance/results.json")
    parser.add_argument("--report", action="store_true", help="of the results; measure nothing")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 2)
    options.results = options.results or (QUICK_RESULTS if options.quick else RESULTS)
    return options


def main():
    options = parse()
    # An exit like any other, so that no server and no beat is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scale = QUICK if options.quick else FULL
    results = Results.read(options.results, scale.name)
    if not options.report:
        run(results, options, scale)
    report(results)


if __name__ == "__main__":
    main()
