"""The only publisher: one message a run, its task id the run's id, after the claim's COMMIT.

What counts as published is what `Publisher.send` noted, never what ``apply_entry`` returns: that
swallows every failure, and has to be called because others hook into it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID

from amqp.exceptions import MessageNacked
from celery import Celery, signals

from . import messages, stops, texts
from .clock import Clock, pause
from .confirms import Confirms
from .link import Link
from .messages import RunEntry
from .routines import Run
from .storage.values import Claimed
from .templates import Templates
from .texts import Filled

logger = logging.getLogger(__name__)

#: Messages that are sent in one go where the transport can; of those by template to Redis; and
#: those that RabbitMQ's word is waited for at once.
GATHERED, PUSHED, CONFIRMED = 100, 1000, 500


class _Stale(Exception):
    """Another scheduler may have taken a batch over by now."""


class Publisher:
    """Publishes runs through *apply_entry*.

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
        self._link = Link(app, apply_entry, clock, producer_class)
        #: Messages left to be published one by one, since the broker has ended a channel for one.
        self._one_by_one = 0
        self._sent: list[UUID] = []
        self._faults: list[tuple[Run, str]] = []
        self._tried: UUID | None = None
        self._gathers = False
        self._since = self._not_before = 0.0

    def ready(self) -> bool:
        """Whether the broker can be published to; never waits for one that was away."""
        return self._link.ready()

    def close(self) -> None:
        """Drop the connection; says nothing to the broker that could block."""
        self._link.close()

    def publish(
        self,
        claimed: Sequence[Claimed],
        since: float,
        sent: list[UUID],
        *,
        not_before: float = 0.0,
    ) -> list[tuple[Run, str]]:
        """Publish a batch that was claimed at *since*, but *not_before* then; both in monotonic
        seconds.

        What has been sent is added to *sent* at once. After the first failure of the connection
        the rest is not tried. What was neither sent nor at fault stays claimed.

        Returns:
            the runs whose message is at fault, and why.
        """
        self._faults, self._since, self._not_before = [], since, not_before
        try:
            self._publish_all(claimed, sent)
        except _Stale:
            logger.warning("routines: publishing is slow, the rest of a batch is claimed anew")
        return self._faults

    def _publish_all(self, claimed: Sequence[Claimed], sent: list[UUID]) -> None:
        if not self._link.is_away and self._link.ready():
            claimed = self._push_by_template(claimed, sent)
        size = GATHERED if self._link.confirms is None else CONFIRMED
        for start in range(0, len(claimed), size):
            if self._link.is_away or not self._link.ready():
                break
            self._publish_group(claimed[start : start + size], sent)

    def _push_by_template(self, claimed: Sequence[Claimed], sent: list[UUID]) -> list[Claimed]:
        """Publish what need not go Celery's long way; returns the rest."""
        templates, rest = self._link.templates, list[Claimed]()
        try:
            if templates is None or not templates.look():
                return list(claimed)
            claimed = self._publish_firsts(templates, claimed, sent)
            if self._link.is_away:
                return rest
            for start in range(0, len(claimed), PUSHED):
                some = claimed[start : start + PUSHED]
                filled = list(map(templates.fill, some))
                with stops.held():
                    self._wait_until_due()
                    if self._is_stale():
                        raise _Stale
                    rest += self._push(some, filled, sent)
        except self._link.errors() as error:
            self._link.lose(error)
        return rest

    def _push(
        self, claimed: Sequence[Claimed], filled: Sequence[Filled | None], sent: list[UUID]
    ) -> list[Claimed]:
        """Push messages to Redis; returns what is to be published otherwise."""
        try:
            refused = texts.push(self._link.producer.channel, list(filter(None, filled)))
        except self._link.channel_errors:
            return list(claimed)  # asked for one by one, Redis says what it refuses
        rest = []
        for held, message in zip(claimed, filled, strict=True):
            if message is None or message.key in refused:
                rest.append(held)
            else:
                sent.append(held.run.id)
        return rest

    def _publish_firsts(
        self, templates: Templates, claimed: Sequence[Claimed], sent: list[UUID]
    ) -> Sequence[Claimed]:
        """Have Celery send one run of each kind that is to have a template, which is made of that;
        returns the others."""
        firsts = templates.firsts(claimed)
        if not firsts:
            return claimed
        for start in range(0, len(firsts), GATHERED):
            if not self._link.is_away:
                self._publish_group(firsts[start : start + GATHERED], sent)
        tried = set(map(id, firsts))
        return [held for held in claimed if id(held) not in tried]

    def _wait_until_due(self) -> None:
        while (left := self._not_before - self._clock.monotonic()) > 0:
            pause(left)

    def _is_stale(self) -> bool:
        """Asked as late as possible: the process may have been stopped at any instruction."""
        return self._clock.monotonic() - self._since > self._patience

    def _publish_group(self, claimed: Sequence[Claimed], sent: list[UUID]) -> None:
        self._wait_until_due()
        one_by_one = self._one_by_one > 0
        self._one_by_one = max(0, self._one_by_one - len(claimed))
        told = signals.after_task_publish.receivers  # of each message, once it is published
        if self._link.confirms is None or told or one_by_one:
            self._publish_some(claimed, sent)
        else:
            rest = self._publish_confirmed(self._link.confirms, claimed, sent)
            if rest and not self._link.is_away and self._link.ready():
                self._publish_some(rest, sent)

    def _publish_confirmed(
        self, confirms: Confirms, claimed: Sequence[Claimed], sent: list[UUID]
    ) -> list[Claimed]:
        """Publish a few runs to RabbitMQ; those that it has confirmed by the end count.

        Returns:
            those behind one for which the broker has ended the channel.
        """
        rest = deque(claimed)
        with stops.held():
            try:
                with confirms.gathered(self._is_stale):
                    while rest and not (
                        self._link.is_away or confirms.is_broken or self._is_stale()
                    ):
                        self._publish_unconfirmed(confirms, rest.popleft(), sent)
            except self._link.errors() as error:
                self._link.lose(error)
            finally:
                self._note_confirmed(confirms, sent)
        if self._is_stale():
            raise _Stale
        return list(rest)

    def _note_confirmed(self, confirms: Confirms, sent: list[UUID]) -> None:
        sent += (run.id for run in confirms.taken)
        for run in confirms.refused:
            self._note(run, MessageNacked("the broker did not take it"))
        if confirms.is_broken:  # for which of them, the next ones have to tell
            self._one_by_one = PUSHED
            self._link.close()

    def _publish_unconfirmed(self, confirms: Confirms, held: Claimed, sent: list[UUID]) -> None:
        """Publish a run, without waiting if there is a template; what is not may be declared first,
        and faults are its own."""
        octets = self._link.templates and self._link.templates.framed(held, confirms)
        if octets:
            confirms.write(octets, held.run)
            return
        self._sent = []
        if self._link.templates is not None and self._link.templates.knows(held):
            with confirms.unconfirmed(held.run):
                self._apply(held, confirms)
            return
        confirms.settle()
        self._apply(held)
        sent += self._sent

    def _publish_some(self, claimed: Sequence[Claimed], sent: list[UUID]) -> None:
        """Publish a few runs; with a transport that can, in one go, and then all or none count."""
        gathered = self._gathered()
        self._sent = [] if self._gathers else sent
        with stops.held() if self._gathers else nullcontext():
            try:
                with gathered:
                    self._apply_all(claimed)
            except self._link.errors() as error:
                self._link.lose(error)
            else:
                if self._gathers:
                    sent += self._sent

    def _apply_all(self, claimed: Sequence[Claimed]) -> None:
        for held in claimed:
            if not self._link.is_away and self._is_connected():
                with nullcontext() if self._gathers else stops.held():
                    self._apply(held)
            if self._is_stale():
                raise _Stale  # what is gathered is dropped with it

    def _is_connected(self) -> bool:
        """Also after RabbitMQ has ended the channel for the message before."""
        return (
            self._link.confirms is None or not self._link.confirms.is_broken or self._link.connect()
        )

    def _gathered(self) -> AbstractContextManager[Any]:
        """Pushes to Redis are gathered by kombu, since 5.7.

        Not where somebody is told of each message: he would be told before it is sent.
        """
        self._gathers = getattr(self._link.producer, "supports_batch_publish", False)
        self._gathers = self._gathers and not signals.after_task_publish.receivers
        return self._link.producer.batch(GATHERED) if self._gathers else nullcontext()

    def _apply(self, held: Claimed, confirms: Confirms | None = None) -> None:
        if self._sends_by_template(held, confirms):
            return
        observing = (
            nullcontext() if self._link.templates is None else self._link.templates.observing(held)
        )
        try:
            with observing:
                self._apply_entry(RunEntry(self._app, held), producer=self._link.producer)
        except Exception as fault:  # noqa: BLE001  a hook's, or Celery 5.2's, as a result is None
            if self._tried != held.run.id:
                self._note(held.run, fault)

    def _sends_by_template(self, held: Claimed, confirms: Confirms | None) -> bool:
        """Whether that is settled: sent, at fault, or too late."""
        if self._link.templates is None or self._is_stale():
            return self._link.templates is not None
        try:
            if not self._link.templates.send(held, confirms):
                return False
        except self._link.errors() as error:
            self._link.lose(error)
        except Exception as fault:  # noqa: BLE001  whatever the message makes kombu or a router raise
            self._note(held.run, fault)
        else:
            self._sent.append(held.run.id)
        return True

    def _note(self, run: Run, fault: Exception) -> None:
        self._faults.append((run, f"{type(fault).__name__}: {fault}"))

    def send(self, entry: RunEntry, producer: Any) -> Any:
        """Send the message of one run; called back by ``apply_entry``."""
        self._tried = entry.run.id
        if self._is_stale():
            return None
        try:
            result = messages.send(self._app, entry, producer)
        except self._link.errors() as error:
            self._link.lose(error)
        except Exception as fault:  # noqa: BLE001  whatever the message makes kombu, a router or a hook raise
            self._note(entry.run, fault)
        else:
            self._sent.append(entry.run.id)
            return result
        return None
