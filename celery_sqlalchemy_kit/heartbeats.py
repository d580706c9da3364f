"""Signs of life of runs: one statement for all that a worker runs, by its main process.

A thread of its own beats: neither a task that holds up its process nor a busy event loop is a dead
worker. It beats until the last task of an orderly stop has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from celery import Celery, signals
from celery.utils.log import get_logger
from celery.worker import state

from .book import book_of
from .history import ATTEMPT, as_uuid
from .routines import HEADER

#: Seconds between beats, at most; else they are a third of ``scheduler_lost_after`` apart.
LONGEST_SECONDS = 30.0
#: How often the requests of a worker are read that change while they are read.
TRIES = 100
#: Seconds that a stop waits for the thread, which may be in the middle of a statement.
STOP_SECONDS = 1.0

logger = get_logger(__name__)


class Heartbeats:
    """Those of one worker, whose name is *worker*."""

    def __init__(self, app: Celery, worker: str) -> None:
        self._app = app
        self._worker = worker[:255]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run heartbeats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        seconds = 0.0
        while not self._stopped.wait(seconds):
            try:
                seconds = self.beat()
            except Exception:
                seconds = LONGEST_SECONDS
                logger.exception("the heartbeats of runs go on")

    def beat(self) -> float:
        """Beat once for every run that is active; returns the seconds until the next beat."""
        book = book_of(self._app)
        seconds = min(LONGEST_SECONDS, book.settings.scheduler_lost_after / 3)
        active = active_runs()
        if active and book.ask(lambda ledger: ledger.beat(active, self._worker)) is None:
            # As soon as the database answers: its first look at the runs may find them silent.
            return min(seconds, book.seconds_shut or seconds)
        return seconds


def active_runs() -> list[tuple[UUID, UUID | None]]:
    """The runs whose messages this process has handed to its pool, with their attempts.

    What is merely reserved may have begun as well: its pool has told nobody yet.
    """
    requests = (*_snapshot(state.reserved_requests), *_snapshot(state.active_requests))
    found = {}
    for request in requests:
        headers = request.request_dict
        run_id = as_uuid(request.id) if headers.get(HEADER) else None
        if run_id is not None:
            found[run_id, as_uuid(headers.get(ATTEMPT))] = True
    return list(found)


def _snapshot(requests: Iterable[Any]) -> list[Any]:
    for _ in range(TRIES):
        try:
            return list(requests)
        except RuntimeError:  # another thread added one meanwhile
            continue
    return []


class _Here:
    heartbeats: Heartbeats | None = None


def connect() -> None:
    """Beat in every worker of this process; any number of times."""
    signals.worker_ready.connect(_on_ready, weak=False, dispatch_uid=__name__)
    signals.worker_shutdown.connect(_on_shutdown, weak=False, dispatch_uid=__name__)


def _on_ready(sender: Any = None, **_: Any) -> None:
    """Sent anew each time that the worker has connected to its broker."""
    if _Here.heartbeats is None or not _Here.heartbeats.is_alive:
        _Here.heartbeats = Heartbeats(sender.app, sender.hostname)
        _Here.heartbeats.start()


def _on_shutdown(**_: Any) -> None:
    if _Here.heartbeats is not None:
        _Here.heartbeats.stop()
        _Here.heartbeats = None
