"""Messages by a template: what Celery would send for a run, without its long way for each.

A template is a message that Celery itself has made for a run like it: of the same task, with the
same options. What differs from run to run is taken out: ids, instants, arguments. It counts only
if, filled in with what was taken out, it is the message that Celery made, octet for octet. There
are none where that is not so, where anybody has a hand in the making (see `hooks`), and for brokers
other than Redis.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from celery import Celery
from celery.utils.saferepr import saferepr
from kombu import serialization
from kombu.utils import json as kombu_json

from . import hooks, messages
from .messages import RunEntry
from .routines import HEADER, Run
from .storage.values import Again, Claimed

#: Templates, and contents, that are kept; beyond that many, all are made anew.
MOST_KEPT = 1000
#: The logger, and the line, by which beat tells of each message.
_beat = logging.getLogger("celery.beat")
_SENDING = "Scheduler: Sending due task %s (%s)"
_dumps: Callable[[Any], str] = kombu_json.dumps
_serialized: Callable[..., tuple[str, str, Any]] = serialization.dumps
_encode = json.JSONEncoder(sort_keys=False).encode
_NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Filled(NamedTuple):
    """A message as it is pushed, and the Redis key that it is pushed to."""

    key: str
    text: str


class _Template(NamedTuple):
    key: str
    #: The text in parts; those at `slots` are to be filled in.
    parts: tuple[str, ...]
    slots: tuple[tuple[int, str], ...]
    #: What Celery would compare the arguments with; None: it would not.
    signature: Callable[..., Any] | None
    #: Options that say seconds, of which each run's instants are made; empty: there are none.
    times: Mapping[str, Any]

    def filled(self, values: Mapping[str, str]) -> str:
        parts = list(self.parts)
        for place, name in self.slots:
            parts[place] = values[name]
        return "".join(parts)


class Templates:
    """Those for one connection to the broker."""

    def __init__(self, app: Celery, apply_entry: Callable[..., Any], producer: Any) -> None:
        self._app = app
        self._apply_entry = apply_entry
        self._producer = producer
        self._kept: dict[tuple[str, str], _Template | None] = {}
        self._met: set[tuple[str, str]] = set()
        self._contents: dict[str, Mapping[str, str]] = {}

    @property
    def usable(self) -> bool:
        """Whether there can be any, now: others may begin to listen at any time."""
        return (
            hooks.nobody_listens()
            and type(self._producer.channel).__module__ == "kombu.transport.redis"
            # Kombu says so of a client that never sends anything twice by itself.
            and getattr(self._producer, "supports_batch_publish", False)
            and hooks.is_plain(self._app, self._apply_entry, self._producer)
        )

    def fill(self, held: Claimed) -> Filled | None:
        """The message of a run; None: Celery has to be asked for it."""
        template = None if isinstance(held, Again) else self._template(held)
        if template is None:
            return None
        run = held.run
        try:
            if template.signature is not None:
                template.signature(*run.args, **run.kwargs)
            values = {**self._content(run), **_own(held, template.times)}
        except Exception:  # noqa: BLE001  Celery, which is asked now, will say what is wrong
            return None
        _beat.info(_SENDING, run.routine_name, run.task)
        return Filled(template.key, template.filled(values))

    def push(self, filled: Sequence[Filled]) -> frozenset[str]:
        """Push messages to Redis; returns the keys to which it lets none be pushed.

        Raises:
            redis.exceptions.RedisError: none has been pushed; or all, and the answer was cut off.
        """
        texts: dict[str, list[str]] = {}
        for key, text in filled:
            texts.setdefault(key, []).append(text)
        if not texts:
            return frozenset()
        channel = self._producer.channel
        with channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipeline:
            for key, those in texts.items():
                pipeline.lpush(key, *those)
            answers = pipeline.execute(raise_on_error=False)
        pairs = zip(texts, answers, strict=True)
        return frozenset(key for key, answer in pairs if isinstance(answer, Exception))

    def _template(self, held: Claimed) -> _Template | None:
        options = held.run.options
        shape = (held.run.task, _encode(options) if options else "")
        if shape not in self._kept:
            if shape not in self._met:  # one of a kind is not worth it
                if len(self._met) >= MOST_KEPT:
                    self._met.clear()
                self._met.add(shape)
                return None
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[shape] = self._made(held)
        return self._kept[shape]

    def _made(self, held: Claimed) -> _Template | None:
        task = self._app.tasks.get(held.run.task)
        times = _times(held, task)
        if times is None or not hooks.is_plain_task(task):
            return None
        try:
            example = self._example(held)
            if example is None:
                return None
            key, message = example
            values = {**self._content(held.run), **_own(held, times)}
            values["tag"] = message["properties"]["delivery_tag"]
            parts, slots = _taken_apart(message, values)
        except Exception:  # noqa: BLE001  Celery, which is asked now, will say what is wrong
            return None
        signature = getattr(task, "__header__", None) if getattr(task, "typing", False) else None
        template = _Template(key, parts, slots, signature, times)
        return template if template.filled(values) == _dumps(message) else None

    def _example(self, held: Claimed) -> tuple[str, dict[str, Any]] | None:
        """What Celery would push for a run, and to which key; None: not to one alone."""
        channel, pushed = self._producer.channel, []

        def put(queue: str, message: dict[str, Any], **_: Any) -> None:
            pushed.append((queue, message))

        channel._put = put  # noqa: SLF001  for this once
        try:
            messages.send(self._app, RunEntry(self._app, held), self._producer)
        finally:
            del channel._put  # noqa: SLF001
        if len(pushed) != 1 or channel._expires:  # noqa: SLF001  queues that vanish are kept alive
            return None
        queue, message = pushed[0]
        if message["properties"]["delivery_info"]["exchange"]:  # its bindings may be others later
            return None
        priority = channel._get_message_priority(message, reverse=False)  # noqa: SLF001
        return channel._q_for_pri(queue, priority), message  # noqa: SLF001

    def _content(self, run: Run) -> Mapping[str, str]:
        """The arguments of a run in its message: the body, and what is shown of them."""
        given = _encode((run.args, run.kwargs))
        if given not in self._contents:
            if len(self._contents) >= MOST_KEPT:
                self._contents.clear()
            self._contents[given] = self._shown(list(run.args) or (), dict(run.kwargs))
        return self._contents[given]

    def _shown(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Mapping[str, str]:
        amqp, levels = self._app.amqp, self._app.conf.task_repr_maxlevels
        _, _, body = _serialized((args, kwargs, _NOTHING), serializer="json")
        body, _ = self._producer.channel.encode_body(body, self._producer.channel.body_encoding)
        shown_args = saferepr(args, amqp.argsrepr_maxsize, maxlevels=levels)
        shown_kwargs = saferepr(kwargs, amqp.kwargsrepr_maxsize, maxlevels=levels)
        shown = {"body": body, "args": shown_args, "kwargs": shown_kwargs}
        return {name: _in_json(text) for name, text in shown.items()}


def _times(held: Claimed, task: Any) -> Mapping[str, Any] | None:
    """The options that say when, if they mean the same whenever it is sent: seconds do, instants
    do not."""
    options = {"expires": getattr(task, "expires", None), **held.run.options}
    times = {name: options.get(name) for name in ("expires", "countdown", "eta")}
    said = {name: value for name, value in times.items() if value is not None}
    return said if all(type(value) in (int, float) for value in said.values()) else None


def _own(held: Claimed, times: Mapping[str, Any]) -> dict[str, str]:
    """What is a run's own."""
    own = messages.instants(held.claimed_at, dict(times)) if times else {}
    own |= {"id": str(held.run.id), "claimed": held.claimed_at.isoformat(), "tag": str(uuid4())}
    return own


def _in_json(text: str) -> str:
    """As it stands between quotation marks."""
    return _dumps(text)[1:-1]


def _taken_apart(
    message: Mapping[str, Any], values: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[tuple[int, str], ...]]:
    """The text of *message*, as JSON, in parts, and which of them is which of *values*.

    Raises:
        LookupError: a value does not stand where it should.
    """
    mark = uuid4().hex
    headers, properties = dict(message["headers"]), dict(message["properties"])
    marked = {**message, "headers": headers, "properties": properties}
    for where, key, name in (
        (marked, "body", "body"),
        (properties, "correlation_id", "id"),
        (properties, "delivery_tag", "tag"),
        *((headers, key, name) for key, name in _HEADERS.items() if name in values),
    ):
        if _in_json(where[key]) != values[name]:
            raise LookupError(key)
        where[key] = f"<{mark} {name}>"
    parts = re.split(f"<{mark} (\\w+)>", _dumps(marked))
    return tuple(parts), tuple((place, parts[place]) for place in range(1, len(parts), 2))


_HEADERS = {
    "id": "id",
    "root_id": "id",
    HEADER: "claimed",
    "expires": "expires",
    "eta": "eta",
    "argsrepr": "args",
    "kwargsrepr": "kwargs",
}
