"""RabbitMQ's word that it has a message, waited for once for many.

py-amqp, told to confirm, waits after each message: a round trip for every run. Here a group is
published first. What the broker has not confirmed by the end of it does not count as published.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from amqp import spec
from amqp.exceptions import AMQPError, ChannelError, MessageNacked, RecoverableConnectionError

from .broker import BROKER_SECONDS
from .routines import Run

#: Octets that are written at once, about.
WRITTEN = 1 << 20
#: Octets around the content of a frame.
_AROUND = 8
#: Seconds that a stop waits for the broker's word of what was published.
STOP_SECONDS = 0.3


class _Written:
    """In place of py-amqp's transport, as far as its writer of frames goes."""

    def __init__(self) -> None:
        self.octets: list[bytes] = []

    def write(self, octets: bytes) -> None:
        self.octets.append(bytes(octets))


class Confirms:
    """Those of one channel of py-amqp, to whose messages the broker gives numbers from 1 on.

    Outside of `gathered` each message is waited for.
    """

    def __init__(self, channel: Any) -> None:
        channel.confirm_select()
        channel.events["basic_ack"].add(self._confirm)
        channel.events["basic_nack"].add(self._refuse)
        self._channel = channel
        self._send, channel.basic_publish = channel.basic_publish, self._publish
        self._open, channel.open = channel.open, self._reopen
        self._written = _Written()
        self._writer = channel.connection.frame_writer_cls(channel.connection, self._written)
        self._is_stale: Callable[[], bool] | None = None
        #: Whether the broker has ended the channel, for one of its messages or declarations.
        #: py-amqp opens it again at once, and confirms nothing from then on: connect anew.
        self.is_broken = False
        self._last = 0
        self._unconfirmed: set[int] = set()
        self._refused: set[int] = set()
        self._numbered: dict[int, Run] = {}
        self._ready: list[tuple[bytes, Run]] = []
        self._ready_size = 0
        self._run: Run | None = None

    @contextmanager
    def gathered(self, is_stale: Callable[[], bool]) -> Iterator[None]:
        """`write` within; what has been is waited for at the end, or before anything else is
        published. *is_stale*: asked as late as possible, whether it is too late to.

        Raises:
            RecoverableConnectionError: the broker has ended the connection, or the channel for the
                sake of one message, and does not say which.
            OSError: it has said nothing for `BROKER_SECONDS`.
        """
        self._is_stale, self._refused, self._numbered = is_stale, set(), {}
        self._ready, self._ready_size = [], 0
        try:
            yield
            self.settle()
        except (SystemExit, KeyboardInterrupt):
            self._hear_out()
            raise
        finally:
            self._is_stale = None

    def write(self, octets: bytes, run: Run) -> None:
        """Publish the message of a run, ready as it is written, before the group is left."""
        self._ready.append((octets, run))
        self._ready_size += len(octets)
        if self._ready_size > WRITTEN:
            self._flush()

    @contextmanager
    def unconfirmed(self, run: Run) -> Iterator[None]:
        """The message of a run that is published within is waited for with the group."""
        self._run = run
        try:
            yield
        finally:
            self._run = None

    def settle(self) -> None:
        """Publish what is ready, and wait until the broker has said of all whether it has it."""
        self._flush()
        self._wait()

    @property
    def taken(self) -> list[Run]:
        """Of those that were written in the group, what the broker has confirmed."""
        unsure = self._refused | self._unconfirmed
        return [run for number, run in self._numbered.items() if number not in unsure]

    @property
    def refused(self) -> list[Run]:
        """What it has refused, as a queue may that is full."""
        return [run for number, run in self._numbered.items() if number in self._refused]

    @property
    def longest_body(self) -> int:
        """Octets of a body that is one frame."""
        return int(self._channel.connection.frame_max) - _AROUND

    def captured(self, publish: Callable[[], None]) -> bytes:
        """What *publish* would write of a message, which it does not."""
        written: list[bytes] = []
        self._channel.basic_publish = lambda *args, **kwargs: written.append(
            self._octets(*args, **kwargs)
        )
        try:
            publish()
        finally:
            self._channel.basic_publish = self._publish
        return b"".join(written)

    def _octets(
        self,
        message: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,  # noqa: FBT001, FBT002  as py-amqp's
        immediate: bool = False,  # noqa: FBT001, FBT002
        **_: Any,
    ) -> bytes:
        """What ``basic_publish`` would write. Nor does it listen to the broker first."""
        connection = self._connection()
        writer = connection.frame_writer
        connection.frame_writer, self._written.octets = self._writer, []
        try:
            told = (0, exchange, routing_key, mandatory, immediate)
            self._channel.send_method(spec.Basic.Publish, "Bssbb", told, message)
        finally:
            connection.frame_writer = writer
        return b"".join(self._written.octets)

    def _publish(self, *args: Any, **kwargs: Any) -> Any:
        """One message; it is waited for, unless it is one of the group."""
        if self._run is not None:
            self.write(self._octets(*args, **kwargs), self._run)
            return None
        self.settle()
        number = self._expect()
        try:
            result = self._send(*args, **kwargs)
        except Exception:
            if not self.is_broken:  # it could not be made: the broker does not count it
                self._unconfirmed.discard(number)
                self._last -= 1
            raise
        self._wait()
        if number in self._refused:
            raise MessageNacked
        return result

    def _expect(self) -> int:
        """The number of the next message; before it is written, as the answer may be read while
        others are."""
        self._last += 1
        self._unconfirmed.add(self._last)
        return self._last

    def _flush(self) -> None:
        ready, self._ready, self._ready_size = self._ready, [], 0
        if not ready or (self._is_stale is not None and self._is_stale()):
            return
        with suppress(TimeoutError):
            self._listen(0)  # it may have said that it is out of memory
        transport = self._connection().transport
        for _, run in ready:
            self._numbered[self._expect()] = run
        transport.write(b"".join(octets for octets, _ in ready))

    def _wait(self) -> None:
        while self._unconfirmed:
            self._listen(BROKER_SECONDS)

    def _hear_out(self) -> None:
        """For a moment; what is ready is not published any more."""
        self._ready, until = [], time.monotonic() + STOP_SECONDS
        with suppress(OSError, AMQPError):
            while self._unconfirmed and (left := until - time.monotonic()) > 0:
                self._listen(left)

    def _listen(self, seconds: float) -> None:
        try:
            self._connection().drain_events(timeout=seconds)
        except ChannelError as error:
            if self._is_stale is None:
                raise
            raise _ended(error) from error  # no fault of the one at hand

    def _connection(self) -> Any:
        connection = self._channel.connection
        if connection is None or self.is_broken or not self._channel.is_open:
            raise RecoverableConnectionError("the broker has ended the connection")
        return connection

    def _reopen(self) -> Any:
        self.is_broken = True
        return self._open()

    def _confirm(self, number: int, multiple: bool) -> None:  # noqa: FBT001  so it is called
        self._unconfirmed -= self._meant(number, multiple=multiple)

    def _refuse(self, number: int, multiple: bool) -> None:  # noqa: FBT001
        meant = self._meant(number, multiple=multiple)
        self._refused |= meant
        self._unconfirmed -= meant

    def _meant(self, number: int, *, multiple: bool) -> set[int]:
        if multiple:
            return {each for each in self._unconfirmed if each <= number}
        return {number}


def _ended(error: ChannelError) -> RecoverableConnectionError:
    return RecoverableConnectionError(f"the broker has ended the channel: {error}")
