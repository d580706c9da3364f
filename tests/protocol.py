"""The way of a run through scheduler, broker and worker, as a small model that is walked in full.

A `World` is a value: the rows of the ledger, what each scheduler and worker is in the middle of,
and the messages under way. `steps` gives all that may happen next, one statement, message or
fault at a time, in any order; `walk` visits every world that can be reached. What the code
decides is in `Rules`: change a rule there first, and see what the walk says of it.

Idealised:

- A transaction happens at once or not at all. Beyond that nothing is assumed of time: what waits
  for an age in the code (rescue, redelivery, giving up) may happen at any moment in the model.
- Beats are exact: a worker is heard exactly while it is neither killed nor silent. One that is
  silent (stopped, cut off, out of memory) may go on at any later moment, as if nothing had been.
- A killed scheduler or worker is back at once, and knows nothing.
- The number of faults is bounded, and so is how often one run is published.
- Messages are not ordered, and a broker may deliver again what it was never told the end of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

ENDED = frozenset({"succeeded", "failed", "missed", "skipped", "lost"})
UNFINISHED = frozenset({"waiting", "claimed", "sent", "running", "retrying"})
#: Of a row's ``claimed_by`` and ``attempt_id``: somebody who is there no more.
GONE = "gone"


class Message(NamedTuple):
    """*repeated*: it says that it may not be the first, by the header or the broker's mark."""

    run: int
    retries: int = 0
    repeated: bool = False


#: In place of a message where there is none, so that worlds can be ordered.
NOTHING = Message(-1)


class Row(NamedTuple):
    """*owner*: the worker whose attempt it is. *sent*: how often it was given out to be sent."""

    state: str = "due"
    holder: int | str | None = None
    owner: int | str | None = None
    retries: int = 0
    sent: int = 0


class Scheduler(NamedTuple):
    step: str = "idle"
    message: Message = NOTHING


class Worker(NamedTuple):
    """*owes*: the broker waits for its acknowledgement."""

    step: str = "idle"
    message: Message = NOTHING
    owes: bool = False
    silent: bool = False


class World(NamedTuple):
    rows: tuple[Row, ...]
    schedulers: tuple[Scheduler, ...]
    workers: tuple[Worker, ...]
    #: What the broker has to deliver, and what it delivered to those who are gone.
    queue: tuple[Message, ...] = ()
    limbo: tuple[Message, ...] = ()
    #: How often the task's work was completed, for each run.
    effects: tuple[int, ...] = ()
    faults: int = 0
    #: How many attempts there were whose worker was killed or fell silent.
    deaths: int = 0


@dataclass(frozen=True)
class Rules:
    """What the code decides. *message* meets *row*, whose owner *beats* or not."""

    on_worker_lost: str = "lost"
    #: ``allow``, or ``queue``: one run of the routine at a time, one more waits.
    overlap: str = "allow"
    confirms: Callable[[Row, int], bool] = lambda row, me: (
        row.state == "claimed" and row.holder == me
    )
    begins: Callable[[Row, Message], bool] = lambda row, message: (
        (row.state in ("claimed", "sent") and message.retries >= row.retries)
        or (row.state == "lost" and row.owner is None and message.retries >= row.retries)
        or (row.state in ("retrying", "running", "lost") and message.retries > row.retries)
    )
    #: A repeated message of a run that has begun: ``take``, ``wait``, ``lost`` or ``drop``.
    repeats: Callable[[Rules, Row, Message, bool], str] = lambda rules, row, message, beats: (
        _meet_again(rules, row, message, beats=beats)
    )
    ends_from: frozenset[str] = frozenset({"running", "lost", "sent"})
    #: Worker's outcomes that are walked.
    outcomes: tuple[str, ...] = ("succeeded", "failed", "retrying", "sent")
    #: Retries that a failing task may make.
    most_retries: int = 1
    #: How often one run is given out to be sent.
    most_sent: int = 3
    rescues: bool = True
    redelivers: bool = True
    #: A run that nobody begins is given up; with which owner and retries.
    gives_up: Callable[[Row], Row] | None = lambda row: row._replace(
        state="lost", owner=None, retries=row.retries + (row.state == "retrying")
    )
    sweeps: bool = True
    #: Workers that cannot reach the ledger run a first message all the same.
    blind: bool = False


def _meet_again(rules: Rules, row: Row, message: Message, *, beats: bool) -> str:
    begun = row.state in ("running", "lost") and row.owner is not None
    if not message.repeated or not begun or message.retries < row.retries:
        return "drop"
    if row.state == "running" and beats:
        return "wait" if rules.on_worker_lost == "again" else "drop"
    if rules.on_worker_lost == "again":
        return "take"
    return "lost"


