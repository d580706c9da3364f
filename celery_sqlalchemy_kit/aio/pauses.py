"""Waiting for a moment, on a thread that may have other tasks to go on with."""

from __future__ import annotations

import asyncio

from .. import clock
from .call import _here, run


def pause(seconds: float) -> None:
    """Wait. In the asyncio pool an async task's thread goes on with other tasks meanwhile.

    Raises:
        BaseException: what ends the task, such as its soft time limit.
    """
    if _here.find_parking() is None:
        clock.pause(seconds)
    else:
        run(lambda: asyncio.sleep(seconds))
