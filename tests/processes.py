"""Workers, beats and other child processes of a test: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from servers import wait_for

ROOT = Path(__file__).parent.parent


class Process:
    """A child process in a process group of its own, whose output goes to a file."""

    def __init__(self, name, command, *, directory, environment):
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as output:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def returncode(self):
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def output(self):
        """What it has printed so far, stderr included."""
        return self.log.read_text(errors="replace")

    def expect(self, text, timeout=30, count=1):
        """Wait until it has printed *text*, *count* times; fails at once if it ends without."""

        def printed():
            ended = self.returncode is not None
            if self.output().count(text) >= count:
                return True
            if ended:
                raise RuntimeError(f"{self.name} ended ({self.returncode}) without {text!r}")
            return False

        wait_for(printed, timeout, what=f"{text!r} from {self.name}")

    def terminate(self):
        """SIGTERM to the process itself, as a service manager does: an orderly stop."""
        self._popen.terminate()

    def kill(self):
        """SIGKILL to the whole group: a machine that is gone, pool processes and all."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def send_signal(self, number):
        self._popen.send_signal(number)

    def wait(self, timeout=30):
        """Wait until it has ended; returns its exit code."""
        return self._popen.wait(timeout)


class Processes:
    """Starts child processes in one directory; `kill` ends whatever is left of them."""

    def __init__(self, directory):
        self.directory = directory
        self.started = []

    def app(self, name, source):
        """Write the module *name*, which processes started here can import."""
        (self.directory / f"{name}.py").write_text(source)

    def start(self, name, *command, env=None):
        """Start *command*; *env* is added to the environment, less what would set up the kit."""
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SCHEDULER_", "CELERY_", "DEFAULT_CELERY_", "WORKER_"))
        }
        environment["PYTHONPATH"] = os.pathsep.join([str(self.directory), str(ROOT)])
        environment["PYTHONUNBUFFERED"] = "1"
        environment |= {key: str(value) for key, value in (env or {}).items()}
        number = sum(process.name.startswith(f"{name}-") for process in self.started) + 1
        process = Process(
            f"{name}-{number}", command, directory=self.directory, environment=environment
        )
        self.started.append(process)
        return process

    def celery(self, name, *args, app, env=None):
        return self.start(name, sys.executable, "-m", "celery", "-A", app, *args, env=env)

    def worker(self, app="proj", *, args=(), env=None):
        """A worker with one pool process, unless *args* say otherwise."""
        node = f"--hostname=worker{len(self.started)}@%h"
        quiet = ("--without-gossip", "--without-mingle")
        options = (node, "--loglevel=INFO", "--concurrency=1", *quiet, *args)
        return self.celery("worker", "worker", *options, app=app, env=env)

    def beat(self, app="proj", *, args=(), env=None):
        """A beat with the kit's scheduler."""
        scheduler = "--scheduler=celery_sqlalchemy_kit.scheduler.RoutineScheduler"
        options = (scheduler, "--loglevel=INFO", "--pidfile=", *args)
        return self.celery("beat", "beat", *options, app=app, env=env)

    def kill(self):
        for process in self.started:
            process.kill()