Step = tuple[str, World]


def start(*, runs: int = 1, schedulers: int = 2, workers: int = 2, faults: int = 3) -> World:
    """Nothing has happened yet, and *faults* are to come."""
    return World(
        (Row(),) * runs,
        (Scheduler(),) * schedulers,
        (Worker(),) * workers,
        effects=(0,) * runs,
        faults=faults,
    )


def steps(world: World, rules: Rules) -> Iterator[Step]:
    """All that may happen next. What begins with ``!`` is a fault, with ``?`` what need not be."""
    for me in range(len(world.schedulers)):
        yield from _scheduler(world, rules, me)
    for me, worker in enumerate(world.workers):
        if worker.silent:
            yield "hears again", _worker(world, me, worker._replace(silent=False))
        else:
            yield from _working(world, rules, me, worker)
    for message in set(world.limbo):
        limbo = _without(world.limbo, message)
        yield "?comes back", _queued(world._replace(limbo=limbo), message)
    if world.faults:
        yield from _faults(world._replace(faults=world.faults - 1), rules)


# -- schedulers ---------------------------------------------------------------------------------


def _scheduler(world: World, rules: Rules, me: int) -> Iterator[Step]:
    step, message = world.schedulers[me]
    if step == "idle":
        for run, row in enumerate(world.rows):
            yield from _look(world, rules, me, run, row)
    elif step == "published":
        row = world.rows[message.run]
        if rules.confirms(row, me):
            world = _row(world, message.run, row._replace(state="sent", holder=None))
        yield "confirm", _forgetting(world, me)
    else:
        sent = _queued(world, message)
        after = Scheduler("published", message)
        yield "publish", _scheduling(sent, me, after) if step == "holds" else _forgetting(sent, me)
        yield "broker away", _forgetting(world, me)


def _look(world: World, rules: Rules, me: int, run: int, row: Row) -> Iterator[Step]:
    """What an idle scheduler may do about one row."""
    taken = _given(world, me, run, Row("claimed", holder=me, sent=row.sent + 1))
    others = [each.state for key, each in enumerate(world.rows) if key != run]
    blocked = rules.overlap == "queue" and bool(UNFINISHED.intersection(others))
    if row.state == "due" and blocked:
        if "waiting" not in others:
            yield "queue", _row(world, run, Row("waiting"))
        yield "skip", _row(world, run, Row("skipped"))
    elif row.state == "due":
        yield "claim", taken
    elif row.state == "waiting" and not blocked:
        yield "release", taken
    elif row.state == "claimed" and rules.rescues:
        if row.sent < rules.most_sent:
            yield "rescue", taken
        yield "miss", _row(world, run, Row("missed"))
    else:
        yield from _mend(world, rules, me, run, row)


def _mend(world: World, rules: Rules, me: int, run: int, row: Row) -> Iterator[Step]:
    """What an idle scheduler may do about a run that has been sent."""
    repeated = Message(run, row.retries + (row.state == "retrying"), repeated=True)
    again = row.sent < rules.most_sent
    if row.state in ("sent", "retrying"):
        if rules.redelivers and again:
            yield "redeliver", _repeated(world, me, row, repeated)
        if rules.gives_up is not None:
            yield "give up", _row(world, run, rules.gives_up(row))
    elif rules.sweeps and row.state == "running" and not _beats(world, row):
        lost = row._replace(state="lost")
        if rules.on_worker_lost == "again" and again:
            # Not over: nothing else of its routine may begin meanwhile.
            yield "sweep", _repeated(world, me, row._replace(state="sent"), repeated)
        else:
            yield "sweep", _row(world, run, lost)


def _forgetting(world: World, me: int) -> World:
    rows = tuple(row._replace(holder=GONE) if row.holder == me else row for row in world.rows)
    return _scheduling(world._replace(rows=rows), me, Scheduler())


def _given(world: World, me: int, run: int, row: Row) -> World:
    return _scheduling(_row(world, run, row), me, Scheduler("holds", Message(run)))


def _repeated(world: World, me: int, row: Row, message: Message) -> World:
    world = _row(world, message.run, row._replace(sent=row.sent + 1))
    return _scheduling(world, me, Scheduler("repeats", message))


# -- workers ------------------------------------------------------------------------------------


