"""RabbitMQ's word that it has a message, waited for once for many.

py-amqp, told to confirm, waits after each message: a round trip for every run. Here a group is
published first. What the broker has not confirmed by the end of it does not count as published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from amqp.exceptions import ChannelError, MessageNacked, RecoverableConnectionError

from .broker import BROKER_SECONDS


class _Written:
    """In place of py-amqp's transport, as far as its writer of frames goes."""

    def __init__(self) -> None:
        self.octets: list[bytes] = []

    def write(self, octets: bytes) -> None:
        self.octets.append(bytes(octets))


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
        self._ready: list[bytes] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Publish within without waiting; at the end, wait for all of it.

        Within and at the end, for a message that makes the broker end the channel, as it does not
        say which that is:

        Raises:
            RecoverableConnectionError: it has ended the channel, or the connection.
            OSError: it has said nothing for `BROKER_SECONDS`.
        """
        self._gathers, self.refused, self._ready = True, set(), []
        try:
            yield
            self._wait()
        finally:
            self._gathers = False

    def write(self, octets: bytes) -> None:
        """Publish a message that is ready as it is written; within `gathered`."""
        self.last += 1
        self.unconfirmed.add(self.last)
        self._ready.append(octets)

    def captured(self, publish: Callable[[], None]) -> bytes:
        """What *publish* would write, which it does not."""
        connection, written = self._channel.connection, _Written()
        writer = connection.frame_writer
        connection.frame_writer = connection.frame_writer_cls(connection, written)
        self._channel.basic_publish = self._send
        try:
            publish()
        finally:
            connection.frame_writer = writer
            self._channel.basic_publish = self._publish
        return b"".join(written.octets)

    def _publish(self, *args: Any, **kwargs: Any) -> Any:
        self._flush()
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

    def _flush(self) -> None:
        """Write what is ready, unless there is word that the broker would not have it."""
        ready, self._ready = self._ready, []
        if ready:
            with suppress(TimeoutError):
                self._listen(0)
            self._connection().transport.write(b"".join(ready))

    def _wait(self) -> None:
        self._flush()
        while self.unconfirmed:
            self._listen(BROKER_SECONDS)

    def _listen(self, seconds: float) -> None:
        with self._of_the_group():
            self._connection().drain_events(timeout=seconds)

    def _connection(self) -> Any:
        connection = self._channel.connection
        if connection is None or not self._channel.is_open:
            raise RecoverableConnectionError("the broker has ended the connection")
        return connection

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
