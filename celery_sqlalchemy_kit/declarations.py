"""The task classes that are written in code, and how every app comes by its own of each.

Binding a task writes its app's settings on its class. So each app has a class of its own, derived
from the one that was written, which stays as it was written.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery, current_app

from .errors import DeclarationError

try:
    from celery._state import _get_active_apps, connect_on_app_finalize
except ImportError:  # not public: without it, tasks have to be registered by app.register_task

    def _get_active_apps() -> Iterable[Celery]:
        return ()

    def connect_on_app_finalize(callback: Callable[[Celery], None]) -> None:
        """In place of Celery's."""


#: The classes written so far, by the name of the task; every app has them all.
_declarations: dict[str, type] = {}


def declare(cls: type) -> None:
    """Register the task class *cls* with all apps, of now and later.

    Apps that are not finalised come by it when they are: their configuration may not be complete.

    Raises:
        DeclarationError: a class written elsewhere has its name.
    """
    name = title(cls)
    known = _declarations.get(name)
    if known is not None and _place(known) != _place(cls):
        raise DeclarationError(
            f"two tasks have the name {name!r}: {known.__module__}.{known.__qualname__} and "
            f"{cls.__module__}.{cls.__qualname__}"
        )
    _declarations[name] = cls
    for app in list(_get_active_apps()):
        if app.finalized:
            with _finalize_mutex(app):
                _register(app, cls)


def title(cls: type) -> str:
    """What a message calls the task; its name, unless Celery is to name it."""
    return vars(cls).get("name") or f"{cls.__module__}.{cls.__name__}"


def apps_own(written: Any, **own: Any) -> Any:
    """A class for the tasks of one app, derived from *written*."""
    own |= {"_is_apps_own": True, "__bound__": False, "_app": None, "request_stack": None}
    own |= {each: getattr(written, each) for each in ("__module__", "__qualname__", "__doc__")}
    return type(written)(written.__name__, (written,), own)


def is_apps_own(cls: type) -> bool:
    """Whether *cls* was not written, but made by `apps_own`."""
    return "_is_apps_own" in vars(cls)


def current_apps(written: Any) -> Any:
    """The class for tasks that no app was told of: they are the current app's, as Celery has it."""
    if "_of_current_app" not in vars(written):
        written._of_current_app = apps_own(written)  # noqa: SLF001
    return vars(written)["_of_current_app"]


def registered(cls: type) -> Any:
    """The current app's task of the class *cls*."""
    return current_app.tasks[_name(current_app, cls)]


def needs_arguments(cls: Any) -> bool:
    """Whether only the user can make an instance, to pass it to ``app.register_task``."""
    if cls.__init__ is object.__init__:
        return False
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    return any(each.default is each.empty and each.kind not in variadic for each in parameters)


def _name(app: Celery, cls: type) -> str:
    name: str = vars(cls).get("name") or app.gen_task_name(cls.__name__, cls.__module__)
    return name


def _place(cls: type) -> tuple[str, str]:
    """Where it is written: the same when a module is imported again, or also as ``__main__``."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file or cls.__module__, cls.__qualname__


def _finalize_mutex(app: Celery) -> contextlib.AbstractContextManager[Any]:
    mutex = getattr(app, "_finalize_mutex", None)
    # In Celery 5.2 it is no RLock: a module that is imported while its app is being finalised, by
    # the app's configuration, would wait for ever.
    return mutex if isinstance(mutex, type(threading.RLock())) else contextlib.nullcontext()


def _on_app_finalize(app: Celery) -> None:
    for cls in list(_declarations.values()):
        _register(app, cls)


def _register(app: Celery, cls: Any) -> None:
    """As `Celery.register_task` does, which cannot be called while *app* is being finalised."""
    task = cls()
    task.name = _name(app, cls)
    app._tasks.register(task)  # noqa: SLF001  `tasks` would finalise it
    task._app = app
    task.bind(app)
    # A later ``app.register_task(Report())`` is no mistake; since 5.7, Celery would warn of it.
    getattr(app, "_duplicate_task_names_warned", set()).add(task.name)


connect_on_app_finalize(_on_app_finalize)
