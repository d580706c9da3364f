"""The link to the broker: a connection, and what is made for each one anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

try:
    from kombu.exceptions import BatchPublishError
except ImportError:  # before kombu 5.7, which knows no batches

    class BatchPublishError(Exception):  # type: ignore[no-redef]
        """In place of kombu's."""


from . import broker
from .clock import Clock
from .confirms import Confirms
from .outage import Outage
from .templates import Templates

#: Seconds between questions whether a broker that was away answers.
PROBE_SECONDS = 0.25


class Link:
    """Its connection is there while the broker answers; once it does again, there is a new one."""

    def __init__(
        self,
        app: Celery,
        apply_entry: Callable[..., None],
        clock: Clock,
        producer_class: Callable[..., Any] | None = None,
    ) -> None:
        self._app = app
        self._apply_entry = apply_entry
        self._producer_class = producer_class
        self._connection: Any = None
        self._outage = Outage("the broker", clock, self._reaches, halts="claimed")
        #: None while there is no connection; the last one also where the broker confirms nothing.
        self.producer: Any = None
        self.templates: Templates | None = None
        self.confirms: Confirms | None = None

    @property
    def is_away(self) -> bool:
        """Whether the broker did not answer when it was last asked."""
        return self._outage.lasts

    def ready(self) -> bool:
        """Whether the broker can be published to; never waits for one that was away."""
        if self._outage.lasts:
            return self._outage.answered() and self.connect()
        if self.producer is None or broker.hung_up(self._connection):
            return self.connect()
        return True

    def connect(self) -> bool:
        """Make a new connection; false: the broker is away."""
        self.close()
        connection = broker.connection_of(self._app)
        make = self._producer_class or self._app.amqp.Producer
        try:
            broker.connect(connection)
            producer = make(connection, auto_declare=False)
            broker.connect_channel(connection, producer.channel)
            if broker.is_to_confirm(connection):
                self.confirms = Confirms(producer.channel)
        except broker.errors(connection) as error:
            self.lose(error)
            connection.collect()
            return False
        self._connection, self.producer = connection, producer
        self.templates = Templates(self._app, self._apply_entry, self.producer)
        self._outage.ends()
        return True

    def lose(self, error: BaseException) -> None:
        """The broker is away, as *error* tells."""
        cause = error.__cause__ if isinstance(error, BatchPublishError) else None
        self._outage.goes_on(cause or error, self._app.connection_for_write().as_uri())

    def errors(self) -> tuple[type[BaseException], ...]:
        """What is raised where the connection is lost."""
        return (BatchPublishError, *broker.errors(self._connection))

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """What is raised where the broker refuses a request."""
        refused: tuple[type[BaseException], ...] = self._connection.channel_errors
        return refused

    def close(self) -> None:
        """Drop the connection; says nothing to the broker that could block."""
        connection, self._connection = self._connection, None
        self.producer = self.templates = self.confirms = None
        if connection is not None:
            connection.collect()

    def _reaches(self) -> bool:
        connection = broker.connection_of(self._app)
        try:
            broker.connect(connection)
        except broker.errors(connection):
            return False
        finally:
            connection.collect()
        return True
