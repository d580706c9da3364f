"""What has become of a run that is waited for."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import states
from celery.backends.base import DisabledBackend
from sqlalchemy.exc import SQLAlchemyError

from ..clock import pause
from ..details import RunDetails
from ..routines import ENDED, State
from ..store.faults import Fault, kind_of
from .lines import warn

#: Seconds between looks: at first, and at most.
FIRST, LONGEST = 0.1, 1.0
_ENDED = frozenset(state.value for state in ENDED)
#: No result is known.
NONE: Any = object()


@dataclass(frozen=True)
class Outcome:
    """The run as it was seen last; *result* is `NONE` if nothing is known of any."""

    run: RunDetails
    ended: bool
    result: Any = NONE

    @property
    def succeeded(self) -> bool:
        return self.run.state == State.SUCCEEDED.value

    def lines(self) -> list[str]:
        run = self.run
        told = [run.state if self.ended else f"still {run.state}"]
        if run.duration is not None:
            told[0] += f" after {run.duration.total_seconds():.1f} s"
        told += [f"reason: {run.reason}"] if run.reason else []
        told += [f"error: {line}" for line in (run.error or "").splitlines()]
        return (
            told
            if self.result is NONE
            else [*told, f"result: {json.dumps(_plain(self.result), ensure_ascii=False)}"]
        )

    def to_json(self) -> dict[str, Any]:
        """The run's fields, ``ended``, and ``result`` if there is one."""
        told = {**self.run.to_json(), "ended": self.ended}
        return told if self.result is NONE else {**told, "result": _plain(self.result)}


def await_end(routines: Any, app: Any, key: UUID, timeout: timedelta | None) -> Outcome:
    """Look at a run until it has ended, or for as long as *timeout*; an outage is waited out."""
    until = math.inf if timeout is None else time.monotonic() + timeout.total_seconds()
    look, seconds = _Look(routines, key), FIRST
    while True:
        run = look()
        if run is not None and run.state in _ENDED:
            return Outcome(run, ended=True, result=_result(app, run))
        left = until - time.monotonic()
        if left <= 0:
            return Outcome(run or routines.run(key), ended=False)
        pause(min(seconds, left))
        seconds = min(seconds * 1.5, LONGEST)


class _Look:
    """A look at a run; None while the database is away, which is said once."""

    def __init__(self, routines: Any, key: UUID) -> None:
        self._routines, self._key, self._away = routines, key, False

    def __call__(self) -> RunDetails | None:
        try:
            run: RunDetails = self._routines.run(self._key)
        except SQLAlchemyError as error:
            if kind_of(error) is Fault.OTHER:
                raise
            if not self._away:
                warn("the database does not answer; waiting goes on")
            self._away = True
            return None
        else:
            self._away = False
            return run


def _result(app: Any, run: RunDetails) -> Any:
    """What the task returned, as far as a result backend has it."""
    if run.state != State.SUCCEEDED.value or isinstance(app.backend, DisabledBackend):
        return NONE
    try:
        found = app.AsyncResult(str(run.id))
        state, result = found.state, found.result
    except Exception as error:  # noqa: BLE001  a backend's driver raises what it likes
        warn(f"the result cannot be had: {type(error).__name__}: {error}")
        return NONE
    return result if state == states.SUCCESS else NONE


def _plain(result: Any) -> Any:
    """*result* as JSON has it; as Python writes it if JSON has not."""
    try:
        json.dumps(result)
    except (TypeError, ValueError, RecursionError):
        return repr(result)
    return result
