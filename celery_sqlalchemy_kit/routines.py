"""What a routine and a run are: frozen values, without SQL, Celery or a clock."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from .clock import UTC
from .schedules import Schedule

T = TypeVar("T")

#: Namespace of the ids of scheduled runs; fixed for ever, as ids would differ between versions.
RUN_NAMESPACE = UUID("5a1d0f0e-5f5b-5c7e-9a1c-3d1f6f1f7c21")

#: The header by which a worker knows the message of a run; its value is the instant of the claim,
#: ISO 8601 in UTC.
HEADER = "routine_run"

#: The header of a message that may be the second of its run: sent once more by a scheduler, or put
#: back by a worker; its value is true.
AGAIN = "routine_run_again"
#: Bytes of UTF-8 that are kept of a run's error.
ERROR_LIMIT = 4096

#: Options that a row may not carry: the kit sets them, or they would not survive JSON.
REFUSED_OPTIONS = frozenset({"task_id", "producer", "connection", "publisher"})


class CatchUp(str, enum.Enum):
    """What becomes of a backlog whose oldest occurrence is later than the misfire grace."""

    LATEST = "latest"
    SKIP = "skip"
    ALL = "all"


class Overlap(str, enum.Enum):
    """What becomes of an occurrence while the run before it is unfinished."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


class Origin(str, enum.Enum):
    """Where a row came from; bare SQL leaves it null."""

    CODE = "code"
    DB = "db"
    #: A one-off run: the row is deleted when it is claimed.
    ONCE = "once"


class Cause(str, enum.Enum):
    """Why a run exists."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch_up"
    MANUAL = "manual"
    BACKFILL = "backfill"
    ONCE = "once"


#: Causes of runs that do not depend on their routine, which may be off or gone.
BY_HAND = (Cause.MANUAL, Cause.BACKFILL, Cause.ONCE)

#: Causes of the runs that ``total_run_count`` counts.
COUNTED = (Cause.SCHEDULE, Cause.CATCH_UP)


class State(str, enum.Enum):
    """Where a run stands. ``succeeded``, ``failed``, ``missed`` and ``skipped`` are terminal;
    ``lost`` is terminal for a run that had begun."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    SENT = "sent"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MISSED = "missed"
    SKIPPED = "skipped"
    LOST = "lost"


#: What ends a run, for whoever waits for its end.
ENDED = (State.SUCCEEDED, State.FAILED, State.MISSED, State.SKIPPED, State.LOST)

#: A run that has still to do something; a routine whose ``overlap`` says so waits for its end.
UNFINISHED = (State.WAITING, State.CLAIMED, State.SENT, State.RUNNING, State.RETRYING)


@dataclass(frozen=True)
class Routine:
    """One row of ``routines``, decoded. Instants are aware UTC."""

    id: UUID
    name: str
    task: str
    schedule: Schedule
    namespace: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    next_run_at: datetime | None = None
    occurrence_at: datetime | None = None
    last_run_at: datetime | None = None
    total_run_count: int = 0
    catch_up: CatchUp = CatchUp.LATEST
    overlap: Overlap = Overlap.ALLOW
    jitter_seconds: float = 0.0
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_runs: int | None = None
    #: When a person last changed what the planning depends on; planning counts from it.
    edited_at: datetime | None = None
    #: When it was switched off, until it has been planned again.
    paused_at: datetime | None = None
    #: Of an `After`: the run whose end it waits for, and when the last one that it waited for did.
    waiting_for: UUID | None = None
    ended_at: datetime | None = None
    #: It leaves the table once its instant, that of a `Once`, is claimed.
    one_off: bool = False


def made(kind: type[T], **fields: Any) -> T:
    """A frozen dataclass of *all* its fields, in a third of the time that its ``__init__`` takes:
    for what is read by the ten thousand."""
    value = object.__new__(kind)
    vars(value).update(fields)
    return value


@dataclass(frozen=True)
class Run:
    """The intent to run one occurrence, with all that its message needs."""

    id: UUID
    routine_id: UUID
    routine_name: str
    task: str
    scheduled_for: datetime
    cause: Cause
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Declared:
    """One routine as the code declares it.

    ``builtin`` marks what Celery adds by itself: it is a routine like any other, but does not
    count as a declaration when it is judged whether the code declares anything at all.
    """

    name: str
    task: str
    schedule: Schedule
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    builtin: bool = False


@dataclass(frozen=True)
class OneOff:
    """A task that is to run once: *at* an aware instant, or *in_* a while (a timedelta, or
    seconds), or now if neither is said.

    *name* has to be unique; without one, it is made of the id.
    """

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    in_: timedelta | float | None = None
    name: str | None = None


def run_id(routine_id: UUID, occurrence_at: datetime) -> UUID:
    """The id of the run of one scheduled occurrence: the same whoever works it out.

    uuid5 over ``<routine id>/<occurrence in integer microseconds since 1970, UTC>``.
    """
    digest = _RUN_SEED.copy()  # as `uuid.uuid5`, which takes three times as long
    digest.update(f"{routine_id}/{microseconds(occurrence_at)}".encode())
    number = int.from_bytes(digest.digest()[:16], "big")
    return UUID(int=number & _UUID5_FREE | _UUID5_FIXED)


def microseconds(instant: datetime) -> int:
    """Integer microseconds since 1970-01-01 UTC; exact, unlike ``timestamp()``."""
    delta = instant - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: RFC 9562, 5.5: version 5 in bits 48 to 51, variant 0b10 in bits 64 and 65.
_UUID5_FIXED = 5 << 76 | 0b10 << 62
_UUID5_FREE = ~(0xF << 76 | 0b11 << 62)
_RUN_SEED = hashlib.sha1(RUN_NAMESPACE.bytes, usedforsecurity=False)
