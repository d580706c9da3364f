"""A message by a template: what differs from run to run is filled into one that Celery has made.

As a message for kombu to publish; as a text that is pushed to Redis; as octets that are written to
an AMQP broker. The last two only if, filled in, they are what kombu would have made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache, partial
from itertools import islice
from types import ModuleType
from typing import Any
from uuid import uuid4

from . import messages
from .confirms import Confirms
from .contents import NOTHING, Content, Contents
from .examples import Example, copied
from .frames import Frames, octets_of
from .frames import taken_apart as frames_of
from .routines import HEADER
from .storage.values import Claimed
from .texts import Filled, Text
from .texts import taken_apart as text_of

_encode = json.JSONEncoder().encode


class Template:
    """Of all messages that are like the *example*.

    *times*: the options that say when. *signature*: what Celery would compare the arguments with;
    None: it would not. *channel*: that of kombu to Redis; None: there are no texts.

    What its methods raise is what the arguments of a run make Celery or kombu raise.
    """

    def __init__(
        self,
        example: Example,
        contents: Contents,
        producer: Any,
        *,
        times: Mapping[str, Any],
        signature: Callable[..., Any] | None,
        channel: Any,
    ) -> None:
        self._example = example
        self._contents = contents
        self._producer = producer
        self._times = times
        self._signature = signature
        self._channel = channel
        self._frames: Frames | None = None
        self._may_have_frames = True
        #: Set by `make_text`.
        self.text: Text | None = None

    def fits(self, held: Claimed) -> bool:
        """Whether the message of the run that the example is of can be made of it again."""
        example = self._example
        again = example.of(self._headers(held, self._content(held)))
        return example.embed == NOTHING and _encode(again) == _encode(
            (example.headers, example.properties)
        )

    def make_text(self, held: Claimed) -> None:
        """By the message of a run, if it is pushed to one key of Redis."""
        channel = self._channel
        if channel is None or self._example.exchange or channel._expires:  # noqa: SLF001
            return  # bindings may be others later, and queues that vanish are kept alive
        pushed: list[tuple[str, dict[str, Any]]] = []

        def put(queue: str, message: dict[str, Any], **_: Any) -> None:
            pushed.append((queue, message))

        channel._put = put  # noqa: SLF001  for this once
        try:
            self.publish(held, None)
        finally:
            del channel._put  # noqa: SLF001
        ((queue, message),) = pushed
        values = self._values(held, tag=message["properties"]["delivery_tag"])
        priority = channel._get_message_priority(message, reverse=False)  # noqa: SLF001
        self.text = text_of(channel._q_for_pri(queue, priority), message, values)  # noqa: SLF001

    def filled(self, held: Claimed, tag: str) -> Filled | None:
        """The text of a run's message; None: it can be none."""
        if self.text is None:
            return None
        self.check(held)
        return Filled(self.text.key, self.text.filled(self._values(held, tag=tag)))

    def framed(self, held: Claimed, confirms: Confirms) -> bytes | None:
        """The octets of a run's message; None: they can be none."""
        self.check(held)
        return self._octets(held, confirms)

    def _octets(
        self, held: Claimed, confirms: Confirms, headers: Mapping[str, Any] | None = None
    ) -> bytes | None:
        if self._may_have_frames:
            self._may_have_frames = False
            self._frames = self._made_frames(held, confirms)
        if self._frames is None:
            return None
        values = self._values(held)
        if len(octets_of(values["body"])) > confirms.longest_body:
            return None
        return self._frames.filled(values, headers)

    def _made_frames(self, held: Claimed, confirms: Confirms) -> Frames | None:
        """None also if, with another's own, they are not the other's."""
        one, other = (
            replace(held, run=replace(held.run, id=uuid4(), args=(said,), kwargs={said: number}))
            for number, said in enumerate((uuid4().hex, "other"))
        )
        other = replace(other, claimed_at=held.claimed_at - timedelta(days=1, seconds=1.5))
        octets = confirms.captured(partial(self.publish, one, None))
        frames = frames_of(octets, self._values(one))
        if frames is None:
            return None
        theirs = confirms.captured(partial(self.publish, other, None))
        return frames if frames.filled(self._values(other)) == theirs else None

    def check(self, held: Claimed) -> None:
        """Raise what Celery would of arguments that the task does not take."""
        if self._signature is not None:
            self._signature(*held.run.args, **held.run.kwargs)

    def publish(
        self, held: Claimed, told: ModuleType | None, confirms: Confirms | None = None
    ) -> None:
        """As ``send_task_message`` does; *told*: the signals by which others hear of it.

        *confirms*: by which it is written, if they do no more to it than to add headers.
        """
        example = self._example
        headers, properties = example.of(self._headers(held, self._content(held)))
        args, kwargs = copied(list(held.run.args)) or (), copied(held.run.kwargs)
        body = (args, kwargs, dict(NOTHING))
        where = {"exchange": example.exchange, "routing_key": example.routing_key}
        said: dict[str, Any] = {**where, "declare": list(example.declare), "headers": headers}
        said["retry_policy"] = copied(example.retry_policy)
        own = None if confirms is None else _Own(headers, properties, body)
        if told is not None:
            name = example.sender
            told.before_task_publish.send(name, body=body, properties=properties, **said)
        octets = None
        if said["declare"] == list(example.declare):
            said["declare"] = None  # they have been, on this connection, with the first message
            if confirms is not None and own is not None and own.is_unchanged():
                octets = self._octets(held, confirms, own.added())
        if confirms is not None and octets is not None:
            confirms.write(octets, held.run)
        else:
            self._producer.publish(body, **said, **example.how, **properties)
        if told is not None:
            told.after_task_publish.send(name, body=body, headers=headers, **where)

    def _headers(self, held: Claimed, content: Content) -> dict[str, str]:
        """The headers that are a run's own."""
        run_id = str(held.run.id)
        shown = {"argsrepr": content.argsrepr, "kwargsrepr": content.kwargsrepr}
        return {"id": run_id, "root_id": run_id, **shown, **instants(held, self._times)}

    def _values(self, held: Claimed, **others: str) -> dict[str, str]:
        """What is filled in, by the names of texts and frames."""
        own = {"id": str(held.run.id), **instants(held, self._times)}
        return {**self._content(held).texts, **own, **others}

    def _content(self, held: Claimed) -> Content:
        return self._contents.of(held.run)


class _Own:
    """What a message says before others, who may write into all of it, are told."""

    def __init__(self, headers: dict[str, Any], *others: Any) -> None:
        self._headers, self._others = headers, others
        self._number = len(headers)
        self._said = self._says()

    def is_unchanged(self) -> bool:
        """But for headers that stand behind its own."""
        try:
            return self._says() == self._said
        except (TypeError, ValueError):
            return False  # it is no JSON any more

    def added(self) -> dict[str, Any]:
        """Those headers."""
        return dict(islice(self._headers.items(), self._number, None))

    def _says(self) -> str:
        own = dict(islice(self._headers.items(), self._number))
        return _encode((own, *self._others))


def instants(held: Claimed, times: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a run that say when."""
    claimed = {HEADER: _shown_instant(held.claimed_at)}
    return {**messages.instants(held.claimed_at, dict(times)), **claimed} if times else claimed


@lru_cache(maxsize=4)
def _shown_instant(instant: Any) -> str:
    """That of a batch is the same for all of it."""
    return str(instant.isoformat())
