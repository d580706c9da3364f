"""Tasks that know when they are due, run once for each run of their routine, and are retried."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Celery, Task, states
from celery.exceptions import Reject, TimeLimitExceeded
from celery.local import Proxy
from celery.utils.functional import head_from_fun

from . import aio, declarations, entries, heartbeats, history, limits, requests, sessions
from .config import Settings
from .errors import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


class SyncTask(Task):  # type: ignore[misc]
    """A task that runs once for each run of its routine, and is retried when it fails.

    A subclass that has a ``name``, a ``schedule`` or ``routines``, and ``run``, is registered with
    every app by being defined. One with none of the three, or with ``abstract = True``, is a base
    for others.

    It is retried on any exception but Retry, Ignore and Reject, ``celery_max_retry`` times,
    ``celery_retry_delay`` seconds apart. Celery's own attributes go before these settings:
    ``max_retries``, ``default_retry_delay``, ``retry_backoff``, ``autoretry_for``,
    ``dont_autoretry_for``.
    """

    abstract = True
    Request = "celery_sqlalchemy_kit.requests:RunRequest"
    #: For runs alone, see `requests.RunRequest`; set by a subclass it holds for every message.
    acks_late = True
    autoretry_for: tuple[type[BaseException], ...] = (Exception,)
    dont_autoretry_for: tuple[type[BaseException], ...] = ()

    #: When it is due, as `schedules.parse` reads it, or a list of such: a routine for each, named
    #: ``<task> <schedule as JSON>``. None for a task that is no routine.
    schedule: Any = None
    #: Routines with names of their own: name to ``schedule``, and ``args``, ``kwargs``,
    #: ``options`` where they are not those below.
    routines: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: What the routine passes to the task, and the routine's options for ``apply_async``.
    args: Sequence[Any] = ()
    kwargs: ClassVar[Mapping[str, Any]] = {}
    options: ClassVar[Mapping[str, Any]] = {}

    #: What becomes of a run whose worker dies in the middle of it: it is ``"lost"``, or begins
    #: ``"again"``, for tasks that may be cut off anywhere and repeated.
    on_worker_lost = "lost"

    #: Tells `history` that ``before_start`` begins the run.
    begins_its_runs = True
    #: What ``track_started`` was; see `bind`.
    tracks_its_start = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if declarations.is_apps_own(cls):
            return
        cls.__bound__ = False
        cls._take_coroutine()
        cls._check()
        cls._begin_before_start()
        if cls._is_declaration():
            declarations.declare(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        ready = declarations.is_apps_own(cls) or _is_made_by_app(cls)
        return super().__new__(cls if ready else declarations.current_apps(cls))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_app" and declarations.is_apps_own(type(self)):
            # `Celery.register_task` hands the task to its app.
            self.__class__ = declarations.apps_own(type(self).__base__, name=self.name)
        elif name == "_orig_run":
            # `celery.app.autoretry` sets the body aside.
            value = functools.partial(_run_and_mark, self, value)
        super().__setattr__(name, value)

    @classmethod
    def bind(cls, app: Celery) -> Celery:
        app = super().bind(app)
        settings = Settings.load(app.conf, scheduler=False)
        cls._set_default("max_retries", settings.celery_max_retry)
        cls._set_default("default_retry_delay", settings.celery_retry_delay)
        cls._begin_before_start()  # an annotation may have replaced it
        if cls.track_started:
            # Celery would store STARTED before it is known whether the message is a duplicate,
            # over the result of a run that has failed. `_track_start` does it after that.
            cls.track_started, cls.tracks_its_start = False, True
        return app

    def session(self) -> AbstractContextManager[Session]:
        """A session on the database of ``scheduler_db_uri``: ``with self.session() as session``.

        It is committed at the end of the block, rolled back if that raises. See `sessions`.
        """
        return sessions.session(self.app)

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        if not self.app.finalized:
            self.app.finalize(auto=True)  # until then the app has none of our tasks
        return super().apply(*args, **kwargs)

    def retry(
        self, args: Any = None, kwargs: Any = None, exc: Any = None, *rest: Any, **options: Any
    ) -> Any:
        if self._is_final(exc):
            raise exc
        return super().retry(args, kwargs, exc, *rest, **options)

    def _is_final(self, error: Any) -> bool:
        if isinstance(error, (Reject, history.Stopped)):
            return True
        return error is not None and error is getattr(self.request, "not_retried", None)

    @classmethod
    def _set_default(cls, attribute: str, value: Any) -> None:
        """Set it, unless a class or an annotation of the user's has, be it to Celery's default."""
        theirs = cls.__mro__[: cls.__mro__.index(SyncTask)]
        if not any(attribute in vars(each) for each in theirs):
            setattr(cls, attribute, value)

    @classmethod
    def _take_coroutine(cls) -> None:
        if inspect.iscoroutinefunction(cls.run):
            raise DeclarationError(
                f"task {declarations.title(cls)!r}: run is a coroutine function; build it on "
                "AsyncTask"
            )

    @classmethod
    def _check(cls) -> None:
        entries.check(vars(cls), f"task {declarations.title(cls)!r}")
        if cls.on_worker_lost not in ("lost", "again"):
            raise DeclarationError(
                f"task {declarations.title(cls)!r}: on_worker_lost is 'lost' or 'again', "
                f"not {cls.on_worker_lost!r}"
            )

    @classmethod
    def _begin_before_start(cls) -> None:
        """Begin the run before the hook that *cls* has, whether or not it calls ``super()``."""
        hook = inspect.getattr_static(cls, "before_start")
        if getattr(hook, "begins", False):
            return

        @functools.wraps(hook)
        def before_start(self: SyncTask, *args: Any, **kwargs: Any) -> None:
            history.begin(self)
            _track_start(self)
            get = getattr(hook, "__get__", lambda *_: hook)
            get(self, type(self))(*args, **kwargs)

        vars(before_start).update(begins=True)
        cls.before_start = before_start

    @classmethod
    def _is_declaration(cls) -> bool:
        own = vars(cls)
        named = any(own.get(each) is not None for each in ("name", "schedule", "routines"))
        if not named or own.get("abstract") or _is_made_by_app(cls):
            return False
        return cls._has_body() and not declarations.needs_arguments(cls)

    @classmethod
    def _has_body(cls) -> bool:
        return cls.run is not Task.run


class AsyncTask(SyncTask):
    """A task whose body is the coroutine function ``execute``; what it returns is the result.

    All of a worker process run on one event loop, which lives as long as the process.
    """

    abstract = True

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Tasks must define the execute method.")

    async def run_execute(self, *args: Any, **kwargs: Any) -> Any:
        """What is run round ``execute``; override it for what all of a base class need."""
        return await self.execute(*args, **kwargs)

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:  # type: ignore[override]
        """The same with ``async with``, on the database of ``worker_async_db_uri``; without that,
        of ``scheduler_db_uri``. Cancelled while it commits, it may have committed."""
        # Types differ, as a body is of one kind, and calls no other kind's session.
        return sessions.async_session(self.app)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        own = limits.limits_of(self)
        try:
            return aio.run(lambda: self.run_execute(*args, **kwargs), task=self, limits=own)
        except TimeLimitExceeded as error:
            if own.hard is not None:
                self.request.not_retried = error  # as where the pool keeps it
            raise

    @classmethod
    def bind(cls, app: Celery) -> Celery:
        app = super().bind(app)
        cls.request_stack.__ident_func__ = aio.ident
        return app

    @classmethod
    def _take_coroutine(cls) -> None:
        if inspect.iscoroutinefunction(cls.run):
            body = {"execute": inspect.getattr_static(cls, "run"), "run": AsyncTask.run}
            for attribute, value in body.items():
                setattr(cls, attribute, value)

    @classmethod
    def _has_body(cls) -> bool:
        return cls.execute is not AsyncTask.execute or cls.run is not AsyncTask.run


def routine(
    *,
    schedule: Any = None,
    name: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    routines: Mapping[str, Mapping[str, Any]] | None = None,
    bind: bool = False,
    **attributes: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Make a function, plain or ``async``, a task of every app that is run by *schedule*.

    *args* and *kwargs* are what the routine passes to it, *options* are those of ``apply_async``.
    A list of schedules makes several routines, and so does *routines*: see `SyncTask`.
    *attributes* are those of a Celery task, such as ``max_retries``; *bind* passes the task as
    ``self``. What takes the function's place is the task of the current app: ``tidy.delay()``
    sends it, ``tidy()`` calls it.

    Raises:
        DeclarationError: a schedule is none, there is none, or another task has that name.
    """

    def declare(function: Callable[..., Any]) -> Any:
        if schedule is None and not routines:
            raise DeclarationError(f"task {name or function.__name__!r}: a routine has a schedule")
        body = function if bind else staticmethod(function)
        written: dict[str, Any] = {
            "name": name,
            "schedule": schedule,
            "args": tuple(args),
            "kwargs": dict(kwargs or {}),
            "options": dict(options or {}),
            "routines": dict(routines or {}),
            "run": body,
            "__wrapped__": body,
            "__header__": staticmethod(head_from_fun(function, bound=bind)),
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": function.__doc__,
        }
        base = AsyncTask if inspect.iscoroutinefunction(function) else SyncTask
        cls = type(function.__name__, (base,), written | attributes)
        return Proxy(
            declarations.registered, (cls,), name=function.__name__, __doc__=function.__doc__
        )

    return declare


