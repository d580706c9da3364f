"""The only publisher: one message a run, its task id the run's id, after the claim's COMMIT.

What counts as published is what `Publisher.send` noted, never what ``apply_entry`` returns: that
swallows every failure, and has to be called because others hook into it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Celery, signals
from celery.beat import ScheduleEntry
from celery.result import denied_join_result
from celery.schedules import BaseSchedule, schedule
from kombu.exceptions import OperationalError

try:
    from kombu.exceptions import BatchPublishError
except ImportError:  # before kombu 5.7, which knows no batches

    class BatchPublishError(Exception):  # type: ignore[no-redef]
        """In place of kombu's."""


from .clock import Clock
from .routines import HEADER, Run
from .schedules import to_celery
from .store import Claimed

logger = logging.getLogger(__name__)

#: Messages that are sent in one go where the transport can.
GATHERED = 100
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
            options=_own(run.options),
            app=app,
        )
        self.run = run
        self.claimed_at = held.claimed_at


def _own(options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy, for hooks to write into; they write headers."""
    own = dict(options)
    if isinstance(own.get("headers"), Mapping):
        own["headers"] = dict(own["headers"])
    return own


def _schedule(held: Claimed) -> BaseSchedule:
    return _UNKNOWN if held.routine is None else to_celery(held.routine.schedule)


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
        self._tried: UUID | None = None
        self._gathers = False

    def ready(self) -> bool:
        """Whether the broker can be published to; one that was away is probed once a second."""
        if self._away_since is None and self._producer is not None:
            return True
        if self._clock.monotonic() < self._probe_at:
            return False
        return self._connect()

    def publish(
        self, claimed: Sequence[Claimed], since: float, sent: list[UUID]
    ) -> list[tuple[Run, str]]:
        """Publish a batch that was claimed at *since*, monotonic seconds.

        What has been sent is added to *sent* at once. After the first failure of the connection
        the rest is not tried. What was neither sent nor at fault stays claimed.

        Returns:
            the runs whose message is at fault, and why.
        """
        self._faults = []
        for start in range(0, len(claimed), GATHERED):
            if self._away_since is not None or not self.ready():
                break
            if self._clock.monotonic() - since > self._patience:
                logger.warning("routines: publishing is slow, the rest of a batch is claimed anew")
                break
            self._publish_some(claimed[start : start + GATHERED], sent)
        return self._faults

    def _publish_some(self, claimed: Sequence[Claimed], sent: list[UUID]) -> None:
        """Publish a few runs; with a transport that can, in one go, and then all or none count."""
        gathered = self._gathered()
        self._sent = [] if self._gathers else sent
        try:
            with gathered:
                for held in claimed:
                    if self._away_since is None:
                        self._apply(held)
        except self._connection_errors() as error:
            self._lose(error)
        else:
            if self._gathers:
                sent += self._sent

    def _gathered(self) -> AbstractContextManager[Any]:
        """Pushes to Redis are gathered by kombu, since 5.7.

        Not where somebody is told of each message: he would be told before it is sent.
        """
        self._gathers = getattr(self._producer, "supports_batch_publish", False)
        self._gathers = self._gathers and not signals.after_task_publish.receivers
        return self._producer.batch(GATHERED) if self._gathers else nullcontext()

    def _apply(self, held: Claimed) -> None:
        try:
            self._apply_entry(RunEntry(self._app, held), producer=self._producer)
        except Exception as fault:  # noqa: BLE001  a hook's, or Celery 5.2's, as a result is None
            if self._tried != held.run.id:
                self._note(held.run, fault)

    def _note(self, run: Run, fault: Exception) -> None:
        self._faults.append((run, f"{type(fault).__name__}: {fault}"))

    def send(self, entry: RunEntry, producer: Any) -> Any:
        """Send the message of one run; called back by ``apply_entry``."""
        self._tried = entry.run.id
        options = dict(entry.options)
        headers = dict(options.pop("headers", None) or {})
        headers |= {"celery_beat_task": True, HEADER: entry.claimed_at.isoformat()}
        options |= {"headers": headers, "task_id": str(entry.run.id), "producer": producer}
        if self._gathers:
            options["retry"] = False  # a new connection would not have what is gathered
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
            self._note(entry.run, fault)
        else:
            self._sent.append(entry.run.id)
            return result
        return None

    def _connection_errors(self) -> tuple[type[BaseException], ...]:
        lost: Iterable[type[BaseException]] = ()
        if self._connection is not None:
            lost = self._connection.recoverable_connection_errors
        return (OperationalError, BatchPublishError, OSError, *lost)

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
                error.__cause__ if isinstance(error, BatchPublishError) else error,
            )
        self._probe_at = now + PROBE_SECONDS

    def close(self) -> None:
        """Drop the connection; says nothing to the broker that could block."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.collect()
