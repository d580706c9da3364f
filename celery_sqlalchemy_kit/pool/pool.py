"""The pool, as Celery's worker knows it."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import Any

from celery import signals
from celery.app.trace import fast_trace_task, trace_task_ret
from celery.concurrency.base import BasePool
from celery.utils.log import get_logger
from kombu.utils.compat import detect_environment

from .. import aio
from ..errors import SettingsError
from ..tasks import AsyncTask
from . import redis_client
from .alarms import Alarms
from .handover import Handover
from .job import Job
from .lane import Lane
from .outbox import Outbox
from .threads import HELD_UP_SECONDS, Threads

logger = get_logger(__name__)


class AsyncioPool(BasePool):  # type: ignore[misc]
    """Runs `limit` async tasks at once on one event loop, and other tasks on threads beside.

    A task whose slot is not free yet waits here, unaccepted: its message goes back to the broker
    if the worker stops first.

    What blocks in the hooks of an async task or in its result backend blocks one of the `TRACERS`,
    as does a database that swallows the question whether a run may begin; the coroutines go on
    meanwhile, and time limits, revokes and the worker's remote control are heeded, but those tasks
    that have to begin or end on that thread wait.
    """

    limit: int
    body_can_be_buffer = True

    #: Threads on which async tasks are traced.
    TRACERS = 2
    #: Threads for all other tasks; so many of them run at once.
    SYNC_THREADS = 4

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if faults := _faults():
            raise SettingsError(faults)
        self._outbox = Outbox()
        self._alarms, self._batches = Alarms("time limits"), Alarms("batches")
        self._tracers = [Threads(f"tracer {n}", 1) for n in range(self.TRACERS)]
        self._sync_threads = Threads("sync tasks", self.SYNC_THREADS)
        self._async_lane, self._sync_lane = Lane(self.limit), Lane(self.SYNC_THREADS)
        self._handover = Handover(self._async_lane, self._batches)
        self._limits_ignored = self._has_ended = False

    def on_start(self) -> None:
        for option in ("maxtasksperchild", "max_memory_per_child"):
            if self.options.get(option):
                logger.warning("%s is ignored: the asyncio pool has no child processes", option)
        signals.worker_shutting_down.connect(self._on_shutting_down)
        # What the worker has imported stays: looking through it for garbage would stop the loop,
        # with all that runs on it, for a tenth of a second at a time.
        gc.collect()
        gc.freeze()
        for each in self._threads:
            each.start()

    def register_with_event_loop(self, loop: Any) -> None:
        self._outbox.register(loop)
        redis_client.keep()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any,
        kwargs: Any,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Job | None:
        if not self.active:
            return None  # its message goes back
        options |= {"trace": partial(target, *args, **kwargs), "tell": self._outbox.post}
        soft_timeout = soft_timeout or self.options.get("soft_timeout")
        timeout = timeout or self.options.get("timeout")
        job: Job
        if self._runs_on_loop(target, args):
            from .async_job import AsyncJob

            lane = self._async_lane
            job = AsyncJob(
                threads=self._choose_tracer(),
                hand_over=self._handover.put,
                ended=lane.remove,
                alarms=self._alarms,
                soft_timeout=soft_timeout,
                timeout=timeout,
                **options,
            )
        else:
            lane = self._sync_lane
            job = Job(threads=self._sync_threads, ended=lane.remove, **options)
            if (soft_timeout or timeout) and not self._limits_ignored:
                self._limits_ignored = True
                logger.warning("%s: time limits hold for async tasks only, in this pool", job)
        self._outbox.make(partial(lane.add, job))
        return job

    def _choose_tracer(self) -> Threads:
        """One with least to do; of those, as jobs yet to be handed over are not seen, in turn.

        One that is blocked counts as busier the longer it is: another that is about to end its
        call seems as busy, and more so with what waits for it.
        """
        chosen = min(self._tracers, key=lambda each: each.load + each.held_up / HELD_UP_SECONDS)
        self._tracers.remove(chosen)
        self._tracers.append(chosen)
        return chosen

    def _runs_on_loop(self, target: Any, args: Any) -> bool:
        if target not in (fast_trace_task, trace_task_ret):
            return False
        task = self.app.tasks.get(args[0])
        # One that has a `run` of its own may block.
        return isinstance(task, AsyncTask) and type(task).run is AsyncTask.run

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """The worker terminates the job itself as well: it has no process to be killed."""

    def grow(self, n: int = 1) -> None:
        self._resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """What runs beyond the new limit runs on."""
        self._resize(max(0, self.limit - n))

    def _resize(self, limit: int) -> None:
        self.limit = self._async_lane.slots = limit
        self._outbox.make(self._async_lane.fill)

    def flush(self) -> None:
        """Drop what waits: its messages go back to the broker, whose connection has gone."""
        for lane in self._lanes:
            lane.waiting.clear()
        self._handover.deliver()

    on_close = flush

    def on_stop(self) -> None:
        """Wait for what was accepted, however long that takes.

        But not within a signal's handler, as Celery >= 5.5 has it in a cold shutdown: what waits
        there may wait for the very call that the signal has interrupted, or for a lock which that
        holds. There it waits as long as `on_terminate`, which comes after it.
        """
        self.flush()
        if not _is_in_handler():
            self._wait(self._is_busy)
            self._end()
            return
        deadline = time.monotonic() + aio.GRACE + 1
        self._wait(lambda: self._is_busy() and time.monotonic() < deadline)

    def on_terminate(self) -> None:
        """Cancel the coroutines that run, and give them `aio.GRACE` to end."""
        self.flush()
        for job in list(self._async_lane.running):
            job.terminate()
        deadline = time.monotonic() + aio.GRACE + 1
        self._wait(lambda: bool(self._async_lane.running) and time.monotonic() < deadline)
        self._end()
        aio.close()  # Celery sends no `worker_shutdown` then

    def _wait(self, condition: Callable[[], bool]) -> None:
        while condition():
            self._outbox.wait(0.5)

    def _is_busy(self) -> bool:
        left_behind = (job.is_terminated for job in list(self._sync_lane.running))
        return bool(self._async_lane.running) or not all(left_behind)

    def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        signals.worker_shutting_down.disconnect(self._on_shutting_down)
        for each in self._threads:
            each.stop()
        self._outbox.deliver()
        self._outbox.close()

    def _on_shutting_down(self, **_: Any) -> None:
        self._outbox.wake()

    @property
    def _threads(self) -> list[Alarms | Threads]:
        return [self._alarms, self._batches, self._sync_threads, *self._tracers]

    @property
    def _lanes(self) -> tuple[Lane, Lane]:
        return self._async_lane, self._sync_lane

    def _get_info(self) -> dict[str, Any]:
        return {
            **super()._get_info(),
            "running": len(self._async_lane.running),
            "queued": len(self._async_lane.waiting),
            "sync-running": len(self._sync_lane.running),
            "sync-queued": len(self._sync_lane.waiting),
            "sync-threads": self.SYNC_THREADS,
            "tracer-threads": self.TRACERS,
        }


def _is_in_handler() -> bool:
    """Whether a handler of Celery's for a signal to stop is at work on this thread.

    Celery's own mark for that stays set after SIGHUP, and is taken off by a second signal.
    """
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None and frame.f_globals.get("__name__") != _HANDLERS:
        frame = frame.f_back
    return frame is not None


#: Where Celery defines them; nothing else there calls anything that stops a pool.
_HANDLERS = "celery.apps.worker"


def _faults() -> list[str]:
    """Why the pool cannot run here."""
    faults = []
    if find_spec("greenlet") is None:
        faults.append(
            "the asyncio pool needs greenlet: pip install 'celery-sqlalchemy-kit[asyncio]'"
        )
    if os.environ.get("USE_FAST_LOCALS"):
        faults.append(
            "USE_FAST_LOCALS is set in the environment: with it Celery would mix up the tasks "
            "of the asyncio pool, which share a thread; unset it"
        )
    environment: str = detect_environment()  # type: ignore[no-untyped-call]
    if environment != "default":
        faults.append(f"the asyncio pool needs real threads, and here they are {environment}'s")
    return faults