def _working(world: World, rules: Rules, me: int, worker: Worker) -> Iterator[Step]:
    step, message = worker.step, worker.message
    if step == "idle":
        for next_message in set(world.queue):
            received = world._replace(queue=_without(world.queue, next_message))
            yield "receive", _worker(received, me, Worker("received", next_message, owes=True))
        return
    row = world.rows[message.run]
    if step == "received":
        yield _begin(world, rules, me)
    elif step == "working":
        for outcome in rules.outcomes:
            yield from _outcome(world, rules, me, worker, outcome)
    elif step == "orphaned":
        # The main process of a pool process that died.
        yield _mourn(world, rules, me, worker, row)
    elif step == "put back":
        yield "put back", _queued(_resting(world, me), message._replace(repeated=True))
    elif step == "ack":
        yield "ack", _resting(world, me)
    else:
        after = worker._replace(step="put back" if step == "sent" else "ack")
        if row.owner == me and row.state in rules.ends_from:
            owner = None if step == "sent" else row.owner
            world = _row(world, message.run, row._replace(state=step, owner=owner))
        yield "end", _worker(world, me, after)


def _begin(world: World, rules: Rules, me: int) -> Step:
    worker = world.workers[me]
    message = worker.message
    row = world.rows[message.run]
    if row.owner == me and row.state in ("running", "lost"):  # the answer was cut off
        return "begin once more", _worker(world, me, worker._replace(step="working"))
    if rules.begins(row, message):
        return "begin", _begun(world, me, worker)
    verdict = rules.repeats(rules, row, message, _beats(world, row))
    if verdict == "take":
        return "take over", _begun(world, me, worker)
    if verdict == "wait":
        return "wait", _worker(world, me, worker._replace(step="put back"))
    if verdict == "lost":
        world = _row(world, message.run, row._replace(state="lost"))
    return "drop", _worker(world, me, worker._replace(step="ack"))


def _begun(world: World, me: int, worker: Worker, step: str = "working") -> World:
    run, retries = worker.message.run, worker.message.retries
    row = world.rows[run]._replace(state="running", holder=None, owner=me, retries=retries)
    return _worker(_row(world, run, row), me, worker._replace(step=step))


def _outcome(world: World, rules: Rules, me: int, worker: Worker, outcome: str) -> Iterator[Step]:
    message = worker.message
    if outcome == "retrying":
        if message.retries >= rules.most_retries:
            return
        # Celery publishes before it raises.
        world = _queued(world, Message(message.run, message.retries + 1, message.repeated))
    if outcome == "succeeded":
        effects = list(world.effects)
        effects[message.run] += 1
        world = world._replace(effects=tuple(effects))
    yield outcome, _worker(world, me, worker._replace(step=outcome))


def _mourn(world: World, rules: Rules, me: int, worker: Worker, row: Row) -> Step:
    if row.owner == me and row.state == "running":
        again = rules.on_worker_lost == "again"
        state, after = ("sent", "put back") if again else ("lost", "ack")
        world = _row(world, worker.message.run, row._replace(state=state, owner=GONE))
    else:
        after = "put back" if rules.begins(row, worker.message) else "ack"
    return "mourn", _worker(world, me, worker._replace(step=after))


def _resting(world: World, me: int) -> World:
    """Nobody beats for its attempt any more."""
    rows = tuple(row._replace(owner=GONE) if row.owner == me else row for row in world.rows)
    return _worker(world._replace(rows=rows), me, Worker())


def _beats(world: World, row: Row) -> bool:
    return isinstance(row.owner, int) and not world.workers[row.owner].silent


# -- faults -------------------------------------------------------------------------------------


def _faults(world: World, rules: Rules) -> Iterator[Step]:
    for me, scheduler in enumerate(world.schedulers):
        if scheduler.step != "idle":
            yield "!kill scheduler", _forgetting(world, me)
    for me, worker in enumerate(world.workers):
        if worker.step != "idle":
            yield from _worker_faults(world, rules, me, worker)
    if world.queue or world.limbo:
        yield "!broker forgets", world._replace(queue=(), limbo=())


def _worker_faults(world: World, rules: Rules, me: int, worker: Worker) -> Iterator[Step]:
    message = worker.message
    died = world._replace(deaths=world.deaths + (world.rows[message.run].owner == me))
    back = message._replace(repeated=True)
    limbo = (*world.limbo, back) if worker.owes else world.limbo
    yield "!kill worker", _resting(died._replace(limbo=tuple(sorted(limbo))), me)
    if not worker.silent:
        yield "!silence", _worker(died, me, worker._replace(silent=True))
        if worker.step not in ("orphaned", "put back", "ack"):
            yield "!kill pool process", _worker(died, me, worker._replace(step="orphaned"))
    if worker.owes:
        # Its connection to the broker, or Redis's visibility time-out.
        yield "!deliver again", _queued(_worker(world, me, worker._replace(owes=False)), back)
    if worker.step == "received" and not worker.silent:
        row = world.rows[message.run]
        if row.owner != me and rules.begins(row, message):
            yield "!cut begin", _begun(world, me, worker, step="received")
        if rules.blind and not message.repeated:
            yield "!blind", _worker(world, me, worker._replace(step="working"))


