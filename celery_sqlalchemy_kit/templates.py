"""Messages by a template: what Celery would send for a run, without its long way for each.

A template is a message that Celery itself has made for a run like it (see `examples`). What differs
from run to run is taken out: ids, instants, arguments. It counts only if, filled in with what was
taken out, it is the message that Celery made. There is none where that is not so, and where
anybody has a hand in the making (see `hooks`). Whoever listens to Celery's signals is told of each
message, and may change it, as ever. Where nobody listens, what is pushed to Redis is a mere text,
and what is written to RabbitMQ mere octets; these also where who listens, before a message is
published, does no more than to add headers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from celery import Celery, signals

from . import hooks
from .confirms import Confirms
from .contents import Contents
from .examples import Example, copied, observed, route_of
from .kinds import Kinds
from .routines import Run
from .storage.values import Again, Claimed
from .template import Template, instants
from .texts import REDIS, Filled, tags

#: Templates that are kept; beyond that many, all are dropped.
MOST_KEPT = 1000
#: The logger, and the line, by which beat tells of each message.
_beat = logging.getLogger("celery.beat")
_SENDING = "Scheduler: Sending due task %s (%s)"
_encode = json.JSONEncoder().encode
#: What makes messages alike: task and options; and the route, where it has to be asked for.
_Shape = tuple[str, str]
_Key = tuple[_Shape, "tuple[Any, ...] | None"]
T = TypeVar("T")


class Templates:
    """Those for one connection to the broker."""

    def __init__(self, app: Celery, apply_entry: Callable[..., Any], producer: Any) -> None:
        self._app = app
        self._apply_entry = apply_entry
        self._producer = producer
        self._kept: dict[_Key, Template] = {}
        #: What the router is asked about, by shape, where it is to be asked for every message.
        self._asked: dict[_Shape, Mapping[str, Any]] = {}
        #: By shape, whatever the route.
        self._kinds = Kinds()
        self._contents = Contents(app)
        self._tags = tags()
        self._usable = self._routed = self._gathers = self._pushes = self._quiet = False

    def look(self) -> bool:
        """Whether there can be any, now: others may begin to have a hand in it at any time."""
        # Since kombu 5.7: whether its client never sends anything twice by itself.
        gathers = getattr(self._producer, "supports_batch_publish", None)
        try:
            plain = hooks.is_plain(self._app, self._apply_entry, self._producer)
        except Exception:  # noqa: BLE001  a backend that cannot be made: Celery says so of a message
            plain = False
        self._usable = plain and gathers is not None
        self._routed = not hooks.is_routed_by_name(self._app)
        self._gathers = bool(gathers) and type(self._producer.channel).__module__ == REDIS
        self._quiet = hooks.nobody_listens()
        self._pushes = self._gathers and self._quiet
        if self._usable:
            self._contents.look(self._redis())
            self._tags = tags()  # drawn anew: the process may have been forked
        return self._usable

    def _redis(self) -> Any:
        """The channel to it, where messages may be texts."""
        return self._producer.channel if self._gathers else None

    def firsts(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Notice which kinds come more than once. Where messages are texts, one run of each kind
        that has no template yet and is worth one; elsewhere they become templates as they come."""
        first: dict[_Shape, Claimed] = {}
        for held in claimed if self._usable else ():
            try:
                shape = _shape(held.run)
            except RecursionError:  # at fault by itself, once its turn comes
                continue
            known = shape in self._asked if self._routed else (shape, None) in self._kept
            if known or isinstance(held, Again):
                continue
            if shape in first:
                self._kinds.meet(shape)
            first.setdefault(shape, held)
        if not self._pushes:
            return []
        return [held for shape, held in first.items() if self._kinds.has_come(shape)]

    def fill(self, held: Claimed) -> Filled | None:
        """The message of a run as a text; None: it has to be sent otherwise."""
        if not (self._pushes and self._usable):
            return None
        return self._made(held, lambda template: template.filled(held, next(self._tags)))

    def framed(self, held: Claimed, confirms: Confirms) -> bytes | None:
        """The message of a run as it is written to an AMQP broker; None: it has to be sent
        otherwise."""
        if not (self._usable and self._quiet):
            return None
        return self._made(held, lambda template: template.framed(held, confirms))

    def _made(self, held: Claimed, make: Callable[[Template], T | None]) -> T | None:
        try:
            template = self._find(held)
            made = None if template is None else make(template)
        except Exception:  # noqa: BLE001  a router's, say; Celery, which is asked now, will say what
            return None
        if made is not None:
            self._kinds.sent()
            _beat.info(_SENDING, held.run.routine_name, held.run.task)
        return made

    def knows(self, held: Claimed) -> bool:
        """Whether `send` does without Celery."""
        try:
            return self._usable and self._find(held) is not None
        except Exception:  # noqa: BLE001  a router's, which Celery will meet as well
            return False

    def send(self, held: Claimed, confirms: Confirms | None = None) -> bool:
        """Publish the message of a run, and tell those who listen; false: Celery has to be asked.

        *confirms*: by which it may be written with others.

        Raises:
            Exception: whatever the message makes kombu raise.
        """
        template = self._find(held) if self._usable else None
        if template is None:
            return False
        try:
            template.check(held)
        except Exception:  # noqa: BLE001  Celery, which is asked now, will say what is wrong
            return False
        self._kinds.sent()
        _beat.info(_SENDING, held.run.routine_name, held.run.task)
        template.publish(held, signals, confirms)
        return True

    @contextmanager
    def observing(self, held: Claimed) -> Iterator[None]:
        """Celery is asked for the message of a run within; if it is like that of others, of which
        there has been one already, it serves for them from now on."""
        task = self._app.tasks.get(held.run.task)
        times = None if isinstance(held, Again) else _times(held, task)
        if not self._usable or times is None or not hooks.is_plain_task(task):
            yield
            return
        self._kinds.sent()
        shape = _shape(held.run)
        if not self._kinds.take(shape):
            yield
            return
        with observed(self._app, str(held.run.id), self._producer) as seen:
            yield
        example = seen()
        if example is not None and not self._keep(example, held, times, task):
            self._kinds.fail(shape)

    def _find(self, held: Claimed) -> Template | None:
        if isinstance(held, Again):
            return None
        shape = _shape(held.run)
        if not self._routed:
            return self._kept.get((shape, None))
        asked = self._asked.get(shape)
        if asked is None:
            return None
        return self._kept.get((shape, self._route(held, asked)))

    def _route(self, held: Claimed, like: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """What the router says of a run's message; *like*: what it was asked about another."""
        run, task = held.run, self._app.tasks.get(held.run.task)
        asked = copied(like)
        asked["headers"].update(instants(held, _times(held, task) or {}))
        given = copied(list(run.args)), copied(run.kwargs)
        answer = self._app.amqp.router.route(copied(asked), run.task, *given, task)
        return route_of(self._app, asked, answer)

    def _keep(self, example: Example, held: Claimed, times: Mapping[str, Any], task: Any) -> bool:
        """Whether it has become a template."""
        typed = task is not None and task.typing
        template = Template(
            example,
            self._contents,
            self._producer,
            times=times,
            signature=getattr(task, "__header__", None) if typed else None,
            channel=self._redis(),
        )
        if not template.fits(held):
            return False
        template.make_text(held)
        if max(len(self._kept), len(self._asked)) >= MOST_KEPT:
            self._kept.clear()
            self._asked.clear()
        shape = _shape(held.run)
        if not self._routed:
            self._kept[shape, None] = template
            return True
        self._asked[shape] = example.asked
        if example.route is not None:
            self._kept[shape, example.route] = template
        return example.route is not None


def _shape(run: Run) -> _Shape:
    return run.task, _encode(run.options) if run.options else ""


def _times(held: Claimed, task: Any) -> Mapping[str, Any] | None:
    """The options that say when, if they mean the same whenever it is sent: seconds do, instants
    do not."""
    options = {"expires": getattr(task, "expires", None), **held.run.options}
    times = {name: options.get(name) for name in ("expires", "countdown", "eta")}
    said = {name: value for name, value in times.items() if value is not None}
    return said if all(type(value) in (int, float) for value in said.values()) else None
