"""How fast workers run coroutines, and what they need for it: the kit's and others', on Redis.

    python -m benchmarks.async_tasks

20,000 tasks that do nothing, and 2,000 that sleep for a second, through a fresh worker each. A
worker is first given a few tasks that do nothing, so that it has started and connected; then all
the messages at once, see `queues`. The rate is that of all tasks from the first start of a body to
the last result in Redis. Bodies count themselves in memory, see `contenders.bodies`; results are
counted by asking Redis for the size of a database, a hundred times a second. With --no-results
time ends with the last body.

taskiq and arq are installed into environments of their own, which are kept in ~/.cache. Redis is
one that is started here, or that of ``TEST_REDIS_URL``, of which databases 14 and 15 are emptied.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import contenders, environments, tables
from benchmarks.contenders import bodies
from benchmarks.processes import Ended, Usage, running
from benchmarks.queues import QUEUE, RESULTS, ROOT, Queues, server

WARM_UP = 100
#: Seconds a worker has to start and to run the first tasks, and that any of the rest may take.
START_LIMIT, LIMIT = 60, 600
INTERVAL, SAMPLE_INTERVAL = 0.01, 0.25


class Failed(RuntimeError):
    """A contender that has no figures; the message says why."""


@dataclass(frozen=True)
class Figures:
    tasks: int
    seconds: float
    cpu_seconds: float
    usage: Usage

    @property
    def rate(self):
        return self.tasks / self.seconds


class Bench:
    """Measures one contender after another on one Redis."""

    def __init__(self, queues, boards, *, results):
        self._queues = queues
        self._boards = boards
        self._results = results
        self._batches = {}

    def measure(self, contender, task, number):
        for name, size in (("nothing", WARM_UP), (task, number)):
            if (contender.system, name, size) not in self._batches:
                self._batches[contender.system, name, size] = self._send(contender, name, size)
        self._queues.empty()
        for board in self._boards.iterdir():
            board.unlink()
        before = self._queues.connections()
        system = contender.system
        python = environments.python_with(system.packages)
        command = [python, *contender.worker()]
        with running(command, self._environment(contender), ROOT) as worker:
            self._queues.put(self._batches[system, "nothing", WARM_UP], system)
            self._wait(system, WARM_UP, START_LIMIT, worker, before)
            bodies.clear(self._boards)
            self._queues.forget_results()
            time.sleep(0.5)
            cpu_seconds = worker.cpu_seconds()
            self._queues.put(self._batches[system, task, number], system)
            ended, usage = self._wait(system, number, LIMIT, worker, before)
            cpu_seconds = worker.cpu_seconds() - cpu_seconds
            count = bodies.read(self._boards)
        if count.ended != number:
            raise Failed(f"{count.ended} bodies ran for {number} messages")
        return Figures(number, (ended - count.first) / 1e9, cpu_seconds, usage)

    def _wait(self, system, number, limit, worker, others):
        """Until all is done; returns that instant and the peak of what *worker* used."""
        usage, sampled, deadline = Usage(), 0, time.monotonic() + limit
        while True:
            count = bodies.read(self._boards)
            done = count.ended >= number
            if done and not self._results:
                return count.last, usage
            if done and not self._queues.unfinished(system, number):
                return time.monotonic_ns(), usage
            now = time.monotonic()
            if now > sampled + SAMPLE_INTERVAL:
                worker.check()
                usage = usage.peak(worker.usage(self._queues.connections() - others))
                sampled = time.monotonic()
            if now > deadline:
                raise Failed(f"{count.ended} of {number} in {limit} s: {worker.output()}")
            time.sleep(INTERVAL)

    def _send(self, contender, task, number):
        self._queues.empty()
        python = environments.python_with(contender.system.packages)
        command = [python, "-m", contender.system.sender, task, str(number)]
        subprocess.run(
            command,
            check=True,
            cwd=ROOT,
            env=self._environment(contender),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return self._queues.take()

    def _environment(self, contender):
        kept = {name: value for name, value in os.environ.items() if "CELERY" not in name}
        path = f"{ROOT}{os.pathsep}{kept.pop('PYTHONPATH', '')}".rstrip(os.pathsep)
        return {
            **kept,
            **contender.environment(),
            "PYTHONPATH": path,
            "BENCHMARK_QUEUE": self._queues.url(QUEUE),
            "BENCHMARK_RESULTS": self._queues.url(RESULTS) if self._results else "",
            "BENCHMARK_BOARDS": str(self._boards),
        }


def rounds(bench, chosen, options):
    """The figures of each task and contender, one for each round, None where it failed.

    Every other round goes backwards, so that none always follows the same one.
    """
    found = {(task, each): [] for task in ("sleeper", "nothing") for each in chosen}
    for number in range(options.rounds):
        for each in chosen if number % 2 == 0 else tuple(reversed(chosen)):
            for task in ("sleeper", "nothing"):
                size = options.tasks
                if task == "sleeper":
                    size = each.sleepers(options.sleepers, options.few_sleepers)
                try:
                    figures = bench.measure(each, task, size)
                except (Ended, Failed, subprocess.CalledProcessError) as error:
                    figures = None
                    print(f"{each.title}, {task}: {error}\n{getattr(error, 'stdout', '')}".strip())
                else:
                    print(f"{number + 1}: {each.title}, {task}: {figures.rate:.1f}/s", flush=True)
                found[task, each].append(figures)
    return found


def installed(chosen):
    """Those of *chosen* that are there, or could be installed; tells versions."""
    there = set()
    for system in dict.fromkeys(each.system for each in chosen):
        try:
            python = environments.python_with(system.packages)
        except subprocess.CalledProcessError as error:
            print(f"{system.name} is left out, as it could not be installed:\n{error.stdout}")
        else:
            print(f"{system.name}: {environments.versions(python, system.versions)}", flush=True)
            there.add(system)
    return tuple(each for each in chosen if each.system in there)


def parse():
    names = [each.name for each in contenders.CONTENDERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000, help="that do nothing")
    parser.add_argument("--sleepers", type=int, default=2_000)
    parser.add_argument("--few-sleepers", type=int, default=40, help="where two run at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--no-results", action="store_true", help="of tasks are stored")
    return parser.parse_args()


def main():
    options = parse()
    # An exit like any other, so that no server and no worker is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = tuple(each for each in contenders.CONTENDERS if each.name in options.only)
    cores = len(os.sched_getaffinity(0))
    print(f"Python {platform.python_version()}, {platform.machine()}, {cores} cores for everything")
    chosen = installed(chosen)
    with server() as url, tempfile.TemporaryDirectory() as boards:
        queues = Queues(url)
        print(f"Redis {queues.version()}\n", flush=True)
        bench = Bench(queues, Path(boards), results=not options.no_results)
        found = rounds(bench, chosen, options)
        queues.close()
    for task, title in (("sleeper", "sleep for 1 s"), ("nothing", "do nothing")):
        print(f"\nTasks that {title}{', no results' * options.no_results}\n")
        print(tables.table({each: found[task, each] for each in chosen}))
    print("\n" + tables.verdicts(found))


if __name__ == "__main__":
    main()
