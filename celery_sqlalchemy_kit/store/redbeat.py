"""Reading the entries of RedBeat, in Redis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from ..errors import SourceError
from ..exchange.definition import Found
from ..exchange.redbeat import read as read_entries
from .chunks import chunks

#: Seconds within which Redis has to answer.
PATIENCE = 5.0
#: RedBeat's own default of its setting ``redbeat_key_prefix``.
PREFIX = "redbeat:"
_ALLOWED = "redis://user:password@host:6379/0, rediss:// or unix://"


def read(source: Any, timezone: str = "UTC", *, prefix: str = PREFIX) -> Found:
    """What the entries define, and what of them cannot be taken over.

    *source* is the URL of a Redis, or a client of redis-py, as for a Sentinel or a cluster.
    *prefix* is what ``redbeat_key_prefix`` is set to; *timezone* is the zone of crontabs, which
    RedBeat stores without one. Nothing is written.

    Raises:
        SourceError: redis-py is not installed, Redis cannot be reached, or what it has under
            these keys is not RedBeat's.
    """
    redis = _library()
    try:
        if not isinstance(source, str):
            return _found(source, prefix, timezone)
        with closing(_client(redis, source)) as client:
            return _found(client, prefix, timezone)
    except redis.RedisError as error:
        raise SourceError(f"Redis cannot be read: {' '.join(str(error).split())}") from None


def _library() -> Any:
    try:
        import redis
    except ImportError:
        raise SourceError(
            'redis is not installed: pip install "celery-sqlalchemy-kit[redis]"'
        ) from None
    return redis


def _client(redis: Any, url: str) -> Any:
    try:
        return redis.Redis.from_url(
            url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, decode_responses=False
        )
    except (ValueError, TypeError):
        # Not shown, and not told why: a password that holds a slash would be.
        raise SourceError(f"the URL of Redis cannot be read; allowed is {_ALLOWED}") from None


def _found(client: Any, prefix: str, timezone: str) -> Found:
    statics = {_text(name) for name in client.sscan_iter(f"{prefix}:statics", count=1000)}
    # A scan may give a key twice.
    keys = {_text(key): None for key, _ in client.zscan_iter(f"{prefix}:schedule", count=1000)}
    return read_entries(_definitions(client, sorted(keys)), statics, timezone)


def _definitions(client: Any, keys: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    for chunk in chunks(keys):
        with client.pipeline(transaction=False) as pipeline:
            for key in chunk:
                pipeline.hget(key, "definition")
            # What is no hash is an error in its own place.
            answers = pipeline.execute(raise_on_error=False)
        for key, answer in zip(chunk, answers, strict=True):
            yield key, None if isinstance(answer, Exception) else _text(answer)


def _text(value: Any) -> Any:
    """What a client gives, which may decode or not; what is no UTF-8 must not fail the others."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
