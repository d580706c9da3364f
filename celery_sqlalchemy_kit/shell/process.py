"""One command, from the start of its process to the end of the last one in its group."""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from celery.utils.log import get_logger

from . import group
from .guard import Guard

#: Seconds between two looks at what tells nobody: that a process has ended, that it is to be
#: ended. The first looks come sooner.
TICK_SECONDS, FIRST_TICK_SECONDS = 0.05, 0.001
#: Seconds within which a signal, such as that of the soft time limit, is noticed.
SIGNAL_SECONDS = 1.0
#: Seconds in which what a command leaves behind in its group may end by itself: what reads its
#: output through a pipe, say.
LEFTOVER_SECONDS = 1.0
#: Seconds in which a process that was killed has to be gone.
KILLED_SECONDS = 5.0
#: Bytes read at once, and how often at most once the command has ended: more than a pipe holds.
CHUNK_BYTES, LAST_CHUNKS = 65_536, 16

logger = get_logger(__name__)


@dataclass(frozen=True)
class Command:
    """What is to be run, and how."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    working_directory: str | os.PathLike[str] | None
    output_tail_bytes: int
    limit_seconds: float | None
    grace_seconds: float


class Outcome(NamedTuple):
    """How a command has ended."""

    #: Negative for a signal; None if not even SIGKILL has ended it.
    exit_code: int | None
    output: str
    output_bytes: int
    seconds: float
    reached_limit: bool


def run(command: Command, whose: str) -> Outcome:
    """Run *command*, for the task that *whose* names in the log.

    What interrupts the wait, as the soft time limit does, is raised once the command was ended.

    Raises:
        OSError: it could not be started.
    """
    return _Run(command, whose).outcome()


class _Run:
    """The command on a thread of its own, which no signal's handler interrupts: one that raises
    within `Popen`, or while a process is being ended, would leave the process behind."""

    def __init__(self, command: Command, whose: str) -> None:
        self._command, self._whose = command, whose
        self._outcome: list[Outcome] = []
        self._error: BaseException | None = None
        self._is_begun = self._is_stopped = self._has_ended = False
        # A bare lock: a signal's handler may raise within `_wait`, and would leave a condition
        # half released.
        self._unfinished = threading.Lock()
        self._unfinished.acquire()

    def outcome(self) -> Outcome:
        try:
            threading.Thread(target=self._live, name=self._whose, daemon=True).start()
            self._wait()
        except BaseException:
            # In this order, and in `_live` the other way round: it is not begun, or waited for.
            self._is_stopped = True
            if self._is_begun:
                self._wait()
            raise
        error, self._error = self._error, None
        if error is None:
            return self._outcome.pop()
        try:
            raise error
        finally:
            del error  # else its traceback and this frame would keep each other

    def _wait(self) -> None:
        # A signal that comes just before a wait does not end it: its handler runs after.
        while not self._has_ended:
            self._unfinished.acquire(timeout=SIGNAL_SECONDS)

    def _live(self) -> None:
        try:
            self._is_begun = True
            if not self._is_stopped:
                self._outcome.append(self._supervise())
        except BaseException as error:  # noqa: BLE001  the task's thread raises it
            self._error = error
        finally:
            self._has_ended = True
            self._unfinished.release()

    def _supervise(self) -> Outcome:
        command = self._command
        guard = Guard(command.grace_seconds, self._whose)
        try:
            began = time.monotonic()
            child = _Child(command, self._whose)
            try:
                guard.watch(child.pid)
                limit = math.inf if command.limit_seconds is None else command.limit_seconds
                is_over = child.read_until(lambda: child.has_ended() or self._is_stopped, limit)
                child.end()
                child.read_rest()
            finally:
                child.close()
            seconds = round(time.monotonic() - began, 3)
            return Outcome(*child.told(), seconds, reached_limit=not is_over)
        finally:
            guard.dismiss()


class _Child:
    """A process, the group that it leads, and the end of what they print."""

    def __init__(self, command: Command, whose: str) -> None:
        self._whose, self._grace = whose, command.grace_seconds
        self._kept, self._limit, self._total = bytearray(), command.output_tail_bytes, 0
        with ExitStack() as opened:
            self._selector = opened.enter_context(selectors.DefaultSelector())
            self._reader, writer = os.pipe()
            opened.callback(os.close, self._reader)
            os.set_blocking(self._reader, False)
            self._selector.register(self._reader, selectors.EVENT_READ)
            try:
                self._popen = subprocess.Popen(  # noqa: S603  what the code declares, and no shell
                    list(command.arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=writer,
                    stderr=writer,
                    cwd=command.working_directory,
                    env=dict(command.environment),
                    start_new_session=True,
                )
            finally:
                os.close(writer)
            self._opened = opened.pop_all()
        self.pid = self._popen.pid

    def has_ended(self) -> bool:
        """Whether the process itself has; others of its group may go on."""
        return self._popen.poll() is not None

    def told(self) -> tuple[int | None, str, int]:
        """Its exit code, the end of what it has printed, and how many bytes that were in all."""
        output = self._kept.decode("utf-8", "backslashreplace").replace("\0", r"\x00")
        return self._popen.returncode, output, self._total

    def read_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Read what is printed; whether *condition* came true within *seconds*."""
        deadline, tick = time.monotonic() + seconds, FIRST_TICK_SECONDS
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # What has just printed its last is about to end.
            is_read = self._read(min(tick, left))
            tick = FIRST_TICK_SECONDS if is_read else min(2 * tick, TICK_SECONDS)
        return True

    def end(self) -> None:
        """End the group, with force if need be; what the process leaves behind, a little later."""
        left_behind = self.has_ended()
        patience = LEFTOVER_SECONDS if left_behind else 0.0
        steps = (None, patience), (signal.SIGTERM, self._grace), (signal.SIGKILL, KILLED_SECONDS)
        for number, seconds in steps:
            if number is not None:
                group.send(self.pid, number)
            if self.read_until(lambda: not self._is_there(), seconds):
                return
            if number is None and left_behind:
                logger.warning("%s: its command has left processes behind: ended", self._whose)
        logger.error("%s: processes of group %d cannot be ended", self._whose, self.pid)

    def read_rest(self) -> None:
        """Read what was printed; what has left the group may print on."""
        for _ in range(LAST_CHUNKS):
            if not self._read(0):
                break

    def _read(self, seconds: float) -> bool:
        """Whether there was something to read, or that nobody prints any more, within *seconds*."""
        if not self._selector.select(seconds):
            return False
        chunk = os.read(self._reader, CHUNK_BYTES)
        if not chunk:
            self._selector.unregister(self._reader)
        self._total += len(chunk)
        self._kept += chunk
        del self._kept[: max(0, len(self._kept) - self._limit)]
        return True

    def _is_there(self) -> bool:
        """Whether the process or another one of its group is.

        The group's number is nobody else's while there is one of them: it may be sent a signal.
        """
        return not self.has_ended() or group.is_alive(self.pid)

    def close(self) -> None:
        """Let go of it; at once, if the fault is ours."""
        if self._is_there():
            group.send(self.pid, signal.SIGKILL)
        self._opened.close()
