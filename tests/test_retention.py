"""What leaves ``routine_runs``, and when."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import uuid4

import sqlalchemy as sa

from celery_sqlalchemy_kit import housekeeping, schedules
from celery_sqlalchemy_kit.locks import alone, alone_at_once
from celery_sqlalchemy_kit.routines import ENDED, UNFINISHED, Declared
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import routines, runs

DAY = timedelta(days=1)


def add(beat, *, number=1, state="succeeded", ago=timedelta(0), routine=None, **values):
    """Runs that ended, or were claimed, some time ago; one occurrence a second."""
    at = beat.clock.now() - ago
    about = {"routine_id": routine or uuid4(), "routine_name": "poll", "task": "poll"}
    about |= {"cause": "schedule", "claimed_at": at, "finished_at": at, "state": state}
    rows = [
        {"id": uuid4(), "scheduled_for": at + timedelta(seconds=n), **about, **values}
        for n in range(number)
    ]
    with beat.engine.begin() as connection:
        connection.execute(runs.insert(), rows)
    return [row["id"] for row in rows]


def left(beat, column="id"):
    with beat.engine.connect().execution_options(reading=True) as connection:
        return list(connection.execute(sa.select(runs.c[column])).scalars())


def test_what_ended_a_week_ago_is_deleted_and_nothing_that_has_not_ended(beat):
    poll = beat(scheduler_unstarted_after=365 * DAY, scheduler_lost_after=DAY)
    for state in (*ENDED, *UNFINISHED):
        if state.value != "claimed":
            add(poll, state=state.value, ago=8 * DAY, heartbeat_at=poll.clock.now())
    young = add(poll, number=3, ago=6 * DAY)

    poll.advance(30)

    kept = Counter({state.value: 1 for state in UNFINISHED if state.value != "claimed"})
    # What waited has nothing to wait for.
    kept["skipped"], kept["waiting"] = 1, 0
    found = Counter(left(poll, "state"))
    assert kept | Counter({"succeeded": 3}) == found | kept
    assert set(young) <= set(left(poll))


def test_how_long_runs_are_kept_is_a_setting(beat):
    poll = beat(scheduler_keep_runs_for=3600)
    add(poll, ago=timedelta(seconds=3700))
    (young,) = add(poll, ago=timedelta(seconds=3500))

    poll.advance(10)

    assert [young] == left(poll)


def test_very_many_are_deleted_in_batches_while_nothing_is_due(beat, monkeypatch):
    monkeypatch.setattr(housekeeping, "PRUNED", 10)
    poll = beat()
    add(poll, number=95, ago=8 * DAY)
    counts = []
    prune = poll.store.prune

    def note(*args, **kwargs):
        counts.append(prune(*args, **kwargs))
        return counts[-1]

    poll.store.prune = note

    poll.advance(10)

    assert [10] * 9 + [5] == counts
    assert [] == left(poll)


def test_of_one_routine_only_the_newest_are_kept(beat):
    poll = beat(Declared("poll", "tasks.poll", schedules.parse(1)), scheduler_keep_runs=15)
    poll.run()
    other = add(poll, number=30)
    for _ in range(60):
        for run in poll.advance(1):
            poll.finish(run)
    poll.advance(10)

    with poll.engine.connect().execution_options(reading=True) as connection:
        key = connection.execute(sa.select(routines.c.id)).scalar_one()
        mine = sa.select(runs.c.scheduled_for).where(
            runs.c.routine_id == key, runs.c.state == "succeeded"
        )
        kept = sorted(connection.execute(mine).scalars())
    assert 15 <= len(kept) <= 15 + 11
    assert kept[-1] - kept[0] == timedelta(seconds=len(kept) - 1)
    assert set(other) <= set(left(poll))


def test_all_of_a_routine_are_kept_if_the_settings_say_so(beat):
    poll = beat(Declared("poll", "tasks.poll", schedules.parse(1)), scheduler_keep_runs=0)
    poll.run()
    for run in poll.advance(30):
        poll.finish(run)

    poll.advance(30)

    assert 60 == len(left(poll))


def test_what_is_unfinished_is_not_deleted_however_many_there_are(beat):
    poll = beat(Declared("poll", "tasks.poll", schedules.parse(1)), scheduler_keep_runs=5)
    poll.run()
    poll.advance(50)

    assert 50 == len(left(poll))


def test_very_many_of_one_routine_are_deleted_in_batches(beat, monkeypatch):
    monkeypatch.setattr(housekeeping, "PRUNED", 10)
    poll = beat(Declared("poll", "tasks.poll", schedules.parse(10)), scheduler_keep_runs=15)
    poll.run()
    with poll.engine.connect().execution_options(reading=True) as connection:
        key = connection.execute(sa.select(routines.c.id)).scalar_one()
    add(poll, number=95, routine=key, ago=DAY)

    poll.advance(25)

    assert 15 == left(poll, "state").count("succeeded")


def test_only_one_scheduler_deletes_at_a_time(beat):
    poll = beat()
    if poll.engine.dialect.name == "sqlite":
        return  # where whoever writes is alone
    add(poll, ago=8 * DAY)
    other = make_engine(poll.engine.url)
    with alone_at_once(other, "routines prune ") as connection:
        assert connection is not None
        poll.advance(10)
        assert 1 == len(left(poll))
    other.dispose()

    poll.advance(10)

    assert [] == left(poll)


def test_a_name_that_is_taken_is_not_waited_for(database):
    one, two = make_engine(database), make_engine(database)
    if one.dialect.name == "sqlite":
        return  # where it is the transaction that is waited for
    with alone(one, "x"), alone_at_once(two, "x") as connection:
        assert connection is None
    with alone_at_once(two, "x") as connection, alone_at_once(one, "x") as second:
        assert connection is not None
        assert second is None
    with alone(one, "x"):
        pass
    for engine in (one, two):
        engine.dispose()


def test_a_run_that_somebody_has_locked_is_left_for_the_next_time(beat):
    poll = beat()
    if poll.engine.dialect.name == "sqlite":
        return  # which locks no rows
    first, *_ = add(poll, number=5, ago=8 * DAY)
    other = make_engine(poll.engine.url)
    with other.begin() as connection:
        connection.execute(sa.select(runs.c.id).where(runs.c.id == first).with_for_update())
        poll.advance(10)
        assert [first] == left(poll)
    other.dispose()

    poll.advance(10)

    assert [] == left(poll)


def test_namespaces_delete_their_own(beat):
    one = beat(scheduler_namespace="one")
    (theirs,) = add(one, ago=30 * DAY, namespace="two")
    add(one, ago=30 * DAY, namespace="one")

    one.advance(10)

    assert [theirs] == left(one)
