"""kombu's clients of Redis, which are costly to make, and which kombu makes twice a message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def keep() -> None:
    """Have every Redis channel of kombu keep one client for as long as its connections last.

    kombu makes one to note that a message was delivered and another one to acknowledge it; that
    is a tenth of what a task costs. They differ in nothing: the connections are the channel's.
    """
    # Not imported: whoever uses another broker has no need of it.
    transport = sys.modules.get("kombu.transport.redis")
    if transport is not None:
        transport.Channel.conn_or_acquire = _conn_or_acquire


@contextmanager
def _conn_or_acquire(channel: Any, client: Any = None) -> Iterator[Any]:
    yield client or _kept_by(channel)


def _kept_by(channel: Any) -> Any:
    kept = vars(channel).get("_kept_client")
    if kept is None or kept.connection_pool is not channel.pool:
        kept = channel._kept_client = channel._create_client()  # noqa: SLF001
    return kept
