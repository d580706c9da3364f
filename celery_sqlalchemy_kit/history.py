"""The worker's side of a run: begun before the task's body, ended after it.

A message is a run's if it has the header `HEADER`, which the scheduler sets; all others, such as
those of ``.delay()``, pass by untouched, and so does what is called eagerly. A worker that cannot
reach the database runs the task and says so.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from billiard.einfo import ExceptionInfo
from celery import Celery, signals, states
from celery.exceptions import Ignore, WorkerLostError
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import task_ready
from sqlalchemy.exc import SQLAlchemyError

from .clock import UTC
from .config import Settings
from .errors import SettingsError
from .routines import HEADER, State
from .store.ledger import ERROR_LIMIT, Begun, Ledger

#: Age of a claim past which a run that is not in the database is taken for pruned.
RETENTION = timedelta(days=7)

logger = get_logger(__name__)
T = TypeVar("T")


@dataclass
class Attempt:
    """One go at a run, kept on the request, which is the only place where it is remembered."""

    run_id: UUID
    id: UUID = field(default_factory=uuid4)
    #: What the database said; None while it could not be reached.
    begun: Begun | None = None


def connect() -> None:
    """Listen to Celery's signals; any number of times."""
    signals.task_prerun.connect(_on_prerun, weak=False, dispatch_uid=__name__)
    signals.task_postrun.connect(_on_postrun, weak=False, dispatch_uid=__name__)


def begin(task: Any) -> None:
    """Begin the run that *task* was sent for; once a request, however often it is called.

    Raises:
        Ignore: another message of the run was first, it is over, or it was pruned.
    """
    if (attempt := _begin(task)) is None:
        return
    if attempt.begun is Begun.DUPLICATE:
        logger.info("%s[%s]: dropped, as this run has begun before", task.name, attempt.run_id)
        raise Ignore("this run has begun before")
    if attempt.begun is Begun.UNKNOWN:
        if _outlived(task):
            logger.info("%s[%s]: dropped, as this run was pruned", task.name, attempt.run_id)
            raise Ignore("this run was pruned")
        logger.warning("%s[%s]: runs, but the database has no such run", task.name, attempt.run_id)


def _on_prerun(task: Any = None, **_: Any) -> None:
    """For tasks that are not built on ours: begun, but never dropped."""
    if getattr(task, "begins_its_runs", False) or (attempt := _begin(task)) is None:
        return
    if attempt.begun is Begun.DUPLICATE:
        logger.info("%s[%s]: runs, although this run has begun before", task.name, attempt.run_id)


def _on_postrun(task: Any = None, state: Any = None, retval: Any = None, **_: Any) -> None:
    attempt: Attempt | None = getattr(task.request, "routine_attempt", None)
    ending = _ending(state, retval)
    if attempt is None or ending is None:
        return
    if attempt.begun is None:
        # The database was away. Begun late is better than never: it keeps other messages of the
        # run from being run as well.
        _ask_to_begin(task, attempt)
    if attempt.begun is not Begun.BEGUN:
        return
    book = _book(task.app)
    if book.ask(lambda ledger: ledger.end(attempt.run_id, attempt.id, **ending)) is False:
        logger.warning("%s[%s]: ended, but is no longer this attempt's", task.name, attempt.run_id)


def _begin(task: Any) -> Attempt | None:
    """The new attempt; None if the request is none of a run, or has its attempt."""
    request = task.request
    run_id = _run_id(request)
    if run_id is None or getattr(request, "routine_attempt", None) is not None:
        return None
    attempt = request.routine_attempt = Attempt(run_id)
    # Celery 5.2 sends a retry with these headers only, and leaves them empty.
    request.headers = {**(request.headers or {}), HEADER: getattr(request, HEADER)}
    _ask_to_begin(task, attempt)
    return attempt


def _run_id(request: Any) -> UUID | None:
    if not getattr(request, HEADER, None) or request.called_directly or request.is_eager:
        return None
    return _uuid(request.id)


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        return None


def _ask_to_begin(task: Any, attempt: Attempt) -> None:
    request = task.request
    worker = (request.hostname or "")[:255]
    attempt.begun = _book(task.app).ask(
        lambda ledger: ledger.begin(
            attempt.run_id, attempt.id, retries=request.retries or 0, worker=worker
        )
    )


