"""RabbitMQ's word that it has a message, waited for once for many.

py-amqp, told to confirm, waits after each message: a round trip for every run. Here a group is
published first. What the broker has not confirmed by the end of it does not count as published.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import ChannelError, MessageNacked, RecoverableConnectionError

from .broker import BROKER_SECONDS


class Confirms:
    """Those of one channel of py-amqp, to whose messages the broker gives numbers from 1 on.

    Outside of `gathered` each message is waited for, as by py-amqp itself.
    """

    def __init__(self, channel: Any) -> None:
        channel.confirm_select()
        channel.events["basic_ack"].add(self._confirm)
        channel.events["basic_nack"].add(self._refuse)
        self._channel = channel
        self._send, channel.basic_publish = channel.basic_publish, self._publish
        self._gathers = False
        #: Whether the broker has ended the channel for a message that was one of a group.
        self.is_broken = False
        #: The number of the message that was published last.
        self.last = 0
        self.unconfirmed: set[int] = set()
        #: What the broker did not take, since a group was begun.
        self.refused: set[int] = set()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Publish within without waiting; at the end, wait for all of it.

        Within and at the end, for a message that makes the broker end the channel, as it does not
        say which that is:

        Raises:
            RecoverableConnectionError: it has ended the channel, or the connection.
            OSError: it has said nothing for `BROKER_SECONDS`.
        """
        self._gathers, self.refused = True, set()
        try:
            yield
            self._wait()
        finally:
            self._gathers = False

    def _publish(self, *args: Any, **kwargs: Any) -> Any:
        self.last += 1
        number = self.last
        # Before it is written: the answer may be read while the next one is.
        self.unconfirmed.add(number)
        try:
            with self._of_the_group():
                result = self._send(*args, **kwargs)
        except Exception:
            if self._channel.is_open:  # it could not be made: the broker does not count it
                self.unconfirmed.discard(number)
                self.last -= 1
            raise
        if not self._gathers:
            self._wait()
            if number in self.refused:
                raise MessageNacked
        return result

    def _wait(self) -> None:
        while self.unconfirmed:
            connection = self._channel.connection
            if connection is None:
                raise RecoverableConnectionError("the broker has ended the connection")
            with self._of_the_group():
                connection.drain_events(timeout=BROKER_SECONDS)

    @contextmanager
    def _of_the_group(self) -> Iterator[None]:
        """What is wrong with any message of a group is no fault of the one at hand."""
        try:
            yield
        except ChannelError as error:
            if not self._gathers:
                raise
            self.is_broken = True
            raise RecoverableConnectionError(
                f"the broker has ended the channel: {error}"
            ) from error

    def _confirm(self, number: int, multiple: bool) -> None:  # noqa: FBT001  so it is called
        self.unconfirmed -= self._meant(number, multiple=multiple)

    def _refuse(self, number: int, multiple: bool) -> None:  # noqa: FBT001
        meant = self._meant(number, multiple=multiple)
        self.refused |= meant
        self.unconfirmed -= meant

    def _meant(self, number: int, *, multiple: bool) -> set[int]:
        if multiple:
            return {each for each in self.unconfirmed if each <= number}
        return {number}
