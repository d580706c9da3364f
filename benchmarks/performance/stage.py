"""Where each scheduler is measured: its routines stored, its beat run, nothing of the last left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time

from benchmarks import environments, schedulers
from benchmarks.performance.servers import ROOT
from benchmarks.processes import running


class Failed(RuntimeError):
    """There are no figures; the message says why."""


class Stage:
    def __init__(self, servers):
        self.servers = servers

    def python(self, scheduler):
        return environments.python_with(scheduler.packages)

    def store(self, scheduler, batches):
        """All there is then are these routines. How long it took, in seconds."""
        self.servers.empty()
        began = time.monotonic()
        self._run(scheduler, ["-m", scheduler.module, "store"], batches)
        self.servers.settle()
        return time.monotonic() - began

    def bare(self, scheduler, number):
        """Messages a second of a loop of `apply_async`, into an empty Redis."""
        self.servers.empty()
        told = self._run(scheduler, ["-m", "benchmarks.schedulers.bare", str(number), "bare"], [])
        return float(told)

    @contextlib.contextmanager
    def beat(self, scheduler, batches):
        """Its beat, running; killed in the end, as what it would write down is of no use."""
        command = [self.python(scheduler), *scheduler.beat()]
        environment = self._environment(batches)
        with (
            tempfile.TemporaryDirectory() as directory,
            running(command, environment, directory, orderly=False) as beat,
        ):
            yield beat

    @contextlib.contextmanager
    def editor(self, scheduler):
        """A function that switches a routine on, and returns when that was committed."""
        command = [self.python(scheduler), "-m", scheduler.module, "edit"]
        with subprocess.Popen(
            command,
            env=self._environment([]),
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:

            def switch_on(name):
                process.stdin.write(f"{name}\n")
                process.stdin.flush()
                if not (answer := process.stdout.readline()):
                    raise Failed(f"{name} was not switched on")
                return float(answer)

            yield switch_on
            process.stdin.close()

    def _run(self, scheduler, arguments, batches):
        done = subprocess.run(
            [self.python(scheduler), *arguments],
            env=self._environment(batches),
            cwd=ROOT,
            text=True,
            check=False,
            capture_output=True,
        )
        if done.returncode:
            raise Failed(f"{' '.join(arguments)}: {done.stderr[-800:]}")
        return done.stdout

    def _environment(self, batches):
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SCHEDULER_", "CELERY_", "DJANGO_"))
        }
        return kept | {
            "PYTHONPATH": str(ROOT),
            schedulers.DATABASE: self.servers.database,
            schedulers.BROKER: self.servers.broker,
            schedulers.BATCHES: schedulers.written(batches),
        }
