"""Waiting for a moment, on a thread that may have other tasks to go on with."""

from __future__ import annotations

import asyncio
from functools import partial

from celery.exceptions import SoftTimeLimitExceeded

from .. import clock
from .call import Call, _here


def pause(seconds: float) -> None:
    """Wait. In the asyncio pool an async task's thread goes on with other tasks meanwhile.

    Raises:
        BaseException: what ends the task, such as its soft time limit.
    """
    park = _here.find_parking()
    if park is None:
        clock.pause(seconds)
        return
    call = Call(partial(asyncio.sleep, seconds), None)
    park(call)
    call.outcome()
    if call.unmet is not None:
        # It came just after the end. A body is past its limits then; here it is still to begin.
        raise SoftTimeLimitExceeded(*call.unmet.args)
