"""What goes in and out of a store: frozen values, whatever it stores them in."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from ..alerts import Alert
from ..due import Decision
from ..rescue import Stranded, Unbegun, Verdict
from ..routines import Routine, Run, State

#: A scheduler that has not beaten for so long no longer counts.
SILENCE = timedelta(seconds=30)

#: What a claim does with a routine that is due or unplanned.
Decide = Callable[[Routine, datetime], Decision]
#: What becomes of a claimed run that nobody published.
Judge = Callable[[Stranded, datetime], Verdict]
#: What the scheduler's app says of a task: ``lost`` or ``again``, as its ``on_worker_lost``; None
#: of one whose worker would run a message that comes twice twice.
OnWorkerLost = Callable[[str], "str | None"]
#: What becomes of a run that nobody has begun, by the name of its task.
JudgeUnbegun = Callable[[str, Unbegun], "Verdict | None"]


@dataclass(frozen=True)
class Presence:
    """This scheduler, as its heartbeat row tells it to the others."""

    id: UUID
    namespace: str
    host: str
    pid: int


@dataclass(frozen=True)
class Claimed:
    """A run that this scheduler holds, to be published, and the schedule it came from."""

    run: Run
    claimed_at: datetime
    routine: Routine | None = None


@dataclass(frozen=True)
class Position:
    """Where a batch ended in the order of (next_run_at, id); the next one starts behind it."""

    next_run_at: datetime
    key: str


@dataclass(frozen=True)
class Passed:
    """What was seen to be done with: due routines up to *position*, and unpublished runs that were
    claimed before *claimed_at*."""

    position: Position
    claimed_at: datetime


@dataclass(frozen=True)
class Batch:
    """What one claim took."""

    #: The present, or the instant that was taken for it; see `SchedulerStore.claim`.
    now: datetime
    claimed: tuple[Claimed, ...] = ()
    #: Rows that could not be scheduled: name and what is wrong.
    faults: tuple[tuple[str, str], ...] = ()
    #: Runs that were there already, though their occurrence was pending.
    repeated: tuple[UUID, ...] = ()
    #: Rows that were looked at, and whether an arm was full: there may be more.
    rows: int = 0
    more: bool = False
    #: Where the batch of due rows ended.
    last: Position | None = None
    #: A routine has moved on to an instant that has come already.
    still_due: bool = False
    #: When *now* comes, in monotonic seconds of this process: nothing of it is to be sent before.
    not_before: float = 0.0


@dataclass(frozen=True)
class View:
    """What there is to do, seen without a lock."""

    now: datetime
    #: A routine is due, or has to be planned.
    to_claim: bool
    #: When the next one is due.
    next_run_at: datetime | None
    #: When the oldest run that is still unpublished was claimed.
    oldest_claim_at: datetime | None
    #: A run waits for the end of the one before it; one of those need wait no longer.
    waiting: bool = False
    to_release: bool = False
    #: Hundreds are due with the next one, at one instant; a store need not tell.
    many_next: bool = False


@dataclass(frozen=True)
class Rescued:
    """Runs taken over for publishing, and what became of the others: what they are called in the
    log, ``routine[id]`` say, and the reason."""

    claimed: tuple[Claimed, ...] = ()
    ended: tuple[tuple[str, State, str], ...] = ()


@dataclass(frozen=True)
class Since:
    """The instants from which on something is to be tidied up; *silent*, *overdue*: None, not just
    now."""

    silent: datetime | None
    unbegun: datetime
    ended: datetime
    overdue: datetime | None
    failed: datetime


@dataclass(frozen=True)
class Survey:
    """Whether there is any: runs that run without a beat, that wait to be begun, or begun again,
    that are over for long; routines whose alert may have to change."""

    silent: bool
    sent: bool
    retrying: bool
    old: bool
    alerts: bool


@dataclass(frozen=True)
class Again(Claimed):
    """A run whose message is sent once more, as ``rescue.at_once`` has it; *retries* is the number
    of it, as Celery counts."""

    retries: int = 0


@dataclass(frozen=True)
class Lost:
    """A run that was given up, or, *again*, is begun once more; its id as text."""

    run_id: str
    routine_name: str
    task: str
    worker: str | None
    reason: str
    again: bool = False


@dataclass(frozen=True)
class Place:
    """How far a walk through the runs of a state has come, in the order of (claimed_at, id).

    *unbegun*: how many it has passed of each task.
    """

    claimed_at: datetime
    key: str
    unbegun: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Walk:
    """Through the runs in a state that were claimed until *before*, on from *after*; *looks_at* so
    many of them."""

    state: State
    before: datetime
    after: Place | None
    looks_at: int


@dataclass(frozen=True)
class Swept:
    """What one sweep found, and has committed; *place*: where the next one goes on."""

    lost: tuple[Lost, ...] = ()
    again: tuple[Again, ...] = ()
    place: Place | None = None


@dataclass(frozen=True)
class RunEnd:
    """How a run has ended."""

    id: str
    state: State
    scheduled_for: datetime | None
    finished_at: datetime | None
    reason: str | None
    error: str | None


@dataclass(frozen=True)
class Change:
    """A routine whose alert is another now; *told*: somebody is to hear of it."""

    routine_id: str
    name: str
    task: str
    before: Alert | None
    after: Alert | None
    told: bool
    due_at: datetime | None
    run: RunEnd | None


@dataclass(frozen=True)
class Found:
    """Routines whose alert may have to change, and where to go on: None, from the beginning."""

    keys: tuple[str, ...]
    #: As many are overdue as one look takes: there may be more.
    more: bool = False
    failed_since: datetime | None = None
    alerted_after: str | None = None


class Begun(enum.Enum):
    """What became of the wish to begin a run."""

    BEGUN = enum.auto()
    #: Another message of the run was first, or the run is over.
    DUPLICATE = enum.auto()
    #: There is no such run: pruned, or in another database.
    UNKNOWN = enum.auto()
    #: It is another attempt's, which beats, but may yet die: ask again later.
    OWNED = enum.auto()
    #: It was another attempt's, which has stopped beating: it is lost now.
    LOST = enum.auto()


class Fate(enum.Enum):
    """What became of a run whose process has died."""

    #: It had begun in that process, and is lost now.
    LOST = enum.auto()
    #: It had not, and still may.
    UNSTARTED = enum.auto()
    #: It is over, another attempt's, or not there: nothing would stop its message.
    OVER = enum.auto()
