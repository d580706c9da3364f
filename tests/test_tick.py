"""Any order of events, on a real database: several schedulers, people, workers, deaths, outages.

hypothesis draws what happens and moves the clock; after each event the ledger has to account for
every occurrence of every routine, once. The rules of planning and policies in detail are the
matter of ``test_due.py`` and ``test_year.py``; here it is their bookkeeping, whoever does it.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from uuid import UUID, uuid4

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from sqlalchemy.engine import URL

from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.routines import State
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import Begun, Ledger
from celery_sqlalchemy_kit.tables import routines, runs
from celery_sqlalchemy_kit.testing import ManualBeat

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
#: States of a run that does not count as one of its routine's.
UNCOUNTED = {"missed", "skipped"}
AT_IT = {"claimed", "sent", "running", "retrying"}

intervals = st.sampled_from([2, 7, 60])
routine = st.tuples(
    st.fixed_dictionaries(
        {
            "catch_up": st.sampled_from(["latest", "skip", "all"]),
            "overlap": st.sampled_from(["allow", "skip", "queue"]),
            "jitter": st.sampled_from([0, 0, 5]),
        }
    ),
    intervals,
)
waits = st.sampled_from([0.3, 3, 11, 31, 65, 100, 1000])


class Killed(BaseException):
    """The scheduler is gone."""


@dataclass
class Expected:
    """A routine as people left it. *edited_at*: since when it is planned as it is now."""

    key: UUID
    interval: timedelta
    edited_at: datetime
    overlap: str
    active: bool = True
    #: No scheduler has looked since people last did something to it; or never yet.
    fresh: bool = True
    new: bool = True


class Tick(RuleBasedStateMachine):
    names = Bundle("names")
    messages = Bundle("messages")
    attempts = Bundle("attempts")

    # -- the world --

    def __init__(self):
        super().__init__()
        self.directory = Path(mkdtemp(prefix="tick-"))
        self.url = URL.create("sqlite", database=str(self.directory / "routines.db"))
        self.clock = SettableClock(BEGIN)
        self.people = self.on_this_clock(make_engine(self.url))
        self.beats: list[ManualBeat] = []
        self.expected: dict[str, Expected] = {}
        self.away = False
        self.begun: Counter[UUID] = Counter()
        self.gone = 0

    def teardown(self):
        for beat in self.beats:
            beat.kill()
        self.people.dispose()
        shutil.rmtree(self.directory)

    def on_this_clock(self, engine):
        """The database's own clock, too, is the test's: triggers and defaults take it."""

        def connected(dbapi_connection, connection_record):
            dbapi_connection.execute("PRAGMA synchronous = OFF")
            dbapi_connection.create_function("strftime", 2, strftime)

        def strftime(form, instant):
            when = self.clock.now() if instant == "now" else datetime.fromisoformat(instant)
            return when.strftime("%Y-%m-%d %H:%M:%S.%f")

        sa.event.listen(engine, "connect", connected)
        return engine

    def tell(self, statement):
        with self.people.begin() as connection:
            connection.execute(statement)

    def update(self, name, **values):
        self.tell(routines.update().where(routines.c.name == name).values(values))
        self.expected[name].fresh = True

    # -- schedulers --

    @initialize(target=names, drawn=st.tuples(routine, routine))
    def begin_the_world(self, drawn):
        self.new_beat()
        return multiple(*(self.insert(each) for each in drawn))

    @rule()
    @precondition(lambda self: len(self.beats) < 3)
    def new_beat(self):
        beat = ManualBeat(self.url, self.clock)
        self.on_this_clock(beat.engine)
        beat.publisher.away = self.away
        beat.start()
        self.beats.append(beat)

    @rule(target=messages, which=st.integers(0, 2), after=waits)
    @precondition(lambda self: self.beats)
    def work(self, which, after):
        """One scheduler does all that there is to do by then."""
        return multiple(*self.worked(which, after))

    @rule(target=messages, each=waits, times=st.integers(2, 4))
    @precondition(lambda self: self.beats)
    def work_in_turn(self, each, times):
        return multiple(*(sent for n in range(times) for sent in self.worked(n, each)))

    def worked(self, which, after):
        self.clock.advance(after)
        sent = self.beats[which % len(self.beats)].run()
        self.nothing_is_left()
        self.every_occurrence_is_accounted_for_once()
        return sent

    @rule(target=messages, which=st.integers(0, 2), seconds=waits)
    @precondition(lambda self: self.beats)
    def work_on(self, which, seconds):
        """Time passes as it should, for one scheduler."""
        sent = self.beats[which % len(self.beats)].advance(min(seconds, 11))
        self.nothing_is_left()
        return multiple(*sent)

    @rule(target=messages, which=st.integers(0, 2), publishes=st.booleans())
    @precondition(lambda self: self.beats)
    def die_at_work(self, which, publishes):
        """One scheduler dies with claims in its hand, if it makes any, published or not."""
        beat = self.beats.pop(which % len(self.beats))
        publish = beat.publisher.publish

        def die(claimed, since, sent, **_):
            if publishes:
                publish(claimed, since, sent)
            raise Killed

        beat.publisher.publish = die
        try:
            return multiple(*beat.run())
        except Killed:
            return multiple(*beat.publisher.sent)
        finally:
            beat.kill()

    @rule(which=st.integers(0, 2), how=st.sampled_from([ManualBeat.stop, ManualBeat.kill]))
    @precondition(lambda self: self.beats)
    def end_beat(self, which, how):
        how(self.beats.pop(which % len(self.beats)))

    @rule(seconds=waits)
    def lose_or_find_the_broker(self, seconds):
        self.clock.advance(seconds)
        self.away = not self.away
        for beat in self.beats:
            beat.publisher.away = self.away

    # -- people --

    @rule(target=names, drawn=routine)
    @precondition(lambda self: len(self.expected) < 4)
    def insert(self, drawn):
        columns, every = drawn
        number = len(self.expected) + self.gone
        key, name = UUID(int=number + 1), f"r{number}"
        fixed = {"id": key, "name": name, "task": "poll", "origin": "db"}
        self.tell(routines.insert().values(**fixed, **columns, schedule=seconds(every)))
        overlap = columns["overlap"]
        self.expected[name] = Expected(key, every * SECOND, self.clock.now(), overlap)
        return name

    @rule(name=names, deed=st.sampled_from(["schedule", "switch", "order", "plan"]), data=st.data())
    def edit(self, name, deed, data):
        if (routine := self.expected.get(name)) is None or routine.new:
            return
        if deed == "order":
            later = data.draw(st.sampled_from([-100, 0, 3, 50]))
            odd = timedelta(seconds=later, microseconds=137)
            self.update(name, next_run_at=self.clock.now() + odd)
            return
        if deed == "schedule":
            every = data.draw(intervals.filter(lambda s: s * SECOND != routine.interval))
            routine.interval = every * SECOND
            self.update(name, schedule=seconds(every))
        elif deed == "switch":
            routine.active = not routine.active
            self.update(name, active=routine.active)
        elif self.read()[0][name].next_run_at is None:
            return  # it is to be planned already: to the triggers, no edit
        else:
            self.update(name, next_run_at=None)
        routine.edited_at = self.clock.now()

    @rule(name=consumes(names))
    def delete(self, name):
        self.tell(routines.delete().where(routines.c.name == name))
        del self.expected[name]
        self.gone += 1

    # -- workers --

    @rule(target=attempts, message=messages, times=st.integers(1, 3))
    def begin(self, message, times):
        """A message may come any number of times."""
        begun = []
        for attempt in [uuid4() for _ in range(times)]:
            if self.ledger().begin(message.id, attempt, retries=0, worker="w") is Begun.BEGUN:
                self.begun[message.id] += 1
                begun.append((message, attempt))
        return multiple(*begun)

    @rule(attempt=consumes(attempts), state=st.sampled_from([State.SUCCEEDED, State.FAILED]))
    def end(self, attempt, state):
        message, attempt_id = attempt
        assert self.ledger().end(message.id, attempt_id, state)

    @rule(attempt=consumes(attempts))
    def worker_dies(self, attempt):
        """Nothing is heard of it any more."""

    def ledger(self):
        return Ledger(self.people, self.clock)

    # -- what holds --

    @invariant()
    def nothing_begins_twice(self):
        assert not [key for key, times in self.begun.items() if times > 1]

    @invariant()
    def every_occurrence_is_accounted_for_once(self):
        rows, ledger = self.read()
        for name, routine in self.expected.items():
            records = sorted(
                (record for record in ledger if record.routine_id == routine.key),
                key=lambda record: record.scheduled_for,
            )
            self.check_records(routine, rows[name], records)

    def read(self):
        with self.people.connect().execution_options(reading=True) as connection:
            rows = {row.name: row for row in connection.execute(sa.select(routines))}
            return rows, connection.execute(sa.select(runs)).all()

    def check_records(self, routine, row, records):
        own = [record for record in records if record.cause != "manual"]
        for record, following in itertools.pairwise(own):
            assert (record.until or record.scheduled_for) < following.scheduled_for
        counted = sum(record.state not in UNCOUNTED for record in own)
        assert counted == row.total_run_count
        if routine.overlap != "allow":
            assert 1 >= sum(record.state in AT_IT for record in records)
            assert 1 >= sum(record.state == "waiting" for record in records)
        if not routine.fresh:
            self.check_chain(routine, row, own)

    def check_chain(self, routine, row, own):
        """From the first occurrence after the last edit on, one follows the other."""
        current = [record for record in own if record.scheduled_for > routine.edited_at]
        instants = [record.scheduled_for for record in current]
        if routine.active:
            instants.append(row.occurrence_at)
        if instants:
            assert instants[0] - routine.edited_at <= routine.interval
        for record, following in zip(current, instants[1:], strict=False):
            last = record.until or record.scheduled_for
            assert last + routine.interval == following
            assert record.count == 1 + (last - record.scheduled_for) // routine.interval

    def nothing_is_left(self):
        """A scheduler that can publish has left nothing undone."""
        if self.away:
            return
        rows, _ = self.read()
        for name, routine in self.expected.items():
            routine.fresh = routine.new = False
            assert rows[name].error is None
            if routine.active:
                assert rows[name].next_run_at > self.clock.now()


def seconds(number):
    return json.dumps({"timedelta": number})


Tick.TestCase.settings = settings(
    deadline=None,
    database=None,
    max_examples=30,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_whatever_happens_the_ledger_accounts_for_every_occurrence_once = Tick.TestCase
