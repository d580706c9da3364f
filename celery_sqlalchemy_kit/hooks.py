"""Whether anybody has a hand in what Celery does between ``apply_entry`` and the broker.

Whoever listens to a signal, replaces a method (as Sentry and tracers do) or derives from a class
is to be asked for every message. Where nobody does, one message is like the other.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import celery.app.amqp
import celery.app.base
import celery.app.routes
import celery.app.task
import celery.beat
import kombu.messaging
from celery import Celery, Task, signals
from celery.app.routes import MapRoute


def nobody_listens() -> bool:
    """No signal that tells of messages has a receiver."""
    told = (signals.before_task_publish, signals.after_task_publish)
    return not any(signal.receivers for signal in told)


def is_plain(app: Celery, apply_entry: Callable[..., Any], producer: Any) -> bool:
    """All that a message passes, whichever task it is for, is Celery's own."""
    amqp = app.amqp
    return (
        not app.conf.task_send_sent_event
        and not signals.task_sent.receivers
        and app.conf.task_protocol == 2
        and type(amqp) is celery.app.amqp.AMQP
        and type(amqp.router) is celery.app.routes.Router
        and type(producer) is kombu.messaging.Producer
        and _is_from(apply_entry, celery.beat)
        and _is_from(amqp.create_task_message, celery.app.amqp)
        and _is_from(amqp.send_task_message, celery.app.amqp)
        and _is_from(app.send_task, celery.app.base)
        and all(_is_from(getattr(producer, n), kombu.messaging) for n in ("publish", "_publish"))
        and _is_celerys(app.backend.on_task_call)
    )


def is_routed_by_name(app: Celery) -> bool:
    """A task's name says where its messages go; there is no need to ask for each."""
    return all(type(route) is MapRoute for route in app.amqp.routes)


def is_plain_task(task: Task | None) -> bool:
    """Nor has the task's own class a word in it."""
    if task is None:
        return True
    own = ("apply_async", "shadow_name", "_get_exec_options")
    return all(_is_from(getattr(task, name), celery.app.task) for name in own) and not getattr(
        task, "_dump_pydantic_arguments", None
    )


def _is_celerys(on_task_call: Any) -> bool:
    """Those of Celery's backends do nothing for who waits for no result."""
    return str(on_task_call.__module__).startswith("celery.backends.")


def _is_from(function: Any, module: ModuleType) -> bool:
    """It is defined there, whatever it says of itself: wrappers take over names and modules."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_filename == module.__file__)
