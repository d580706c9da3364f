"""A worker with all its processes: started, measured from /proc, and never left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

#: Seconds that a worker has to stop in order.
STOP_LIMIT = 20


class Ended(RuntimeError):
    """The worker ended by itself; the message is the end of what it had printed."""


@dataclass(frozen=True)
class Usage:
    """Of all processes together. RSS counts what they share in each; PSS once."""

    rss_mb: float = 0
    pss_mb: float = 0
    threads: int = 0
    connections: int = 0

    def peak(self, other):
        return Usage(*(max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


@contextlib.contextmanager
def running(command, environment, directory, *, orderly=True):
    """The worker that is started by *command*; after this, none of its processes is left.

    Unless *orderly*, it is not asked to stop: what it would still write down takes its time.
    """
    with tempfile.TemporaryFile() as log:
        popen = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Worker(popen, log)
        finally:
            if orderly:
                _stop(popen)
            _kill(popen)


def _stop(popen):
    popen.terminate()
    try:
        popen.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        print(f"  the worker did not stop within {STOP_LIMIT} s and was killed")


def _kill(popen):
    # What is left of it would take tasks of the next.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()


class Worker:
    """Its processes are known by their session, in which the command was started."""

    def __init__(self, popen, log):
        self._popen = popen
        self._log = log

    def check(self):
        if self._popen.poll() is not None:
            raise Ended(f"its worker ended with {self._popen.returncode}: {self.output()}")

    def output(self, size=800):
        # Not by seeking: the worker writes on from where this file stands.
        file = self._log.fileno()
        return os.pread(file, size, max(0, os.fstat(file).st_size - size)).decode(errors="replace")

    def usage(self, connections):
        """What its processes use now; *connections* is known to the server."""
        rss = pss = threads = 0
        for process in self._processes():
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                rollup = (process / "smaps_rollup").read_text()
                rss += _number("Rss", rollup)
                pss += _number("Pss", rollup)
                threads += _number("Threads", (process / "status").read_text())
        return Usage(rss / 1024, pss / 1024, threads, connections)

    def cpu_seconds(self):
        """What its processes, those that live, have used of processors so far."""
        ticks = 0
        for process in self._processes():
            with contextlib.suppress(OSError):
                # After the name, which may hold blanks: utime and stime.
                after_name = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(after_name[11]) + int(after_name[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def thread_seconds(self):
        """The same of its threads, those that live; finer than a tick of 10 ms."""
        nanoseconds = 0
        for process in self._processes():
            with contextlib.suppress(OSError):
                for thread in (process / "task").iterdir():
                    nanoseconds += int((thread / "schedstat").read_text().split()[0])
        return nanoseconds / 1e9

    def _processes(self):
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and os.getsid(int(process.name)) == self._popen.pid:
                    yield process


def _number(name, text):
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0
