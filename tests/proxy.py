"""A network between a client and a server that fails as a test wants it to.

    with Proxy(address_of(url)) as proxy:
        client = connect(proxy.through(url))
        proxy.hang()

or as a process, ``python tests/proxy.py PORT TARGET``, where TARGET is ``host:port`` or the path
of a socket: it answers ``ok`` once it listens and after each line of its input that names a
method and its arguments, as ``hang``, ``resume dead``, ``delay 0.2``, ``to 127.0.0.1:5433``; it
ends with its input. Methods return when what they order has been done.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import sys
import threading
import time
from collections import deque
from queue import SimpleQueue
from urllib.parse import urlsplit

#: Octets of one direction that are kept before its source has to wait.
ROOM = 1 << 20


class Proxy:
    """Listens on 127.0.0.1 and passes connections on to *target*.

    *target*: host and port, or the path of a socket. It may also come up later: until then its
    clients are cut off. The port stays the same for good, whatever happens.
    """

    def __init__(self, target, port=0):
        #: Where new connections are passed on to.
        self.target = target
        self._listener = _listen(port)
        self.port = self._listener.getsockname()[1]
        #: Answers to a COMMIT that were dropped.
        self.dropped = 0
        self._links = []
        self._held = frozenset()
        self._closes = False
        self._delay = 0.0
        self._drops = False
        self._ended = False
        self._orders = SimpleQueue()
        self._waker, self._wakes = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def through(self, url):
        """*url*, a SQLAlchemy URL or text such as Redis's, by way of this proxy."""
        if isinstance(url, str):
            parts = urlsplit(url)
            credentials, at, _ = parts.netloc.rpartition("@")
            return parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}").geturl()
        return url.difference_update_query(["host"]).set(host="127.0.0.1", port=self.port)

    # --- how it fails ----------------------------------------------------------------------

    def resume(self, dead=""):
        """All passes again. What was kept back goes on its way; or, with ``"dead"``, it is lost
        and those connections are never answered nor closed, as behind a firewall that has
        forgotten them: the server has lost its end of them, the client hears nothing."""
        self._do(lambda: self._resume(bool(dead)))

    def cut(self):
        """Close all connections; new ones are taken."""
        self._do(self._cut)

    def refuse(self, how=""):
        """Close all connections and listen no more; or, with ``"close"``, take new connections
        and close them at once."""
        self._do(lambda: self._refuse(how == "close"))

    def hang(self, what=""):
        """Take connections and what they send, and say nothing; those that are there fall silent.

        With ``"answers"``, what clients send does reach the server; only the answers do not come.
        """
        self._do(lambda: self._hang({"answers"} if what == "answers" else {"answers", "requests"}))

    def delay(self, seconds):
        """Whatever is sent arrives that much later, in both directions; 0 for at once."""
        self._do(lambda: setattr(self, "_delay", float(seconds)))

    def drop_commit(self):
        """Let the next COMMIT through, drop its answer and cut that connection.

        For databases, without TLS. `dropped` tells that it has happened.
        """
        self._do(lambda: setattr(self, "_drops", True))

    def to(self, target):
        """Fail over: cut all connections, pass new ones on to *target*."""
        self._do(lambda: self._fail_over(target))

    def close(self):
        """The end; idempotent."""
        if not self._ended:
            self._do(lambda: (self._refuse(closes=False), setattr(self, "_ended", True)))
            self._thread.join()

    # --- what can be seen ------------------------------------------------------------------

    @property
    def connections(self):
        """How many connections there are, those that are dead included."""
        return len(self._links)

    @property
    def kept(self):
        """Octets that are kept back from client or server."""
        return sum(flow.kept for link in list(self._links) for flow in link.flows)

    # --- in the thread ---------------------------------------------------------------------

    def _do(self, order):
        done = threading.Event()
        self._orders.put((order, done))
        with contextlib.suppress(OSError):  # the thread may have ended by this order already
            self._wakes.send(b"x")
        if not done.wait(20):
            raise TimeoutError("the proxy does not obey")

    def _resume(self, dead):
        for link in list(self._links):
            if dead and (link.far is None or self._held):
                link.die()
        self._held, self._closes, self._delay = frozenset(), False, 0.0
        if self._listener is None:
            self._listener = _listen(self.port)
        for link in list(self._links):
            if any(flow.ended and not flow.chunks for flow in link.flows):
                self._drop(link)
            elif link.far is None and not link.dead:
                self._connect(link)

    def _cut(self):
        while self._links:
            self._links.pop().close()

    def _refuse(self, closes):
        self._closes = closes
        if not closes and self._listener is not None:
            self._listener.close()
            self._listener = None
        self._cut()

    def _hang(self, held):
        self._held = frozenset(held)

    def _fail_over(self, target):
        self.target = _target(target) if isinstance(target, str) else target
        self._cut()

    def _run(self):
        while not self._ended:
            reading, writing, seconds = self._interests(time.monotonic())
            ready = select.select(list(reading), list(writing), [], seconds)
            for source in ready[0]:
                reading[source]()
            for sink in ready[1]:
                writing[sink]()
            while not self._orders.empty():
                order, done = self._orders.get()
                order()
                done.set()
        for end in (self._waker, self._wakes):
            end.close()

    def _interests(self, now):
        """What to do once a socket can be read or written, and the seconds to wait for that."""
        reading = {self._waker: lambda: self._waker.recv(4096)}
        writing, seconds = {}, None
        if self._listener is not None:
            reading[self._listener] = self._accept
        for link, flow in ((each, flow) for each in self._links for flow in each.flows):
            if flow.reads:
                reading[flow.source] = functools.partial(self._read, link, flow)
            if not flow.chunks or flow.sink is None or flow.name in self._held:
                continue
            if (due := flow.chunks[0][0]) <= now:
                writing[flow.sink] = functools.partial(self._write, link, flow)
            else:
                seconds = due - now if seconds is None else min(seconds, due - now)
        return reading, writing, seconds

    def _accept(self):
        near = self._listener.accept()[0]
        if self._closes:
            near.close()
            return
        link = _Link(near)
        self._links.append(link)
        if not self._held:
            self._connect(link)

    def _connect(self, link):
        kind = socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET
        far = socket.socket(kind)
        try:
            far.connect(self.target)
        except OSError:
            far.close()
            self._drop(link)
        else:
            far.setblocking(False)
            link.connect(far)

    def _read(self, link, flow):
        if link not in self._links:
            return
        try:
            data = flow.source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            flow.ended = True
            if link.dead or not (flow.chunks or flow.name in self._held):
                self._drop(link)
            return
        if link.dead:
            return
        if flow.name == "answers" and link.drops:
            self.dropped += 1
            self._drop(link)
            return
        if self._drops and flow.name == "requests" and b"COMMIT" in data.upper():
            self._drops, link.drops = False, True
        flow.chunks.append((time.monotonic() + self._delay, data))

    def _write(self, link, flow):
        if link not in self._links or not flow.chunks:
            return
        due, data = flow.chunks.popleft()
        try:
            sent = flow.sink.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(link)
            return
        if data[sent:]:
            flow.chunks.appendleft((due, data[sent:]))
        elif flow.ended and not flow.chunks:
            self._drop(link)

    def _drop(self, link):
        link.close()
        with contextlib.suppress(ValueError):
            self._links.remove(link)


