"""Several claims of one scheduler under way at once: all is published once, and known to be."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import wait
from contextlib import nullcontext
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from servers import wait_for

from celery_sqlalchemy_kit import pipeline, schedules
from celery_sqlalchemy_kit.bookmark import Bookmark
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.pipeline import Ahead, Pipeline
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.storage.values import Batch
from celery_sqlalchemy_kit.store.store import Store
from celery_sqlalchemy_kit.tables import runs

on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
BATCH = 10
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def bookmark_of(clock):
    return Bookmark(clock, timedelta(seconds=10), timedelta(seconds=60))


def many(beat, number=105, size=BATCH, **settings):
    """A scheduler with *number* routines, all of which are due."""
    declared = [Declared(f"r{n}", "tasks.r", schedules.parse(60)) for n in range(number)]
    started = beat(*declared, scheduler_batch_size=size, ahead=Ahead(2), **settings)
    started.run()
    started.clock.advance(60)
    return started


def states(beat):
    with beat.engine.connect() as connection:
        return Counter(connection.execute(sa.select(runs.c.state)).scalars())


def count(beat):
    return Counter(run.routine_name for run in beat.publisher.sent)


@on_postgresql
def test_all_that_is_due_is_published_once_and_confirmed(beat):
    poll = many(beat)
    threads = Counter()

    def claim(*args, **kwargs):
        threads[threading.current_thread().name] += 1
        return Store.claim(poll.store, *args, **kwargs)

    poll.store.claim = claim
    assert 105 == len(poll.run())
    assert Counter({f"r{n}": 1 for n in range(105)}) == count(poll)
    assert {"sent": 105} == states(poll)
    assert threads["routines-claim"] >= 10
    assert [] == poll.loop.published


@on_postgresql
def test_two_of_them_share_the_work(beat):
    one, two = many(beat), beat(scheduler_batch_size=BATCH, ahead=Ahead(2))
    while any([one.loop.turn() <= 0, two.loop.turn() <= 0]):
        pass
    both = one.publisher.sent + two.publisher.sent
    assert 105 == len(both) == len({run.id for run in both})
    one.run()
    two.run()
    assert {"sent": 105} == states(one)


@on_postgresql
def test_claims_wait_for_no_answer_of_one_another(beat):
    poll = many(beat)
    entered = []

    def claim(*args, **kwargs):
        if threading.current_thread().name == "routines-claim":
            entered.append(True)
            wait_for(lambda: len(entered) > 1)
        return Store.claim(poll.store, *args, **kwargs)

    poll.store.claim = claim
    assert 105 == len(poll.run())


@on_postgresql
@pytest.mark.parametrize("fails", [[True, True], [True, False], [False, True]])
def test_claims_that_fail_confirm_nothing_lose_nothing_and_are_told_once(beat, fails):
    poll, failing = many(beat), iter(fails)

    def claim(*args, published, **kwargs):
        if threading.current_thread().name == "routines-claim" and next(failing, False):
            raise ConnectionError
        return Store.claim(poll.store, *args, published=published, **kwargs)

    poll.store.claim = claim
    with pytest.raises(ConnectionError) if all(fails) else nullcontext():
        poll.run()
    poll.run()
    assert Counter({f"r{n}": 1 for n in range(105)}) == count(poll)
    assert {"sent": 105} == states(poll)


@on_postgresql
def test_without_threads_one_claim_follows_the_other(beat, monkeypatch):
    poll = many(beat)

    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert 105 == len(poll.run())
    assert {"sent": 105} == states(poll)


@on_postgresql
@pytest.mark.parametrize(("number", "size", "part"), [(105, 10, 7), (905, 500, 20)])
def test_nothing_is_claimed_ahead_of_a_publisher_that_takes_long(beat, number, size, part):
    """As long as a full batch would take, of which the first ones are a part."""
    poll, threads = many(beat, number, size), Counter()
    publish = poll.publisher.publish

    def slow(claimed, *args, **_):
        first = min(pipeline.FIRST, size)
        poll.clock.advance(len(claimed) / first * poll.settings.scheduler_rescue_after / part)
        return publish(claimed, *args)

    def claim(*args, **kwargs):
        threads[threading.current_thread().name] += 1
        return Store.claim(poll.store, *args, **kwargs)

    poll.publisher.publish, poll.store.claim = slow, claim
    poll.run()
    assert threads["routines-claim"] == 2  # before it was known
    assert Counter({f"r{n}": 1 for n in range(number)}) == count(poll)


@on_postgresql
def test_a_farewell_waits_for_what_a_claim_confirms(beat, monkeypatch):
    poll, confirming, let_go = many(beat), threading.Event(), threading.Event()

    def claim(decide, *, published, **kwargs):
        published = list(published)

        def late(*args):
            if published and threading.current_thread().name == "routines-claim":
                confirming.set()  # it has, and has locked what it did
                assert let_go.wait(10)
            return decide(*args)

        return Store.claim(poll.store, late, published=published, **kwargs)

    poll.store.claim = claim
    poll.loop.turn()
    poll.loop.turn()
    assert confirming.wait(10)
    monkeypatch.setattr(pipeline, "wait", lambda *a, **k: (let_go.set(), wait(*a, **k)))
    poll.loop.finish(10)
    poll.store.leave(poll.loop.published)
    published = {run.id for run in poll.publisher.sent}
    with poll.engine.connect() as connection:
        sent = connection.execute(sa.select(runs.c.id).where(runs.c.state == "sent")).scalars()
        assert published == set(sent)
    let_go.set()


@on_postgresql
def test_what_was_claimed_ahead_when_the_broker_went_away_is_published_later(beat):
    poll = many(beat)
    poll.loop.turn()
    poll.publisher.away = True
    poll.loop.turn()
    assert {"claimed": 20, "sent": 10} == states(poll)
    poll.publisher.away = False
    poll.run()
    poll.advance(poll.settings.scheduler_rescue_after + 1)
    assert Counter({f"r{n}": 1 for n in range(105)}) == count(poll)
    assert {"sent": 105} == states(poll)


class Slow:
    """A store whose claims in threads return when they are let go."""

    def __init__(self):
        self.let_go = threading.Event()
        self.asked = []

    def claim(self, decide, *, limit, after, published, until):
        self.asked.append(list(published))
        if threading.current_thread().name == "routines-claim":
            assert self.let_go.wait(timeout=10)
        return Batch(now=None, more=True)


def test_what_a_claim_confirms_counts_as_unconfirmed_until_it_has_returned(clock):
    store = Slow()
    bookmark = bookmark_of(clock)
    claims = Pipeline(store, clock, bookmark, limit=10, ahead=2)
    sent = [uuid4() for _ in range(2)]
    claims.record().extend(sent)
    claims.go_ahead(None)
    wait_for(lambda: len(store.asked) == 2)
    assert [[], sent] == sorted(store.asked)  # by one of the two
    assert sent == claims.published  # which a stop now would tell the ledger of

    later = uuid4()
    claims.record().append(later)
    store.let_go.set()
    claims.take(None)
    assert [later] == claims.published
    claims.take(None)
    assert [later] == claims.published
    assert not claims.under_way
    claims.take(None)
    assert [later] == store.asked[-1]
    assert [] == claims.published


class Lasting:
    """A store in which there is more to claim, so many times."""

    def __init__(self, times):
        self.times = times
        self.limits = []

    def claim(self, decide, *, limit, after, published, until):
        self.limits.append(limit)
        return Batch(now=NOW, more=len(self.limits) % self.times > 0)


@pytest.mark.parametrize(
    ("limit", "limits"),
    [(500, [100, 200, 400, 500, 500, 200, 400, 500, 500, 500]), (70, [70] * 10)],
)
def test_claims_in_a_row_take_more_and_more(clock, limit, limits):
    store = Lasting(5)
    claims = Pipeline(store, clock, bookmark_of(clock), limit=limit, ahead=0)
    for _ in range(10):
        claims.take(None)
    assert limits == store.limits


def test_claims_that_leave_nothing_take_less_and_less(clock):
    store = Lasting(100)
    claims = Pipeline(store, clock, bookmark_of(clock), limit=500, ahead=0)
    for _ in range(99):
        claims.take(None)
    store.times = 1
    store.limits.clear()
    for _ in range(5):
        claims.take(None)
    assert [500, 200, 100, 100, 100] == store.limits


def test_claims_ahead_take_more_and_more(clock):
    store = Lasting(100)
    claims = Pipeline(store, clock, bookmark_of(clock), limit=10_000, ahead=2)
    for _ in range(8):
        claims.take(None)
        claims.go_ahead(None)
        claims.finish(10)
    assert [100 * 2**n for n in range(7)] + [10_000] * 3 == sorted(store.limits)


class Stopped:
    """A store in which a stop cuts short the calls of the thread that publishes."""

    def claim(self, *args, **kwargs):
        raise SystemExit

    def confirm(self, published):
        raise SystemExit


@pytest.mark.parametrize("call", ["take", "confirm"])
def test_a_farewell_lets_the_database_notice_that_a_call_was_cut_short(clock, monkeypatch, call):
    claims = Pipeline(Stopped(), clock, bookmark_of(clock), limit=10, ahead=2)
    left = []
    monkeypatch.setattr(pipeline, "wait", lambda *a, **_: left.append(wait(*a, timeout=0).not_done))
    claims.record().append(uuid4())
    claims.finish(1)
    with pytest.raises(SystemExit):
        claims.take(None) if call == "take" else claims.confirm()
    claims.finish(1)
    assert [0, 1] == list(map(len, left))
    assert len(claims.published) == 1


def test_a_farewell_waits_for_the_claim_that_was_waited_for_when_the_stop_came(clock, monkeypatch):
    store = Slow()
    claims = Pipeline(store, clock, bookmark_of(clock), limit=10, ahead=1)
    claims.go_ahead(None)
    (claim,) = claims._ahead

    def stop():
        raise SystemExit

    monkeypatch.setattr(claim.batch, "result", stop)
    with pytest.raises(SystemExit):
        claims.take(None)
    monkeypatch.setattr(pipeline, "wait", lambda *a, **k: (store.let_go.set(), wait(*a, **k)))
    claims.finish(10)
    assert claim.batch.done()
