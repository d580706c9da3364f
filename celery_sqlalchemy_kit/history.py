"""The worker's side of a run: begun before the task's body, ended after it.

A message is a run's if it has the header `HEADER`, which the scheduler sets; all others, such as
those of ``.delay()``, pass by untouched, and so does what is called eagerly. A worker that cannot
reach the database waits for it as long as it may be a restart, then runs the task, says so, and
records it later; but only for a first message: one that may be the second of its run is put back
until the database answers.
"""

from __future__ import annotations

import sys
import threading
import traceback
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn
from uuid import UUID, uuid4

from celery import signals, states
from celery.exceptions import Ignore, Reject
from celery.utils.log import get_logger
from celery.utils.time import maybe_make_aware
from kombu.exceptions import OperationalError

from .attempt import Attempt
from .book import Book, book_of
from .clock import UTC
from .errors import CommandError
from .routines import AGAIN, ERROR_LIMIT, HEADER, State
from .signals import task_lost
from .storage import RunLedger
from .storage.values import Begun

#: The header in which the worker's main process tells the pool's which attempt a message is.
ATTEMPT = "routine_attempt_id"
#: Seconds after which a message comes again that was put back as the database is away.
AWAY_SECONDS = 10.0

logger = get_logger(__name__)


class Stopped(BaseException):
    """Ends the tracing of a task of which the worker tells, and records, how it ends: that it was
    revoked or cancelled, or has reached its hard time limit."""


def connect() -> None:
    """Listen to Celery's signals; any number of times."""
    signals.task_prerun.connect(_on_prerun, weak=False, dispatch_uid=__name__)
    signals.task_postrun.connect(_on_postrun, weak=False, dispatch_uid=__name__)


def begin(task: Any) -> None:
    """Begin the run that *task* was sent for; once a request, however often it is called.

    Raises:
        Ignore: another message of the run was first, it is over, or it was pruned; or the message
            was put back, to come again.
        Reject: it could not be put back otherwise.
    """
    attempt = _begin(task, again=begins_again(task))
    if attempt is None or attempt.begun is Begun.BEGUN:
        return
    book = book_of(task.app)
    if attempt.begun is None:
        _begin_blind(task, attempt, book)
    elif attempt.begun is Begun.UNKNOWN:
        _begin_unknown(task, attempt, book)
    elif attempt.begun is Begun.OWNED and getattr(task.request, AGAIN, None) is True:
        # A scheduler's, which sends another if the worker dies; the broker would not.
        _drop(attempt, "its worker is alive")
    elif attempt.begun is Begun.OWNED:
        seconds = book.settings.scheduler_lost_after / 3
        _put_back(task, attempt, seconds, "its worker is alive, but may yet die")
    elif attempt.begun is Begun.LOST:
        tell_lost(attempt, book, "its worker has stopped beating", again=False)
        raise Ignore("this run is lost")
    else:
        _drop(attempt, "this run has begun before")


def begins_again(task: Any) -> bool:
    """Whether a run of *task* that is lost begins again."""
    return getattr(task, "on_worker_lost", None) == "again"


def tell_lost(attempt: Attempt, book: Book, reason: str, *, again: bool) -> None:
    """Say that the run of *attempt* is lost, in the log and by the signal."""
    logger.warning("%s: lost%s: %s", attempt, ", begins again" if again else "", reason)
    name, worker = book.ask(lambda ledger: ledger.owner(attempt.run_id)) or ("", attempt.worker)
    task_lost.send(
        sender=name,
        run_id=attempt.run_id,
        routine_name=name,
        task=attempt.task,
        worker=worker,
        reason=reason,
        again=again,
    )


def _begin_blind(task: Any, attempt: Attempt, book: Book) -> None:
    if not _is_repeated(task.request):
        book.keep(partial(attempt.record, book))
    elif book.exists:
        _put_back(task, attempt, AWAY_SECONDS, "the database is away")
    else:
        _drop(attempt, "it may have begun before, and there is no database to ask")


def _begin_unknown(task: Any, attempt: Attempt, book: Book) -> None:
    if _outlived(task, book):
        _drop(attempt, "this run was pruned")
    if _is_repeated(task.request):
        _drop(attempt, "it may have begun before, and the database has no such run")
    logger.warning("%s: runs, but the database has no such run", attempt)


def _drop(attempt: Attempt, why: str) -> NoReturn:
    attempt.begun = Begun.DUPLICATE
    logger.info("%s: dropped, as %s", attempt, why)
    raise Ignore(why)


def _put_back(task: Any, attempt: Attempt, seconds: float, why: str) -> NoReturn:
    """Send the message once more, for later, and be done with this one."""
    attempt.begun = Begun.OWNED
    logger.info("%s: put back for %g s: %s", attempt, seconds, why)
    request = task.request
    copy = task.signature_from_request(
        request,
        countdown=seconds,
        retries=attempt.retries,
        headers={**request.headers, AGAIN: "put back"},
    )
    try:
        copy.apply_async()
    except (OperationalError, OSError) as error:
        raise Reject(error, requeue=True) from error
    raise Ignore(why)


def _on_prerun(task: Any = None, **_: Any) -> None:
    """For tasks that are not built on ours: begun, but never dropped."""
    if getattr(task, "begins_its_runs", False):
        return
    if (attempt := _begin(task, again=True, runs_anyway=True)) is None:
        return
    if attempt.begun is None:
        book = book_of(task.app)
        book.keep(partial(attempt.record, book))
    elif attempt.begun in (Begun.DUPLICATE, Begun.OWNED):
        logger.info("%s: runs, although this run has begun before", attempt)


