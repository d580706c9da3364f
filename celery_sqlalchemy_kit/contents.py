"""The arguments of runs in their messages: the body, and what the headers show of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from celery import Celery
from celery.utils.saferepr import saferepr
from kombu import serialization

from .routines import Run
from .texts import in_json

#: Contents that are kept; beyond that many, all are made anew.
MOST_KEPT = 1000
#: Characters of arguments of which the content is kept.
LONGEST_KEPT = 10_000
#: What a message of this kit has beside its arguments.
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_serialized: Callable[..., tuple[str, str, Any]] = serialization.dumps
_encode = json.JSONEncoder().encode
_END = f", {_encode(NOTHING)}]"
_SCALARS = frozenset({str, int, float, bool, type(None)})


class Content(NamedTuple):
    """The arguments of one run, or of all that have the same."""

    argsrepr: str
    kwargsrepr: str
    #: What is filled into texts, or into frames, by the names of `texts` and `frames`.
    texts: Mapping[str, str]


class Contents:
    """Those for one connection to the broker; `look` comes first."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._shown: tuple[int | None, int | None, int] = (None, None, 0)
        self._writer: Any = None
        self._plain = False
        self._channel: Any = None
        self._kept: dict[str, Content] = {}

    def look(self, channel: Any = None) -> None:
        """Notice what may be another by now: how much is shown, and what writes JSON.

        *channel*: kombu's to Redis, where messages are texts.
        """
        amqp = self._app.amqp
        shown = (
            amqp.argsrepr_maxsize,
            amqp.kwargsrepr_maxsize,
            self._app.conf.task_repr_maxlevels,
        )
        seen = (shown, serialization.registry._encoders.get("json"), channel)  # noqa: SLF001
        if seen != (self._shown, self._writer, self._channel):
            self._shown, self._writer, self._channel = seen
            self._plain = _is_plain()
            self._kept.clear()

    def of(self, run: Run) -> Content:
        """That of a run."""
        given = _encode((run.args, run.kwargs))
        content = self._kept.get(given)
        if content is None:
            content = self._made(given, run)
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            if len(given) <= LONGEST_KEPT:
                self._kept[given] = content
        return content

    def _made(self, given: str, run: Run) -> Content:
        args, kwargs = list(run.args) or (), dict(run.kwargs)
        most_args, most_kwargs, levels = self._shown
        argsrepr, kwargsrepr = shown(args, most_args, levels), shown(kwargs, most_kwargs, levels)
        body = _body(given) if self._plain else serialized(args, kwargs)
        texts = {"args": argsrepr, "kwargs": kwargsrepr, "body": body}
        if self._channel is not None:
            texts["body"], _ = self._channel.encode_body(body, self._channel.body_encoding)
            texts = {name: in_json(text) for name, text in texts.items()}
        return Content(argsrepr, kwargsrepr, texts)


#: Of all that JSON knows.
_SAMPLE = ["ä\"'\\\n", 1, -1.5e300, True, None, [], {"b": {}, "a": [1]}]


def _is_plain() -> bool:
    """Whether JSON is written as kombu writes it, and nobody else."""
    given = ([_SAMPLE], {"": _SAMPLE})
    try:
        return serialized(*given) == _body(_encode(given))
    except Exception:  # noqa: BLE001  whatever somebody's own raises, it does so for his messages
        return False


def serialized(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The body as kombu makes it."""
    _, _, body = _serialized((args, kwargs, NOTHING), serializer="json")
    return str(body)


def _body(given: str) -> str:
    """The same, of arguments that are JSON already, in a third of the time."""
    return given[:-1] + _END


def shown(value: Any, most: int | None, levels: int) -> str:
    """What ``saferepr`` says; of short and flat arguments in a sixth of the time or less.

    *most*: characters from which on it leaves out some, *levels*: from which on it does.
    """
    text = _flat(value) if levels >= 0 else None
    if text is not None and (most is None or len(text) < most):
        return text
    return str(saferepr(value, most, maxlevels=levels))


def _flat(value: Any) -> str | None:
    """None: it is not."""
    if not value:
        return str(value)
    if type(value) is dict:
        if not _SCALARS.issuperset(map(type, [*value, *value.values()])):
            return None
        return "{" + ", ".join([f"{_said(name)}: {_said(value[name])}" for name in value]) + "}"
    if not _SCALARS.issuperset(map(type, value)):
        return None
    return "[" + ", ".join(map(_said, value)) + "]"


def _said(value: Any) -> str:
    return "'" + value.replace("'", "\\'") + "'" if type(value) is str else str(value)
