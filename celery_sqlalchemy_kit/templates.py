"""Messages by a template: what Celery would send for a run, without its long way for each.

A template is a message that Celery itself has made for a run like it (see `examples`). What differs
from run to run is taken out: ids, instants, arguments. It counts only if, filled in with what was
taken out, it is the message that Celery made. There is none where that is not so, and where
anybody has a hand in the making (see `hooks`). Whoever listens to Celery's signals is told of each
message, and may change it, as ever. Where nobody listens, what is pushed to Redis is a mere text.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, NamedTuple
from uuid import uuid4

from celery import Celery, signals

from . import hooks, messages
from .contents import LONGEST_KEPT, NOTHING, Content, Contents, said
from .examples import Example, copied, observed, route_of
from .frames import Frames
from .frames import taken_apart as frames_of
from .routines import HEADER, Run
from .storage.values import Again, Claimed
from .texts import REDIS, Filled, Text, tag, taken_apart

#: Templates that are kept; beyond that many, all are made anew.
MOST_KEPT = 1000
#: The logger, and the line, by which beat tells of each message.
_beat = logging.getLogger("celery.beat")
_SENDING = "Scheduler: Sending due task %s (%s)"
_encode = json.JSONEncoder().encode
#: What makes messages alike: task and options; and the route, where it has to be asked for.
_Shape = tuple[str, str]
_Key = tuple[_Shape, "tuple[Any, ...] | None"]


class _Kept(NamedTuple):
    example: Example
    times: Mapping[str, Any]
    #: What Celery would compare the arguments with; None: it would not.
    signature: Callable[..., Any] | None
    text: Text | None
    #: Of each content, and lengths of what is filled in; None: it was seen once.
    frames: dict[tuple[Any, ...], Frames | None]


class Templates:
    """Those for one connection to the broker."""

    def __init__(self, app: Celery, apply_entry: Callable[..., Any], producer: Any) -> None:
        self._app = app
        self._apply_entry = apply_entry
        self._producer = producer
        self._kept: dict[_Key, _Kept] = {}
        #: What the router is asked about, by shape, where it is to be asked for every message.
        self._asked: dict[_Shape, Mapping[str, Any]] = {}
        self._contents = Contents(app)
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
        return self._usable

    def firsts(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """One run of each kind that has no template yet, where it would be one of texts."""
        if not (self._pushes and self._usable):
            return []
        found: dict[_Shape, Claimed] = {}
        for held in claimed:
            shape = _shape(held.run)
            known = shape in self._asked if self._routed else (shape, None) in self._kept
            if not known and not isinstance(held, Again):
                found.setdefault(shape, held)
        return list(found.values())

    def fill(self, held: Claimed) -> Filled | None:
        """The message of a run as a text; None: it has to be sent otherwise."""
        if not (self._pushes and self._usable):
            return None
        run = held.run
        try:
            kept = self._find(held)
            if kept is None or kept.text is None:
                return None
            content = self._content_for(kept, run)
        except Exception:  # noqa: BLE001  Celery, which is asked now, will say what is wrong
            return None
        _beat.info(_SENDING, run.routine_name, run.task)
        values = {"id": str(run.id), "tag": tag(), **content.texts}
        values |= _instants(held, kept.times)
        return Filled(kept.text.key, kept.text.filled(values))

    def framed(
        self, held: Claimed, captured: Callable[[Callable[[], None]], bytes]
    ) -> bytes | None:
        """The message of a run as it is written to an AMQP broker; None: it has to be sent
        otherwise. *captured*: what a call would write.

        Made when a message of the kind, with the same arguments, comes for the second time.
        """
        if not (self._usable and self._quiet):
            return None
        try:
            kept = self._find(held)
            if kept is None:
                return None
            own = {"id": str(held.run.id), **_instants(held, kept.times)}
            frames = self._frames_of(kept, held, own, captured)
        except Exception:  # noqa: BLE001  a router; Celery, which is asked now, will say what is wrong
            return None
        if frames is None:
            return None
        _beat.info(_SENDING, held.run.routine_name, held.run.task)
        return frames.filled(own)

    def _frames_of(
        self,
        kept: _Kept,
        held: Claimed,
        own: Mapping[str, str],
        captured: Callable[[Callable[[], None]], bytes],
    ) -> Frames | None:
        given = said(held.run)
        alike = (given, *map(len, own.values()))
        if alike not in kept.frames:
            if len(kept.frames) >= MOST_KEPT:
                kept.frames.clear()
            if len(given) <= LONGEST_KEPT:
                kept.frames[alike] = None
            return None
        if kept.frames[alike] is None:
            kept.frames[alike] = self._frames(kept, held, captured)
        return kept.frames[alike]

    def _frames(
        self, kept: _Kept, held: Claimed, captured: Callable[[Callable[[], None]], bytes]
    ) -> Frames | None:
        """Those of a run; none, if with another's id and instants they are not that one's."""
        other = Claimed(
            replace(held.run, id=uuid4()), held.claimed_at - timedelta(days=1), held.routine
        )
        content = self._content_for(kept, held.run)
        one, two = (
            captured(partial(self._publish, kept.example, each, content, kept.times, None))
            for each in (held, other)
        )
        own, others = (
            {"id": str(each.run.id), **_instants(each, kept.times)} for each in (held, other)
        )
        frames = frames_of(one, own)
        return frames if frames.filled(others) == two else None

    def knows(self, held: Claimed) -> bool:
        """Whether `send` does without Celery."""
        try:
            return self._usable and self._find(held) is not None
        except Exception:  # noqa: BLE001  a router's, which Celery will meet as well
            return False

    def send(self, held: Claimed) -> bool:
        """Publish the message of a run, and tell those who listen; false: Celery has to be asked.

        Raises:
            Exception: whatever the message makes kombu raise.
        """
        kept = self._find(held) if self._usable else None
        if kept is None:
            return False
        try:
            content = self._content_for(kept, held.run)
        except Exception:  # noqa: BLE001  Celery, which is asked now, will say what is wrong
            return False
        _beat.info(_SENDING, held.run.routine_name, held.run.task)
        self._publish(kept.example, held, content, kept.times, signals)
        return True

    @contextmanager
    def observing(self, held: Claimed) -> Iterator[None]:
        """Celery is asked for the message of a run within; if it is like that of others, it serves
        for them from now on."""
        task = self._app.tasks.get(held.run.task)
        times = None if isinstance(held, Again) else _times(held, task)
        if not self._usable or times is None or not hooks.is_plain_task(task):
            yield
            return
        with observed(self._app, str(held.run.id), self._producer) as seen:
            yield
        example = seen()
        if example is not None and self._fits(example, held, times):
            self._keep(example, held, times, task)

    def _find(self, held: Claimed) -> _Kept | None:
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
        asked["headers"].update(_instants(held, _times(held, task) or {}))
        given = copied(list(run.args)), copied(run.kwargs)
        answer = self._app.amqp.router.route(copied(asked), run.task, *given, task)
        return route_of(self._app, asked, answer)

    def _keep(self, example: Example, held: Claimed, times: Mapping[str, Any], task: Any) -> None:
        if max(len(self._kept), len(self._asked)) >= MOST_KEPT:
            self._kept.clear()
            self._asked.clear()
        shape = _shape(held.run)
        if self._routed:
            self._asked[shape] = example.asked
            if example.route is None:
                return
        typed = task is not None and task.typing
        text = self._text(example, held, times)
        signature = getattr(task, "__header__", None) if typed else None
        kept = _Kept(example, times, signature, text, {})
        self._kept[shape, example.route if self._routed else None] = kept

    def _fits(self, example: Example, held: Claimed, times: Mapping[str, Any]) -> bool:
        """Whether the message of the run that the example is of can be made of it again."""
        content = self._content(held.run)
        again = example.of(_headers(held, content, times))
        return example.embed == NOTHING and _encode(again) == _encode(
            (example.headers, example.properties)
        )

    def _publish(
        self,
        example: Example,
        held: Claimed,
        content: Content,
        times: Mapping[str, Any],
        told: ModuleType | None,
    ) -> None:
        """As ``send_task_message`` does; *told*: the signals by which others hear of it."""
        headers, properties = example.of(_headers(held, content, times))
        args, kwargs = copied(list(held.run.args)) or (), copied(held.run.kwargs)
        body = (args, kwargs, dict(NOTHING))
        where = {"exchange": example.exchange, "routing_key": example.routing_key}
        said: dict[str, Any] = {**where, "declare": list(example.declare), "headers": headers}
        said["retry_policy"] = copied(example.retry_policy)
        if told is not None:
            name = example.sender
            told.before_task_publish.send(name, body=body, properties=properties, **said)
        if said["declare"] == list(example.declare):
            said["declare"] = None  # they have been, on this connection, with the first message
        self._producer.publish(body, **said, **example.how, **properties)
        if told is not None:
            told.after_task_publish.send(name, body=body, headers=headers, **where)

    def _text(self, example: Example, held: Claimed, times: Mapping[str, Any]) -> Text | None:
        """The same as a text in parts, where it is pushed to one key of Redis."""
        channel = self._producer.channel
        if not self._gathers or example.exchange or channel._expires:  # noqa: SLF001
            return None  # bindings may be others later, and queues that vanish are kept alive
        pushed: list[tuple[str, dict[str, Any]]] = []

        def put(queue: str, message: dict[str, Any], **_: Any) -> None:
            pushed.append((queue, message))

        content = self._content(held.run)
        channel._put = put  # noqa: SLF001  for this once
        try:
            self._publish(example, held, content, times, None)
        finally:
            del channel._put  # noqa: SLF001
        ((queue, message),) = pushed
        values = {**content.texts, **_instants(held, times)}
        values |= {"id": str(held.run.id), "tag": message["properties"]["delivery_tag"]}
        priority = channel._get_message_priority(message, reverse=False)  # noqa: SLF001
        return taken_apart(channel._q_for_pri(queue, priority), message, values)  # noqa: SLF001

    def _content_for(self, kept: _Kept, run: Run) -> Content:
        if kept.signature is not None:
            kept.signature(*run.args, **run.kwargs)
        return self._content(run)

    def _content(self, run: Run) -> Content:
        return self._contents.of(run, self._producer.channel if self._gathers else None)


def _shape(run: Run) -> _Shape:
    return run.task, _encode(run.options) if run.options else ""


def _headers(held: Claimed, content: Content, times: Mapping[str, Any]) -> dict[str, str]:
    """The headers that are a run's own."""
    run_id = str(held.run.id)
    shown = {"argsrepr": content.argsrepr, "kwargsrepr": content.kwargsrepr}
    return {"id": run_id, "root_id": run_id, **shown, **_instants(held, times)}


def _instants(held: Claimed, times: Mapping[str, Any]) -> dict[str, str]:
    """The headers that say when."""
    claimed = {HEADER: _shown_instant(held.claimed_at)}
    return {**messages.instants(held.claimed_at, dict(times)), **claimed} if times else claimed


@lru_cache(maxsize=4)
def _shown_instant(instant: datetime) -> str:
    """That of a batch is the same for all of it."""
    return instant.isoformat()


def _times(held: Claimed, task: Any) -> Mapping[str, Any] | None:
    """The options that say when, if they mean the same whenever it is sent: seconds do, instants
    do not."""
    options = {"expires": getattr(task, "expires", None), **held.run.options}
    times = {name: options.get(name) for name in ("expires", "countdown", "eta")}
    said = {name: value for name, value in times.items() if value is not None}
    return said if all(type(value) in (int, float) for value in said.values()) else None
