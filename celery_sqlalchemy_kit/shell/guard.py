"""What ends a command whose worker is killed, and can end nothing any more."""

from __future__ import annotations

import math
import os
import subprocess
from contextlib import suppress

from celery.utils.log import get_logger

logger = get_logger(__name__)

#: Reads the process group; then nothing, until the worker that holds the other end of the pipe is
#: gone. SIGTERM, then SIGKILL once $1 seconds are over.
_SCRIPT = """
trap '' HUP INT TERM
read -r group || exit
read -r nothing
kill -s TERM -- "-$group"
left=$1
while kill -s 0 -- "-$group" && [ "$left" -gt 0 ]; do sleep 1; left=$((left - 1)); done
kill -s KILL -- "-$group"
"""


class Guard:
    """A process that outlives the worker, in order to end what a command has started.

    Linux's PR_SET_PDEATHSIG does not: it reaches the child alone, and is bound to the thread.
    """

    def __init__(self, grace_seconds: float, whose: str) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        try:
            self._shell = subprocess.Popen(  # noqa: S603  the script is our own
                ["/bin/sh", "-c", _SCRIPT, "guard", str(math.ceil(grace_seconds))],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        except OSError as error:
            logger.warning("%s: outlives its worker if that is killed: %s", whose, error)

    def watch(self, group: int) -> None:
        """End the process group *group* when this process is gone."""
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(BrokenPipeError):  # somebody has killed it
                self._shell.stdin.write(b"%d\n" % group)

    def dismiss(self) -> None:
        """There is nothing left to be ended."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.kill()
            self._shell.wait()
            self._shell.stdin.close()
