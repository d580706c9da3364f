"""The arguments of runs in their messages: shown in the headers, and as they stand in a text."""

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


class Content(NamedTuple):
    """The arguments of one run, or of all that have the same."""

    argsrepr: str
    kwargsrepr: str
    #: Where messages are texts.
    texts: Mapping[str, str]


class Contents:
    """Those for one connection to the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._kept: dict[str, Content] = {}

    def of(self, run: Run, channel: Any) -> Content:
        """That of a run; *channel*: Redis's, if its message is to be a text."""
        given = said(run)
        content = self._kept.get(given)
        if content is None:
            content = self._made(list(run.args) or (), dict(run.kwargs), channel)
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            if len(given) <= LONGEST_KEPT:
                self._kept[given] = content
        return content

    def _made(self, args: Sequence[Any], kwargs: dict[str, Any], channel: Any) -> Content:
        amqp, levels = self._app.amqp, self._app.conf.task_repr_maxlevels
        argsrepr = saferepr(args, amqp.argsrepr_maxsize, maxlevels=levels)
        kwargsrepr = saferepr(kwargs, amqp.kwargsrepr_maxsize, maxlevels=levels)
        texts = dict[str, str]()
        if channel is not None:
            _, _, body = _serialized((args, kwargs, NOTHING), serializer="json")
            encoded, _ = channel.encode_body(body, channel.body_encoding)
            shown = {"body": encoded, "args": argsrepr, "kwargs": kwargsrepr}
            texts = {name: in_json(text) for name, text in shown.items()}
        return Content(argsrepr, kwargsrepr, texts)


def said(run: Run) -> str:
    """The arguments of a run, by which it is told whether others say the same."""
    return _encode((run.args, run.kwargs))