class _Link:
    """A client's connection and, once it is made, the one to the server."""

    def __init__(self, near):
        near.setblocking(False)
        self.near, self.far = near, None
        self.flows = [_Flow("requests", near, None), _Flow("answers", None, near)]
        #: Whether the next answer is dropped and the connection cut.
        self.drops = False
        #: Nothing that the client sends will ever be answered.
        self.dead = False

    def connect(self, far):
        self.far = self.flows[0].sink = self.flows[1].source = far

    def die(self):
        self.dead = True
        if self.far is not None:
            _shut(self.far)
        self.far = None
        self.flows = [_Flow("requests", self.near, None)]

    def close(self):
        for end in (self.near, self.far):
            if end is not None:
                _shut(end)


class _Flow:
    """One direction of a connection."""

    def __init__(self, name, source, sink):
        self.name = name
        self.source, self.sink = source, sink
        self.chunks = deque()
        self.ended = False

    @property
    def kept(self):
        return sum(len(data) for _, data in list(self.chunks))

    @property
    def reads(self):
        return self.source is not None and not self.ended and self.kept < ROOM


def address_of(url):
    """Where the server of a SQLAlchemy URL, or of text such as Redis's, listens."""
    if isinstance(url, str):
        parts = urlsplit(url)
        return parts.hostname, parts.port
    host = url.query.get("host", url.host)
    return f"{host}/.s.PGSQL.{url.port or 5432}" if host.startswith("/") else (host, url.port)


def _listen(port):
    return socket.create_server(("127.0.0.1", port), backlog=128)


def _shut(end):
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _target(text):
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(port, target):
    """Obey the lines of the input until it ends."""
    with Proxy(_target(target), int(port)) as proxy:
        print("ok", flush=True)  # noqa: T201
        for line in sys.stdin:
            name, *arguments = line.split()
            getattr(proxy, name)(*arguments)
            print("ok", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