# -- values -------------------------------------------------------------------------------------


def _row(world: World, run: int, row: Row) -> World:
    if row.state in ENDED and row.state != "lost":
        row = Row(row.state)  # nothing looks at the rest any more
    return world._replace(rows=(*world.rows[:run], row, *world.rows[run + 1 :]))


def _scheduling(world: World, me: int, scheduler: Scheduler) -> World:
    others = world.schedulers
    return world._replace(schedulers=(*others[:me], scheduler, *others[me + 1 :]))


def _worker(world: World, me: int, worker: Worker) -> World:
    others = world.workers
    return world._replace(workers=(*others[:me], worker, *others[me + 1 :]))


def _queued(world: World, message: Message) -> World:
    return world._replace(queue=tuple(sorted((*world.queue, message))))


def _without(messages: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    at = messages.index(message)
    return (*messages[:at], *messages[at + 1 :])


# -- the walk -----------------------------------------------------------------------------------

Check = Callable[[World, str, World], "str | None"]


class Violation(Exception):
    """A promise is broken; the message tells which, and the shortest way there."""


def walk(first: World, rules: Rules, check: Check) -> int:
    """Visit every world that can be reached; returns how many there are.

    *check* is asked of every step, and answers what is wrong with it. From every world there has
    to be a way, without a further fault, to one where every run has ended and nothing is left to
    do. No way counts on what a killed worker held: with Redis it comes back after an hour, and
    never from one that was restarted with nothing kept.

    Raises:
        Violation: as said.
    """
    first = _in_order(first)
    numbers, worlds = {first: 0}, [first]
    came: list[tuple[int, str]] = [(0, "start")]
    before: list[list[int]] = [[]]
    todo = deque([0])
    while todo:
        number = todo.popleft()
        world = worlds[number]
        for name, found in steps(world, rules):
            if wrong := check(world, name, found):
                raise Violation(f"{wrong}: {_way(came, number)}, {name}")
            following = _in_order(found)
            at = numbers.get(following)
            if at is None:
                at = numbers[following] = len(worlds)
                worlds.append(following)
                came.append((number, name))
                before.append([])
                todo.append(at)
            if not name.startswith(("!", "?")):
                before[at].append(number)
    _nothing_is_stuck(worlds, before, came)
    return len(worlds)


def _in_order(world: World) -> World:
    """The same world with schedulers and workers, of which it is all one who is who, in order."""
    rows = world.rows

    def order(count: int, key: Callable[[int], tuple[object, ...]]) -> list[int]:
        return sorted(range(count), key=key)

    mine = order(
        len(world.workers), lambda me: (world.workers[me], [row.owner == me for row in rows])
    )
    ours = order(
        len(world.schedulers), lambda me: (world.schedulers[me], [row.holder == me for row in rows])
    )
    if mine == sorted(mine) and ours == sorted(ours):
        return world
    owners = {old: new for new, old in enumerate(mine)}
    holders = {old: new for new, old in enumerate(ours)}
    return world._replace(
        rows=tuple(
            row._replace(
                owner=owners.get(row.owner, row.owner), holder=holders.get(row.holder, row.holder)
            )
            for row in rows
        ),
        workers=tuple(world.workers[old] for old in mine),
        schedulers=tuple(world.schedulers[old] for old in ours),
    )


def _nothing_is_stuck(
    worlds: list[World], before: list[list[int]], came: list[tuple[int, str]]
) -> None:
    fine = [number for number, world in enumerate(worlds) if _over(world)]
    safe = set(fine)
    while fine:
        for number in before[fine.pop()]:
            if number not in safe:
                safe.add(number)
                fine.append(number)
    for number in range(len(worlds)):
        if number not in safe:
            raise Violation(f"stuck: {_way(came, number)}")


def _over(world: World) -> bool:
    idle = all(each.step == "idle" for each in (*world.schedulers, *world.workers))
    return idle and not world.queue and all(row.state in ENDED for row in world.rows)


def _way(came: list[tuple[int, str]], number: int) -> str:
    names = []
    while number:
        number, name = came[number]
        names.append(name)
    return ", ".join(reversed(names))
