"""The only publisher: one message a run, its task id the run's id, after the claim's COMMIT.

What counts as published is what `Publisher.send` noted, never what ``apply_entry`` returns: that
swallows every failure, and has to be called because others hook into it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Celery
from celery.beat import ScheduleEntry
from celery.result import denied_join_result
from celery.schedules import BaseSchedule, schedule
from kombu.exceptions import OperationalError

from .clock import Clock
from .routines import Run
from .schedules import to_celery
from .store import Claimed

logger = logging.getLogger(__name__)

#: The header by which a worker knows a message of ours: when its run was claimed, ISO 8601.
HEADER = "routine_run"
#: Seconds between probes of a broker that is away.
PROBE_SECONDS = 1.0

_UNKNOWN = schedule(timedelta(0))


class RunEntry(ScheduleEntry):  # type: ignore[misc]
    """What ``apply_entry`` is given: one run, with an options dict that hooks may write into."""

    def __init__(self, app: Celery, held: Claimed) -> None:
        run = held.run
        super().__init__(
            name=run.routine_name,
            task=run.task,
            last_run_at=run.scheduled_for,
            schedule=_schedule(held),
            args=list(run.args),
            kwargs=dict(run.kwargs),
            options=dict(run.options),
            app=app,
        )
        self.run = run
        self.claimed_at = held.claimed_at


def _schedule(held: Claimed) -> BaseSchedule:
    return _UNKNOWN if held.routine is None else to_celery(held.routine.schedule)


@dataclass(frozen=True)
class Published:
    """What became of a batch; what is in neither was not tried and stays claimed."""

    sent: tuple[UUID, ...]
    #: Runs whose message is at fault, and why.
    faults: tuple[tuple[Run, str], ...]


class Publisher:
    """Publishes runs through *apply_entry*; keeps the connection to the broker.

    *patience*: a claim older than that, by the monotonic clock, is not published any more, as
    another scheduler is about to take it over.
    """

    def __init__(
        self,
        app: Celery,
        apply_entry: Callable[..., None],
        clock: Clock,
        *,
        patience: timedelta,
        producer_class: Callable[..., Any] | None = None,
    ) -> None:
        self._app = app
        self._apply_entry = apply_entry
        self._clock = clock
        self._patience = patience.total_seconds()
        self._producer_class = producer_class
        self._connection: Any = None
        self._producer: Any = None
        self._away_since: float | None = None
        self._probe_at = 0.0
        self._sent: list[UUID] = []
        self._faults: list[tuple[Run, str]] = []

    def ready(self) -> bool:
        """Whether the broker can be published to; one that was away is probed once a second."""
        if self._away_since is None and self._producer is not None:
            return True
        if self._clock.monotonic() < self._probe_at:
            return False
        return self._connect()

    def publish(self, claimed: Sequence[Claimed], since: float) -> Published:
        """Publish a batch that was claimed at *since*, monotonic seconds.

        After the first failure of the connection the rest is not tried.
        """
        self._sent, self._faults = [], []
        for held in claimed:
            if self._away_since is not None or not self.ready():
                break
            if self._clock.monotonic() - since > self._patience:
                logger.warning("routines: publishing is slow, the rest of a batch is claimed anew")
                break
            self._apply_entry(RunEntry(self._app, held), producer=self._producer)
        return Published(tuple(self._sent), tuple(self._faults))

    def send(self, entry: RunEntry, producer: Any) -> Any:
        """Send the message of one run; called back by ``apply_entry``."""
        options = dict(entry.options)
        headers = dict(options.pop("headers", None) or {})
        headers |= {"celery_beat_task": True, HEADER: entry.claimed_at.isoformat()}
        options |= {"headers": headers, "task_id": str(entry.run.id), "producer": producer}
        task = self._app.tasks.get(entry.task)
        try:
            # Beat waits for no result: without this the result backend would subscribe to each.
            with denied_join_result():
                if task is None:
                    result = self._app.send_task(entry.task, entry.args, entry.kwargs, **options)
                else:
                    result = task.apply_async(entry.args, entry.kwargs, **options)
        except self._connection_errors() as error:
            self._lose(error)
        except Exception as fault:  # noqa: BLE001  whatever the message makes kombu, a router or a hook raise
            self._faults.append((entry.run, f"{type(fault).__name__}: {fault}"))
        else:
            self._sent.append(entry.run.id)
            return result
        return None

    def _connection_errors(self) -> tuple[type[BaseException], ...]:
        lost: Iterable[type[BaseException]] = ()
        if self._connection is not None:
            lost = self._connection.recoverable_connection_errors
        return (OperationalError, OSError, *lost)

    def _connect(self) -> bool:
        self.close()
        connection = self._app.connection_for_write()
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except (OperationalError, OSError, *connection.recoverable_connection_errors) as error:
            self._lose(error)
            connection.release()
            return False
        make = self._producer_class or self._app.amqp.Producer
        self._connection = connection
        self._producer = make(connection, auto_declare=False)
        _keep_client(self._producer.channel)
        if self._away_since is not None:
            away = self._clock.monotonic() - self._away_since
            logger.warning("routines: the broker is back after %.0f s", away)
        self._away_since = None
        return True

    def _lose(self, error: BaseException) -> None:
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
            logger.error(
                "routines: the broker %s cannot be reached, nothing is claimed until it can: %s",
                self._app.connection_for_write().as_uri(),
                error,
            )
        self._probe_at = now + PROBE_SECONDS

    def close(self) -> None:
        """Drop the connection; says nothing to the broker that could block."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.collapse()


def _keep_client(channel: Any) -> None:
    """Let kombu's Redis channel keep one client: it makes one a message, at a quarter of the cost.

    The client is stateless and takes its connections from the channel's own pool either way.
    Where kombu has no such method everything stays as it is.
    """
    make = getattr(channel, "_create_client", None)
    if make is None:
        return
    kept = make()
    channel._create_client = (  # noqa: SLF001  kombu offers no other place
        lambda asynchronous=False: make(asynchronous=True) if asynchronous else kept
    )
