"""Runs that got stuck behind the broker: found, told of, sent again or given up."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from celery import Celery

from celery_sqlalchemy_kit import housekeeping, schedules
from celery_sqlalchemy_kit.dispatch import Publisher
from celery_sqlalchemy_kit.routines import AGAIN, HEADER, Cause, Declared, Run, State
from celery_sqlalchemy_kit.signals import task_lost
from celery_sqlalchemy_kit.storage.values import Claimed
from celery_sqlalchemy_kit.store import sweeps
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import Begun, Ledger
from celery_sqlalchemy_kit.store.sweeps import Again
from celery_sqlalchemy_kit.tables import routines, runs
from celery_sqlalchemy_kit.testing import ManualBeat

LOST = {"tasks.poll": "lost"}
BEGIN_AGAIN = {"tasks.poll": "again"}
HOUR = 3600


def hourly(name="poll", **fields):
    return Declared(name, f"tasks.{name}", schedules.parse(HOUR), **fields)


@pytest.fixture
def beat(beat):
    """Declares an hourly routine where nothing else is declared."""
    return lambda *declared, **settings: beat(*(declared or [hourly()]), **settings)


@pytest.fixture
def told():
    """What `task_lost` has told."""
    heard = []

    def hear(**fields):
        heard.append({k: v for k, v in fields.items() if k != "signal"})

    task_lost.connect(hear, weak=False)
    yield heard
    task_lost.disconnect(hear)


@pytest.fixture
def sent(beat, clock):
    """A scheduler that has sent one run, and the run."""

    def make(*declared, **settings):
        poll = beat(*declared, **settings)
        poll.run()
        clock.advance(HOUR)
        (run,) = poll.run()
        poll.run()
        return poll, run

    return make


def the(beat, *columns):
    chosen = [runs.c[column] for column in columns]
    with beat.engine.connect().execution_options(reading=True) as connection:
        found = [tuple(row) for row in connection.execute(sa.select(*chosen))]
    assert 1 == len(found)
    return found[0][0] if len(columns) == 1 else found[0]


def begin(beat, run, *, retries=0, attempt=None, worker="w@host"):
    attempt = attempt or uuid4()
    ledger = Ledger(beat.engine, beat.clock)
    assert Begun.BEGUN is ledger.begin(run.id, attempt, retries=retries, worker=worker)
    return attempt


def beats(beat):
    """The worker says that it is alive."""
    with beat.engine.begin() as connection:
        connection.execute(runs.update().values(heartbeat_at=beat.clock.now()))


# --- a worker that died -----------------------------------------------------------------------


def test_a_run_whose_worker_does_not_beat_any_more_is_lost_and_told_once(sent, beat, told):
    poll, run = sent()
    other = beat()
    begin(poll, run)
    for scheduler in (poll, other) * 2:
        scheduler.advance(40)
        beats(poll)
    poll.advance(85)
    assert ("running", None) == the(poll, "state", "reason")

    for scheduler in (poll, other):
        scheduler.advance(20)

    state, reason, ended = the(poll, "state", "reason", "finished_at")
    assert "lost" == state
    assert reason.startswith("no beat of worker w@host for ")
    assert timedelta(0) <= poll.clock.now() - ended <= timedelta(seconds=40)
    fields = {"sender": "poll", "routine_name": "poll", "task": "tasks.poll", "worker": "w@host"}
    assert [fields | {"run_id": str(run.id), "reason": reason, "again": False}] == told
    assert [] == poll.publisher.again + other.publisher.again


def test_after_an_outage_workers_are_given_the_time_to_beat_again(sent, clock):
    poll, run = sent(scheduler_lost_after=30)
    poll.advance(50)  # the scheduler has been at work for long
    begin(poll, run)

    def away(*_):
        raise sa.exc.OperationalError("SELECT", {}, ConnectionError("cut off"))

    sa.event.listen(poll.engine, "before_cursor_execute", away)
    for _ in range(28):
        clock.advance(1)
        with pytest.raises(sa.exc.OperationalError):
            poll.loop.turn()
    sa.event.remove(poll.engine, "before_cursor_execute", away)

    poll.advance(12)
    assert "running" == the(poll, "state")
    beats(poll)
    poll.advance(29)
    assert "running" == the(poll, "state")
    poll.advance(20)
    assert "lost" == the(poll, "state")


def test_a_lost_race_says_nothing_about_workers(sent, clock):
    poll, run = sent(scheduler_lost_after=30)
    poll.advance(20)
    begin(poll, run)

    def race(*_):
        sa.event.remove(poll.engine, "before_cursor_execute", race)
        raise sa.exc.OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked"))

    for _ in range(9):
        sa.event.listen(poll.engine, "before_cursor_execute", race)
        with pytest.raises(sa.exc.OperationalError):
            poll.loop.turn()
        poll.advance(5)

    assert "lost" == the(poll, "state")


def test_a_jump_of_the_databases_clock_is_no_silence_of_workers(sent, clock, monkeypatch):
    poll, run = sent()
    poll.advance(60)
    begin(poll, run)

    with monkeypatch.context() as asleep:
        asleep.setattr(clock, "_elapsed", clock._elapsed - 120)  # the monotonic clock stands still
        clock.advance(120)
    clock._elapsed -= 120
    poll.advance(20)

    assert "running" == the(poll, "state")


def test_after_an_outage_nothing_is_sent_again_until_workers_could_write_what_they_did(sent, clock):
    poll, run = sent(on_worker_lost=LOST)

    def away(*_):
        raise sa.exc.OperationalError("SELECT", {}, ConnectionError("cut off"))

    sa.event.listen(poll.engine, "before_cursor_execute", away)
    for _ in range(70):
        clock.advance(1)
        with pytest.raises(sa.exc.OperationalError):
            poll.loop.turn()
    sa.event.remove(poll.engine, "before_cursor_execute", away)

    poll.advance(9)
    assert [] == poll.publisher.again
    poll.advance(20)
    assert [run.id] == [again.run.id for again in poll.publisher.again]


def test_what_was_lost_is_ended_all_the_same_by_the_attempt_that_it_was_lost_in(sent):
    poll, run = sent(on_worker_lost=LOST)
    attempt = begin(poll, run)
    poll.advance(120)
    assert "lost" == the(poll, "state")

    assert Ledger(poll.engine, poll.clock).end(run.id, attempt, State.SUCCEEDED)
    assert "succeeded" == the(poll, "state")


def test_a_lost_run_of_a_task_that_says_so_is_sent_again_and_begun_once_more(sent, told):
    poll, run = sent(on_worker_lost=BEGIN_AGAIN)
    claimed_at = the(poll, "claimed_at")
    begin(poll, run, retries=0)

    poll.advance(120)

    (again,) = poll.publisher.again
    assert (run, claimed_at, 0) == (again.run, again.claimed_at, again.retries)
    assert ("sent", 1, 2) == the(poll, "state", "attempts", "publish_attempts")
    assert [True] == [each["again"] for each in told]
    begin(poll, run)
    assert ("running", 2, None) == the(poll, "state", "attempts", "reason")


def test_a_lost_retry_is_sent_again_with_its_number(sent):
    poll, run = sent(on_worker_lost=BEGIN_AGAIN)
    ledger = Ledger(poll.engine, poll.clock)
    assert ledger.end(run.id, begin(poll, run), State.RETRYING)
    begin(poll, run, retries=1)

    poll.advance(120)

    assert [1] == [again.retries for again in poll.publisher.again]


def test_what_is_to_begin_again_is_left_alone_until_the_broker_is_there(sent, told):
    poll, run = sent(on_worker_lost=BEGIN_AGAIN)
    begin(poll, run)
    poll.publisher.away = True
    poll.advance(110)
    assert ("running", []) == (the(poll, "state"), told)

    poll.publisher.away = False
    poll.advance(10)

    assert [run.id] == [again.run.id for again in poll.publisher.again]


class Killed(BaseException):
    """In place of ``kill -9``."""


def test_what_a_killed_scheduler_was_about_to_send_again_is_sent_by_another(sent, beat):
    poll, run = sent(on_worker_lost=BEGIN_AGAIN)
    begin(poll, run)

    def die(claimed, since, sent, **_):
        if claimed:
            raise Killed
        return []

    poll.publisher.publish = die
    with pytest.raises(Killed):
        poll.advance(120)

    other = beat(on_worker_lost=BEGIN_AGAIN)
    other.advance(115)
    assert [] == other.publisher.again
    other.advance(15)
    assert [run.id] == [again.run.id for again in other.publisher.again]


def test_a_run_that_somebody_has_locked_holds_up_nobody(sent, request):
    poll, run = sent()
    if poll.engine.dialect.name == "sqlite":
        return  # which locks no rows
    begin(poll, run)
    somebody = make_engine(poll.engine.url)
    with somebody.begin() as connection:
        connection.execute(sa.select(runs.c.id).with_for_update())
        poll.advance(200)
        assert "running" == the(poll, "state")
    somebody.dispose()

    poll.advance(10)
    assert "lost" == the(poll, "state")


def test_a_whole_host_full_of_runs_is_swept_in_pieces(beat, clock, told, monkeypatch):
    monkeypatch.setattr(housekeeping, "SWEPT", 10)
    poll = beat()
    add(poll, 35, state="running", heartbeat_at=clock.now(), worker="w@host")

    poll.advance(110)

    assert 35 == len(told)
    assert {"lost"} == set(states(poll))


def add(beat, number, **values):
    """Runs, some time after they were claimed."""
    now = beat.clock.now()
    claimed = {"claimed_at": now - timedelta(seconds=1), "scheduled_for": now, "sent_at": now}
    about = {"routine_id": uuid4(), "routine_name": "poll", "task": "tasks.poll"}
    rows = [
        {"id": uuid4(), "cause": "schedule", "publish_attempts": 1, **about, **claimed, **values}
        for _ in range(number)
    ]
    with beat.engine.begin() as connection:
        connection.execute(runs.insert(), rows)
    return [row["id"] for row in rows]


def states(beat):
    with beat.engine.connect().execution_options(reading=True) as connection:
        return list(connection.execute(sa.select(runs.c.state)).scalars())


# --- a message that nobody begins -------------------------------------------------------------


def test_a_run_that_nobody_begins_is_sent_again_each_time_its_age_has_doubled(sent, beat, clock):
    poll, run = sent(on_worker_lost=LOST)
    other = beat(on_worker_lost=LOST)
    since, at = clock.now(), []
    for _ in range(66):
        for scheduler in (poll, other):
            before = len(scheduler.publisher.again)
            scheduler.run()
            at += [(clock.now() - since).total_seconds()] * (
                len(scheduler.publisher.again) - before
            )
        clock.advance(10)

    assert [60, 120, 240, 480] == [pytest.approx(age, abs=11) for age in at]
    assert ("sent", 5, 0) == the(poll, "state", "publish_attempts", "attempts")
    assert {(run.id, 0)} == {
        (again.run.id, again.retries) for each in (poll, other) for again in each.publisher.again
    }


def test_a_run_of_a_task_whose_worker_would_run_it_twice_is_never_sent_again(sent):
    poll, _ = sent(scheduler_unstarted_after=600)

    poll.advance(580)

    assert ([], "sent") == (poll.publisher.again, the(poll, "state"))


def test_what_nobody_has_begun_for_an_hour_is_lost_and_still_begins(sent, told):
    poll, run = sent(on_worker_lost=LOST, scheduler_redeliver_after=0)
    poll.clock.advance(HOUR - 100)
    poll.advance(90)
    assert "sent" == the(poll, "state")
    with poll.engine.begin() as connection:
        connection.execute(routines.update().values(active=False))

    poll.advance(30)

    state, reason = the(poll, "state", "reason")
    assert "lost" == state
    assert reason.startswith("nobody began it for 36")
    assert [(str(run.id), reason)] == [(each["run_id"], each["reason"]) for each in told]
    assert [] == poll.publisher.again
    begin(poll, run)


def test_a_run_that_has_begun_is_not_sent_again(sent):
    poll, run = sent(on_worker_lost=LOST)
    begin(poll, run)
    for _ in range(10):
        poll.advance(60)
        beats(poll)

    assert [] == poll.publisher.again


@pytest.mark.parametrize("put_off", [{"countdown": 600}, {"eta": "later"}])
def test_what_is_put_off_is_not_sent_again_before_it_is_due(sent, clock, put_off):
    if "eta" in put_off:
        put_off = {"eta": (clock.now() + timedelta(seconds=HOUR + 600)).isoformat()}
    poll, _ = sent(hourly(options={**put_off, "queue": "slow"}), on_worker_lost=LOST)

    poll.advance(640)
    assert [] == poll.publisher.again
    poll.advance(40)

    (again,) = poll.publisher.again
    assert {"queue": "slow"} == again.run.options


def test_what_has_expired_is_not_sent_again_but_lost(sent):
    poll, _ = sent(hourly(options={"expires": 90}), on_worker_lost=LOST)

    poll.advance(80)
    assert 1 == len(poll.publisher.again)
    poll.advance(90)

    assert ("lost", "expired before it was begun") == the(poll, "state", "reason")
    assert 1 == len(poll.publisher.again)


def test_a_retry_that_never_comes_is_sent_again_with_the_next_number(sent):
    poll, run = sent(on_worker_lost=LOST)
    ledger = Ledger(poll.engine, poll.clock)
    assert ledger.end(run.id, begin(poll, run), State.RETRYING, due=300)

    poll.advance(340)
    assert [] == poll.publisher.again
    poll.advance(40)

    assert [1] == [again.retries for again in poll.publisher.again]
    assert "retrying" == the(poll, "state")
    begin(poll, run, retries=1)


def test_a_retry_that_was_given_up_is_begun_by_its_own_message_alone(sent):
    poll, run = sent(on_worker_lost=BEGIN_AGAIN, scheduler_unstarted_after=300)
    ledger = Ledger(poll.engine, poll.clock)
    assert ledger.end(run.id, begin(poll, run), State.RETRYING, due=0)
    poll.advance(320)
    assert "lost" == the(poll, "state")

    late = ledger.begin(
        run.id, uuid4(), retries=0, worker="w", again=True, lost_after=timedelta(seconds=90)
    )

    assert Begun.DUPLICATE is late
    begin(poll, run, retries=1)


def test_a_run_that_its_worker_put_back_is_as_old_as_that(sent, told):
    settings = {"scheduler_redeliver_after": 0, "scheduler_unstarted_after": 300}
    poll, run = sent(on_worker_lost=LOST, **settings)
    poll.advance(280)
    attempt = begin(poll, run)
    assert Ledger(poll.engine, poll.clock).end(run.id, attempt, State.SENT)

    poll.advance(280)

    assert ("sent", []) == (the(poll, "state"), told)


def test_nothing_is_sent_again_while_the_broker_is_away(sent):
    poll, _ = sent(on_worker_lost=LOST)
    poll.publisher.away = True

    poll.advance(75)

    assert ([], 1) == (poll.publisher.again, the(poll, "publish_attempts"))


def test_those_of_which_nothing_is_known_do_not_stand_before_the_others(beat, clock, monkeypatch):
    monkeypatch.setattr(housekeeping, "LOOKED_AT", 10)
    monkeypatch.setattr(housekeeping, "SWEPT", 7)
    poll = beat(on_worker_lost=LOST)
    add(poll, 35, state="sent", task="tasks.other")
    mine = add(poll, 30, state="sent")
    add(poll, 35, state="sent", task="tasks.other", claimed_at=clock.now())

    poll.advance(110)

    assert sorted(mine) == sorted(again.run.id for again in poll.publisher.again)


def test_what_a_purged_queue_held_is_lost_in_one_round(beat, clock, monkeypatch):
    monkeypatch.setattr(housekeeping, "SWEPT", 10)
    poll = beat(on_worker_lost=LOST)
    long_ago = clock.now() - timedelta(hours=2)
    add(poll, 35, state="sent", sent_at=long_ago, claimed_at=long_ago)

    poll.advance(10)

    assert {"lost"} == set(states(poll))


def test_not_more_than_some_are_sent_again_in_one_round(beat, monkeypatch):
    monkeypatch.setattr(housekeeping, "SWEPT", 7)
    poll = beat(on_worker_lost=LOST)
    add(poll, 30, state="sent")
    poll.advance(59)

    counts = []
    for _ in range(6):
        poll.advance(10)
        counts.append(len(poll.publisher.again))

    assert [7, 14, 21, 28, 30, 30] == counts


def test_a_long_queue_is_not_made_longer_by_all_that_waits_in_it(beat, monkeypatch):
    monkeypatch.setattr(sweeps, "WINDOW", 5)
    monkeypatch.setattr(housekeeping, "LOOKED_AT", 8)
    poll = beat(on_worker_lost=LOST | {"tasks.other": "lost"})
    waiting = set(add(poll, 30, state="sent"))
    others = set(add(poll, 3, state="sent", task="tasks.other"))
    poll.advance(110)

    oldest = {again.run.id for again in poll.publisher.again} - others
    assert (5, 8) == (len(oldest & waiting), len(poll.publisher.again))
    with poll.engine.begin() as connection:
        ended = runs.update().where(runs.c.id.in_(list(oldest)))
        connection.execute(ended.values(state="succeeded", finished_at=poll.clock.now()))
    poll.advance(30)

    again = {again.run.id for again in poll.publisher.again}
    assert (10, others) == (len(again & waiting), again & others)


@pytest.mark.parametrize("bad", ["{broken", "[1]", '"text"'])
def test_a_run_whose_options_are_none_stops_no_other(sqlite, clock, bad):
    poll = ManualBeat(sqlite, clock, [hourly()], on_worker_lost=BEGIN_AGAIN)
    poll.start()
    (odd,) = add(poll, 1, state="sent", options=bad)
    (gone,) = add(poll, 1, state="running", heartbeat_at=clock.now(), options=bad)
    good = add(poll, 1, state="sent") + add(poll, 1, state="running", heartbeat_at=clock.now())

    poll.advance(110)

    assert sorted(good) == sorted(again.run.id for again in poll.publisher.again)
    with poll.engine.connect().execution_options(reading=True) as connection:
        found = sa.select(runs.c.id, runs.c.state).where(runs.c.id.in_([odd, gone]))
        assert {odd: "sent", gone: "lost"} == dict(connection.execute(found).all())
    poll.kill()


def poll(*args):
    """The body of a task."""


@pytest.mark.parametrize("known", [True, False])
def test_the_message_says_that_it_is_sent_again(clock, known):
    app = Celery("again", broker="memory://", set_as_current=False)
    if known:
        app.task(name="tasks.poll", shared=False)(poll)
    publisher = Publisher(app, lambda *args, **kw: None, clock, patience=timedelta(seconds=5))
    publisher._apply_entry = lambda entry, producer: publisher.send(entry, producer)
    about = (uuid4(), "poll", "tasks.poll", clock.now(), Cause.SCHEDULE)
    run, other = Run(uuid4(), *about), Run(uuid4(), *about)
    sent = []

    assert [] == publisher.publish([Again(run, clock.now(), retries=2)], 0.0, sent)
    assert [] == publisher.publish([Claimed(other, clock.now())], 0.0, sent)

    assert [run.id, other.id] == sent
    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        again, first = (queue.get(timeout=5).headers for _ in range(2))
    assert (True, 2, str(run.id)) == (again[AGAIN], again["retries"], again["id"])
    assert (None, 0, str(other.id)) == (first.get(AGAIN), first["retries"], first["id"])
    assert first[HEADER] == again[HEADER] == clock.now().isoformat()
    publisher.close()


def test_namespaces_sweep_their_own(beat, clock, told):
    one = beat(scheduler_namespace="one")
    add(one, 1, state="running", heartbeat_at=clock.now(), namespace="two")

    one.advance(200)

    assert ([], ["running"]) == (told, states(one))
