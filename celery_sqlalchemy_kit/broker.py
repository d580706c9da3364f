"""Connections to the broker that give up on one without answers."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

#: Seconds within which a broker has to take in or answer what it is sent.
BROKER_SECONDS = 2.0

_PATIENCE: dict[str, dict[str, Any]] = {
    "redis": {"socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS},
}


def connection_of(app: Celery) -> Any:
    """A connection, not made yet, that gives up on a broker without answers.

    What the user has set in ``broker_transport_options`` stays.
    """
    connection = app.connection_for_write()
    driver = connection.transport.driver_name
    for option, value in _PATIENCE.get(driver, {}).items():
        connection.transport_options.setdefault(option, value)
    return connection


def connect(connection: Any) -> None:
    """Connect; each of the broker's addresses, if it has several, is tried once."""
    others = len(connection.alt or [0]) - 1
    connection.ensure_connection(max_retries=others, interval_start=0, interval_step=0)
    end = getattr(connection.connection, "sock", None)  # py-amqp's, which waits for ever
    if end is not None and end.gettimeout() is None:
        end.settimeout(BROKER_SECONDS)


def connect_channel(connection: Any, channel: Any) -> None:
    """Have what kombu publishes to Redis by, which connects with its first command, do so now, not
    when many messages are due. With any other broker it is connected already."""
    if connection.transport.driver_type == "redis":
        with channel.conn_or_acquire() as client:
            client.ping()


def is_to_confirm(connection: Any) -> bool:
    """Whether the broker is to be asked for its word, and nobody has said otherwise: without it,
    what was written into a dead connection would count as published."""
    unsaid = connection.transport_options.get("confirm_publish") is None
    return unsaid and connection.transport.driver_name == "py-amqp"


def hung_up(connection: Any) -> bool:
    """Whether an AMQP broker has ended a connection that was idle; it would say nothing else."""
    end = getattr(connection.connection, "sock", None)
    return end is not None and bool(select.select([end], [], [], 0)[0])


def errors(connection: Any) -> tuple[type[BaseException], ...]:
    """What a connection that is lost, or cannot be made, raises."""
    lost: Iterable[type[BaseException]] = ()
    if connection is not None:
        lost = connection.recoverable_connection_errors
    return (OperationalError, OSError, *lost)