def declared_tasks(app: Celery) -> list[SyncTask]:
    """The tasks of *app* that are routines: built on `SyncTask`, with a schedule."""
    return [
        task
        for task in app.tasks.values()
        if isinstance(task, SyncTask) and (task.schedule is not None or task.routines)
    ]


def _is_made_by_app(cls: type) -> bool:
    """Whether ``@app.task`` made it, of a function; it also registers it."""
    return "_decorated" in vars(cls)


def _run_and_mark(task: SyncTask, body: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Mark what is not to be retried, for `SyncTask.retry`: the autoretry of Celery 5.2 has no
    ``dont_autoretry_for``."""
    try:
        return body(*args, **kwargs)
    except tuple(task.dont_autoretry_for) as error:
        task.request.not_retried = error
        raise


def _track_start(task: SyncTask) -> None:
    request = task.request
    ignored = vars(request).get("ignore_result", task.ignore_result)
    if not task.tracks_its_start or ignored or request.is_eager or request.called_directly:
        return
    if not getattr(request, "start_is_tracked", False):
        request.start_is_tracked = True
        meta = {"pid": os.getpid(), "hostname": request.hostname}
        task.backend.store_result(request.id, meta, states.STARTED, request=request)


SyncTask._begin_before_start()  # noqa: SLF001  its subclasses do so when they are defined
for _each in (history, requests, heartbeats, limits):
    _each.connect()