def _outlived(task: Any) -> bool:
    claimed_at = _read_instant(getattr(task.request, HEADER))
    now = _book(task.app).ask(Ledger.now)
    return claimed_at is not None and now is not None and now - claimed_at > RETENTION


def _read_instant(text: Any) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def _ending(state: Any, retval: Any) -> dict[str, Any] | None:
    """How the ledger is to end the run; None if Celery does not say, as when the process dies."""
    if state == states.SUCCESS:
        return {"state": State.SUCCEEDED}
    if state == states.FAILURE:
        return {"state": State.FAILED, "error": describe(retval)}
    if state == states.RETRY:
        return {"state": State.RETRYING, "error": describe(getattr(retval, "exc", None))}
    if state == states.IGNORED:
        return {"state": State.SUCCEEDED, "reason": "ignored"}
    if state == states.REJECTED and retval.requeue:
        return {"state": State.SENT}
    if state == states.REJECTED:
        cause = retval.reason if isinstance(retval.reason, BaseException) else retval
        return {"state": State.FAILED, "reason": "rejected", "error": describe(cause)}
    return None


def describe(error: Any) -> str | None:
    """Type and message of an exception, and as many of its last frames as fit the ledger."""
    if not isinstance(error, BaseException):
        return None if error is None else str(error)
    told = "".join(traceback.format_exception_only(type(error), error)).strip()[:1024]
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


class _Book:
    """The ledger of one app, as far as it can be reached; one log line for each outage."""

    def __init__(self, app: Celery) -> None:
        self._away = False
        try:
            self._url = Settings.load(app.conf, scheduler=False).scheduler_db_uri
        except SettingsError as error:
            self._url = None
            logger.error("routines run, but nothing is recorded of them: %s", error)  # noqa: TRY400
        else:
            if self._url is None:
                logger.warning(
                    "routines run, but nothing is recorded of them, nor are duplicates dropped: "
                    "scheduler_db_uri is not set in this worker"
                )

    def ask(self, question: Callable[[Ledger], T]) -> T | None:
        """The ledger's answer, or None if there is none to be had."""
        if self._url is None:
            return None
        try:
            answer = question(Ledger.at(self._url))
        except (SQLAlchemyError, ImportError, OSError) as error:
            if not self._away:
                told = getattr(error, "orig", None) or error
                logger.warning("routines run, but the database cannot be reached: %s", told)
            self._away = True
            return None
        if self._away:
            logger.info("the database can be reached again: runs are recorded")
        self._away = False
        return answer


_books: WeakKeyDictionary[Celery, _Book] = WeakKeyDictionary()


def _book(app: Celery) -> _Book:
    """Made at the first run, as the settings of a worker are complete by then."""
    if app not in _books:
        _books[app] = _Book(app)
    return _books[app]


class RunRequest(Request):  # type: ignore[misc]
    """Messages of runs are acknowledged late, so that a process killed before it begins one loses
    nothing. For every other message, Celery's default holds: acknowledged once accepted."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        if self._is_acknowledged_early:
            self.acknowledge()

    def on_failure(
        self,
        exc_info: ExceptionInfo,
        send_failed_event: bool = True,  # noqa: FBT001, FBT002  Celery passes it
        return_ok: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        lost = self._is_lost(getattr(exc_info, "exception", None))
        if lost and self._may_still_begin():
            logger.info("%s[%s]: put back, as its process died first", self.name, self.id)
            task_ready(self)
            self.reject(requeue=True)
            return
        with self._as_acknowledged_early() if lost else contextlib.nullcontext():
            super().on_failure(exc_info, send_failed_event, return_ok)

    @property
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

    def _may_still_begin(self) -> bool:
        run_id = _uuid(self.id)
        if run_id is None or not self.request_dict.get(HEADER) or self.acknowledged:
            return False
        retries = self.request_dict.get("retries") or 0
        # A database that cannot be asked is no reason to send a message round for ever.
        begun = _book(self.app).ask(lambda ledger: ledger.has_begun(run_id, retries=retries))
        return begun is False

    @contextlib.contextmanager
    def _as_acknowledged_early(self) -> Iterator[None]:
        """What Celery does next depends on the task's ``acks_late``: show it Celery's default."""
        task = self.task
        if self._is_acknowledged_early:
            shown = object.__new__(type(task))
            vars(shown).update(vars(task), acks_late=False)
            self._task = shown
        try:
            yield
        finally:
            self._task = task
