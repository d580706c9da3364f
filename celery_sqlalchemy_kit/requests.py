"""What the worker's main process knows of a message of a run, and the pool's processes do not:
that it was revoked, has expired or names no task, ran out of time, or that its process died.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.exceptions import WorkerLostError
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import task_ready

from .attempt import Attempt
from .book import Book, book_of
from .history import ATTEMPT, as_uuid, attempt_of, begins_again, tell_lost
from .routines import HEADER, State
from .storage import RunLedger
from .storage.values import Fate

logger = get_logger(__name__)


def connect() -> None:
    """Listen to Celery's signals; any number of times."""
    signals.task_revoked.connect(_on_revoked, weak=False, dispatch_uid=__name__)
    signals.task_unknown.connect(_on_unknown, weak=False, dispatch_uid=__name__)


class RunRequest(Request):  # type: ignore[misc]
    """Messages of runs are acknowledged late, so that a process killed before it begins one loses
    nothing. For every other message, Celery's default holds: acknowledged once accepted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accepted: float | None = None
        if self.run_id is not None:
            # Both processes have to speak of the same attempt.
            self._request_dict[ATTEMPT] = str(uuid4())
        elif self._is_acknowledged_early():
            # What Celery does depends on the task's ``acks_late``: show it Celery's default.
            shown = object.__new__(type(self.task))
            vars(shown).update(vars(self.task), acks_late=False)
            self._task = shown

    @property
    def run_id(self) -> UUID | None:
        """The run that it is a message of, if it is one's."""
        return as_uuid(self.id) if self.request_dict.get(HEADER) else None

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self._accepted = time.monotonic()
        super().on_accepted(pid, time_accepted)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001  Celery passes it
        if not soft and (attempt := self._attempt()) is not None:
            error = f"TimeLimitExceeded: the hard time limit of {timeout:g} s"
            _end_later(attempt, book_of(self.app), {"state": State.FAILED, "error": error})
        super().on_timeout(soft, timeout)

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        """Celery kills the task, as its connection is lost or the worker is told to stop at once,
        and leaves the message to the broker."""
        with suppress(NotImplementedError):  # threads and solo cannot: the task goes on
            super().cancel(*args, **kwargs)
        attempt = self._attempt()
        if self._already_cancelled and attempt is not None:
            book = book_of(self.app)
            book.keep(partial(self._lose_late, attempt, book, "cancelled by its worker"))

    def on_failure(
        self,
        exc_info: ExceptionInfo,
        send_failed_event: bool = True,  # noqa: FBT001, FBT002  Celery passes it
        return_ok: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        lost = self._is_lost(getattr(exc_info, "exception", None))
        if lost and self._goes_back(f"its process died: {_told(exc_info)}"):
            task_ready(self)
            self.reject(requeue=True)
            return
        super().on_failure(exc_info, send_failed_event, return_ok)

    def _is_acknowledged_early(self) -> bool:
        """Late acknowledgement is ours alone: neither this task nor the app asks for it."""
        task = self.task
        owner = next(each for each in (task, *type(task).__mro__) if "acks_late" in vars(each))
        ours = "begins_its_runs" in vars(owner) and not self.app.conf.task_acks_late
        return ours and not self.request_dict.get(HEADER)

    def _is_lost(self, error: BaseException | None) -> bool:
        if self._already_cancelled or self._already_revoked:
            return False
        error = getattr(error, "exc", error) if "WithTraceback" in type(error).__name__ else error
        return isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt))

    def _attempt(self) -> Attempt | None:
        if self.run_id is None:
            return None
        attempt = attempt_of(self._context, self.run_id, self.name)
        attempt.began = self._accepted or attempt.began
        return attempt

    def _goes_back(self, reason: str) -> bool:
        """Whether the message, whose process is gone, may begin its run, or begin it again.

        Asked here and now, on Celery's event loop, as the run has to be lost before its message
        can come again.
        """
        attempt = self._attempt()
        if attempt is None:
            return False
        again, book = begins_again(self.task), book_of(self.app)
        if again and self.acknowledged:
            return False  # a scheduler finds it and sends it again
        fate = book.ask(partial(_lose, attempt, reason, again))
        if fate is None:
            book.keep(partial(self._lose_late, attempt, book, reason))
        elif fate is Fate.LOST:
            tell_lost(attempt, book, reason, again=again)
        elif fate is Fate.UNSTARTED and not self.acknowledged:
            logger.info("%s: put back, as its process died first", attempt)
            return True
        return again and fate is not Fate.OVER

    def _lose_late(self, attempt: Attempt, book: Book, reason: str) -> bool:
        """Once the database is back: what it does not know to have begun may have, all the same;
        so it is taken to have, unless it may be repeated."""
        again = begins_again(self.task)
        fate = book.ask(partial(_lose, attempt, reason, again))
        if fate is Fate.UNSTARTED and not again:
            attempt.record(book)
            fate = book.ask(partial(_lose, attempt, reason, again))
        if fate is Fate.LOST:
            tell_lost(attempt, book, reason, again=again)
        return fate is not None


def _lose(attempt: Attempt, reason: str, again: bool, ledger: RunLedger) -> Fate:  # noqa: FBT001
    retries = attempt.retries
    return ledger.lose(attempt.run_id, attempt.id, retries=retries, reason=reason, again=again)


def _told(exc_info: ExceptionInfo) -> str:
    error = exc_info.exception
    return str(getattr(error, "exc", error)) or type(error).__name__


def _end_later(attempt: Attempt, book: Book, ending: dict[str, Any]) -> None:
    attempt.end(ending)
    book.keep(partial(attempt.record, book))


def _drop_later(app: Any, run_id: UUID, state: State, retries: int, task: str, reason: str) -> None:
    book = book_of(app)

    def drop() -> bool:
        dropped = book.ask(
            lambda ledger: ledger.drop(run_id, state, retries=retries, reason=reason)
        )
        if dropped:
            logger.info("%s[%s]: %s: %s", task, run_id, state.value, reason)
        return dropped is not None

    book.keep(drop)


def _on_revoked(
    sender: Any = None, request: Any = None, terminated: Any = None, expired: Any = None, **_: Any
) -> None:
    run_id = as_uuid(request.id) if getattr(request, HEADER, None) else None
    if run_id is None:
        return
    reason = "expired" if expired else "revoked"
    if terminated and getattr(request, ATTEMPT, None):
        attempt = attempt_of(request, run_id, sender.name)
        _end_later(attempt, book_of(sender.app), {"state": State.FAILED, "reason": reason})
    else:
        retries = request.retries or 0
        _drop_later(sender.app, run_id, State.SKIPPED, retries, sender.name, reason)


def _on_unknown(
    sender: Any = None,
    message: Any = None,
    name: Any = None,
    id: Any = None,  # noqa: A002  Celery's name
    **_: Any,
) -> None:
    run_id = as_uuid(id) if message.headers.get(HEADER) else None
    if run_id is not None:
        reason = f"unknown task {name} on {sender.hostname}"
        retries = message.headers.get("retries") or 0
        _drop_later(sender.app, run_id, State.LOST, retries, name, reason)
