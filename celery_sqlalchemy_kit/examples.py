"""Messages that Celery has made, as examples of others: what it was about to publish, and how.

Celery's way from ``apply_async`` to the broker ends with `before_task_publish` and one call of the
producer. What stands there of one run tells of every other of the same task, with the same options
and the same route, but for ids, instants and arguments. It is written down while a real message
passes, before anybody who listens has changed it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from celery import Celery, signals
from kombu.entity import Queue

#: Arguments of `Producer.publish` that say how, beside those that `before_task_publish` tells.
_HOW = ("serializer", "compression", "retry", "delivery_mode", "timeout", "confirm_timeout")


@dataclass(frozen=True)
class Example:
    """What Celery was about to publish."""

    sender: str
    exchange: Any
    routing_key: str
    declare: tuple[Any, ...]
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    retry_policy: Mapping[str, Any]
    #: The third part of the body.
    embed: Mapping[str, Any]
    how: Mapping[str, Any]
    #: The options that the app's router was asked about, and what tells its answer from others;
    #: None: it may be another each time.
    asked: Mapping[str, Any]
    route: tuple[Any, ...] | None

    def of(self, own: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Headers and properties of another run; *own*: its values, by the names of headers."""
        headers, properties = copied(self.headers), copied(self.properties)
        headers.update(own)
        properties["correlation_id"] = own["id"]
        return headers, properties


def copied(value: Any) -> Any:
    """For others to write into: `deepcopy`, in a tenth of the time where it is as out of JSON."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {
            name: each if type(each) in _PLAIN else copied(each) for name, each in value.items()
        }
    if kind is list:
        return [each if type(each) in _PLAIN else copied(each) for each in value]
    return deepcopy(value)


_PLAIN = frozenset({str, int, float, bool, type(None)})


@contextmanager
def observed(app: Celery, run_id: str, producer: Any) -> Iterator[Callable[[], Example | None]]:
    """Write down what becomes of the message of a run that is sent within; what is given tells it,
    or None if none was published, or something of it cannot be written down."""
    told: dict[str, Any] = {}
    how: dict[str, Any] = {}
    asked: list[tuple[dict[str, Any], Any]] = []
    router, publish, here = app.amqp.router, producer.publish, threading.get_ident()
    route = router.route

    def hear(sender: Any = None, headers: Any = None, **others: Any) -> None:
        if (headers or {}).get("id") != run_id:
            return
        with suppress(Exception):  # of a message that is sent all the same
            told.update(deepcopy({"sender": sender, "headers": headers, **_portable(others)}))
            told.update(exchange=others["exchange"], declare=tuple(others["declare"] or ()))

    def published(body: Any, **options: Any) -> Any:
        how.update({name: options[name] for name in _HOW if name in options})
        return publish(body, **options)

    def routed(options: Any, *args: Any, **kwargs: Any) -> Any:
        before: dict[str, Any] | None = None
        with suppress(Exception):  # options may hold anything
            before = copied(options)
        answer = route(options, *args, **kwargs)
        with suppress(Exception):
            if before is not None and threading.get_ident() == here:
                asked.append((before, route_of(app, before, answer)))
        return answer

    signals.before_task_publish.connect(hear, weak=False, dispatch_uid=run_id)
    _first(run_id)
    producer.publish, router.route = published, routed
    try:
        yield lambda: _example(told, how, asked)
    finally:
        del producer.publish, router.route
        signals.before_task_publish.disconnect(dispatch_uid=run_id)


def _portable(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("body", "routing_key", "properties", "retry_policy")}


def _first(uid: str) -> None:
    """Hear of a message before it is changed by others who listen."""
    signal = signals.before_task_publish
    with signal.lock:
        mine = [each for each in signal.receivers if each[0][0] == uid]
        signal.receivers[:] = mine + [each for each in signal.receivers if each[0][0] != uid]


def _example(
    told: Mapping[str, Any], how: Mapping[str, Any], asked: Sequence[tuple[dict[str, Any], Any]]
) -> Example | None:
    if "declare" not in told or not how or len(asked) != 1:
        return None
    own = {name: value for name, value in told.items() if name != "body"}
    return Example(**own, embed=told["body"][2], how=how, asked=asked[0][0], route=asked[0][1])


def route_of(
    app: Celery, asked: Mapping[str, Any], answer: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    """What a router has added to the options that it was *asked* about; None: something that may
    be another each time."""
    added = []
    for name, value in sorted(answer.items()):
        if name in asked and asked[name] == value:
            continue
        if isinstance(value, Queue) and app.amqp.queues.get(value.name) is value:
            added.append((name, value.name))
        elif type(value) in _PLAIN:
            added.append((name, value))
        else:
            return None
    return tuple(added)
