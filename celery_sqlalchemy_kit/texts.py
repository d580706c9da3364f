"""Messages as Redis keeps them: texts, in which what is a run's own is filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from json import JSONEncoder
from os import urandom
from typing import Any, NamedTuple
from uuid import uuid4

from kombu.utils import json

from .routines import HEADER

#: Where kombu's way to Redis is.
REDIS = "kombu.transport.redis"
_dumps: Callable[[Any], str] = json.dumps


class Filled(NamedTuple):
    """A message as it is pushed, and the Redis key that it is pushed to."""

    key: str
    text: str


class Text(NamedTuple):
    """A message in parts; those at `slots` are to be filled in."""

    key: str
    parts: tuple[str, ...]
    slots: tuple[tuple[int, str], ...]

    def filled(self, values: Mapping[str, str]) -> str:
        parts = list(self.parts)
        for place, name in self.slots:
            parts[place] = values[name]
        return "".join(parts)


def tags() -> Iterator[str]:
    """Delivery tags as kombu makes them, texts of random UUIDs, in a fifth of the time.

    Many are drawn at once: each question to the system lets another thread go first.
    """
    for number in chain([_DRAWN_FIRST], repeat(_DRAWN)):
        drawn = urandom(16 * number).hex()
        for start in range(0, len(drawn), 32):
            x = drawn[start : start + 32]
            yield f"{x[:8]}-{x[8:12]}-4{x[13:16]}-{_VARIANT[x[16]]}{x[17:20]}-{x[20:]}"


#: Often there are few to be sent.
_DRAWN_FIRST, _DRAWN = 8, 256
#: By RFC 9562 its two highest bits are 10.
_VARIANT = {f"{digit:x}": f"{8 | digit & 3:x}" for digit in range(16)}


def push(channel: Any, filled: Sequence[Filled]) -> frozenset[str]:
    """Push messages to Redis; returns the keys to which it lets none be pushed.

    Raises:
        redis.exceptions.RedisError: none has been pushed; or all, and the answer was cut off.
    """
    texts: dict[str, list[str]] = {}
    for key, text in filled:
        texts.setdefault(key, []).append(text)
    if not texts:
        return frozenset()
    with channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipeline:
        for key, those in texts.items():
            pipeline.lpush(key, *those)
        answers = pipeline.execute(raise_on_error=False)
    pairs = zip(texts, answers, strict=True)
    return frozenset(key for key, answer in pairs if isinstance(answer, Exception))


def in_json(text: str) -> str:
    """As it stands between quotation marks."""
    return _quoted(text)[1:-1]


_quoted = JSONEncoder().encode


def taken_apart(key: str, message: Mapping[str, Any], values: Mapping[str, str]) -> Text | None:
    """The text of *message*, as JSON, in parts, by which of *values* stands where; None: one does
    not stand where it should."""
    mark = uuid4().hex
    headers, properties = dict(message["headers"]), dict(message["properties"])
    marked = {**message, "headers": headers, "properties": properties}
    for where, place, name in (
        (marked, "body", "body"),
        (properties, "correlation_id", "id"),
        (properties, "delivery_tag", "tag"),
        *((headers, place, name) for place, name in _HEADERS.items() if name in values),
    ):
        if in_json(where[place]) != values[name]:
            return None
        where[place] = f"<{mark} {name}>"
    parts = re.split(f"<{mark} (\\w+)>", _dumps(marked))
    text = Text(key, tuple(parts), tuple((n, parts[n]) for n in range(1, len(parts), 2)))
    return text if text.filled(values) == _dumps(message) else None


_HEADERS = {
    "id": "id",
    "root_id": "id",
    HEADER: HEADER,
    "expires": "expires",
    "eta": "eta",
    "argsrepr": "args",
    "kwargsrepr": "kwargs",
}