def _on_postrun(task: Any = None, state: Any = None, retval: Any = None, **_: Any) -> None:
    attempt: Attempt | None = getattr(task.request, "routine_attempt", None)
    if attempt is None or attempt.begun not in (None, Begun.BEGUN):
        return
    ending = _ending(state, retval, task.app) or _ending_of_thread()
    if ending is None:
        return
    book = book_of(task.app)
    attempt.end(ending)
    written = False
    try:
        written = attempt.record(book)
    finally:  # a soft time limit may come just now
        if not written:
            book.keep(partial(attempt.record, book))


def _begin(task: Any, *, again: bool, runs_anyway: bool = False) -> Attempt | None:
    """The new attempt; None if the request is none of a run, or has its attempt.

    A database that is away is waited for, as long as it may be a restart. *runs_anyway*: it is
    not, nor is it asked whether the worker that has begun the run before is alive.
    """
    request = task.request
    run_id = _run_id(request)
    if run_id is None or getattr(request, "routine_attempt", None) is not None:
        return None
    attempt = attempt_of(request, run_id, task.name)
    request.routine_attempt = attempt
    repeated = _is_repeated(request)
    # What is sent with these headers, as a retry, is a message of the run, but a first one; and
    # Celery 5.2 leaves them empty.
    custom = {key: value for key, value in (request.headers or {}).items() if key not in _OURS}
    request.headers = {**custom, HEADER: getattr(request, HEADER)}
    book = book_of(task.app)
    lost_after = timedelta(seconds=0 if runs_anyway else book.settings.scheduler_lost_after)

    def take(ledger: RunLedger) -> Begun:
        return ledger.begin(
            run_id,
            attempt.id,
            retries=attempt.retries,
            worker=attempt.worker,
            again=again,
            lost_after=lost_after if repeated else None,
        )

    attempt.begun = book.ask(take)
    if not (runs_anyway or repeated):
        while attempt.begun is None and book.bridge():
            attempt.begun = book.ask(take)
    return attempt


_OURS = frozenset({HEADER, AGAIN, ATTEMPT})


def attempt_of(request: Any, run_id: UUID, task: str) -> Attempt:
    """The attempt that the message with *request*, its context, is."""
    return Attempt(
        run_id,
        task,
        worker=(request.hostname or "")[:255],
        retries=request.retries or 0,
        id=as_uuid(getattr(request, ATTEMPT, None)) or uuid4(),
    )


def _run_id(request: Any) -> UUID | None:
    if not getattr(request, HEADER, None) or request.called_directly or request.is_eager:
        return None
    return as_uuid(request.id)


def as_uuid(text: Any) -> UUID | None:
    """The id that *text* is; None if it is none, as task ids are anybody's."""
    try:
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        return None


def _is_repeated(request: Any) -> bool:
    """Whether it may be the second message of its run."""
    redelivered = (request.delivery_info or {}).get("redelivered")
    return bool(redelivered or getattr(request, AGAIN, None))


def _outlived(task: Any, book: Book) -> bool:
    claimed_at = _read_instant(getattr(task.request, HEADER))
    now = book.ask(lambda ledger: ledger.now())
    kept_for = timedelta(seconds=book.settings.scheduler_keep_runs_for)
    return claimed_at is not None and now is not None and now - claimed_at > kept_for


def _read_instant(text: Any) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def _ending(state: Any, retval: Any, app: Any) -> dict[str, Any] | None:
    """How the ledger is to end the run; None if Celery does not say, as when the process dies."""
    if state == states.SUCCESS:
        return {"state": State.SUCCEEDED}
    if state == states.FAILURE:
        return {"state": State.FAILED, "error": describe(retval)}
    if state == states.RETRY:
        due = getattr(retval, "when", None)
        if isinstance(due, datetime):
            due = maybe_make_aware(due, app.timezone)
        error = describe(getattr(retval, "exc", None))
        return {"state": State.RETRYING, "error": error, "due": due}
    if state == states.IGNORED:
        return {"state": State.SUCCEEDED, "reason": "ignored"}
    if state == states.REJECTED and retval.requeue:
        return {"state": State.SENT}
    if state == states.REJECTED:
        cause = retval.reason if isinstance(retval.reason, BaseException) else retval
        return {"state": State.FAILED, "reason": "rejected", "error": describe(cause)}
    return None


def _ending_of_thread() -> dict[str, Any] | None:
    """What ends the process in other pools, `SystemExit` say, ends but the body in a thread."""
    error = sys.exc_info()[1]
    if isinstance(error, Stopped | None) or threading.current_thread() is threading.main_thread():
        return None
    return {"state": State.FAILED, "error": describe(error)}


def describe(error: Any) -> str | None:
    """Type and message of an exception, and as many of its last frames as fit the ledger."""
    if not isinstance(error, BaseException):
        return None if error is None else str(error)
    told = "".join(traceback.format_exception_only(type(error), error)).strip()
    if isinstance(error, CommandError):
        return told  # it fits, and what the command has printed says more than our own frames
    told = told[:1024]
    room = ERROR_LIMIT - _octets(told)
    frames: list[str] = []
    for frame in reversed(traceback.format_tb(error.__traceback__, limit=-20)):
        room -= _octets("\n" + frame)
        if room < 0:
            break
        frames.insert(0, frame)
    return "\n".join([told, *frames]).strip()


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))
