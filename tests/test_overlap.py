"""What becomes of occurrences while a run before them is unfinished."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from servers import wait_for
from strategies import properties

from celery_sqlalchemy_kit.clock import DATABASE, UTC
from celery_sqlalchemy_kit.overlap import REASONS, released, settle
from celery_sqlalchemy_kit.routines import UNFINISHED, Cause, Overlap, Run, State
from celery_sqlalchemy_kit.store import unfinished as unfinished_runs
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import Begun, Ledger
from celery_sqlalchemy_kit.tables import routines, runs
from celery_sqlalchemy_kit.testing import ManualBeat
from celery_sqlalchemy_kit.wakeups import wakeups_for

SECOND = timedelta(seconds=1)
BUSY = REASONS[Overlap.SKIP]
QUEUED = REASONS[Overlap.QUEUE]


# -- pure -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Due:
    name: str
    cause: Cause = Cause.SCHEDULE


A, B, C, D = (Due(name) for name in "ABCD")
HAND = Due("hand", Cause.MANUAL)


@pytest.mark.parametrize(
    ("policy", "met", "due", "runs", "waits", "skipped"),
    [
        ("allow", {}, [A, B], [A, B], None, []),
        ("allow", {"unfinished": True, "waiting": True}, [A, B], [A, B], None, []),
        ("skip", {}, [], [], None, []),
        ("skip", {}, [A], [A], None, []),
        ("skip", {}, [A, B, C], [A], None, [B, C]),
        ("skip", {"unfinished": True}, [A], [], None, [A]),
        ("skip", {"unfinished": True, "waiting": True}, [A, B], [], None, [A, B]),
        ("skip", {}, [A, HAND], [A], None, [HAND]),
        ("queue", {}, [A], [A], None, []),
        ("queue", {}, [A, B, C, D], [A], B, [C, D]),
        ("queue", {"unfinished": True}, [A, B], [], A, [B]),
        ("queue", {"unfinished": True, "waiting": True}, [A, B], [], None, [A, B]),
        # It was waited for: what it waited for has ended, and nobody has let it go yet.
        ("queue", {"waiting": True}, [A], [], None, [A]),
        ("skip", {"waiting": True}, [A], [], None, [A]),
        ("queue", {}, [A, HAND], [A], HAND, []),
        ("queue", {"unfinished": True}, [HAND], [], HAND, []),
        # Of what max_runs leaves only that is taken off which is taken.
        ("skip", {"left": 2}, [A, B, C], [A], None, [B, C]),
        ("skip", {"left": 1}, [A, B, C], [A], None, []),
        ("queue", {"left": 2}, [A, B, C, D], [A], B, []),
        ("queue", {"left": 1}, [A, B, HAND], [A], HAND, []),
        ("queue", {"left": 1, "unfinished": True}, [A, B], [], A, []),
        ("skip", {"left": 1, "unfinished": True}, [A, B], [], None, [A, B]),
        ("skip", {"left": 0}, [A, HAND], [HAND], None, []),
    ],
)
def test_what_runs_what_waits_and_what_is_skipped(policy, met, due, runs, waits, skipped):
    settled = settle(Overlap(policy), due, **met)

    assert (tuple(runs), waits, tuple(skipped)) == (settled.runs, settled.waits, settled.skipped)


@properties
@given(
    st.sampled_from([Overlap.SKIP, Overlap.QUEUE]),
    st.lists(st.sampled_from([Cause.SCHEDULE, Cause.CATCH_UP, Cause.MANUAL]), max_size=12),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(0, 5),
)
def test_of_any_backlog_one_runs_one_waits_and_the_rest_is_told(
    policy, causes, unfinished, waiting, left
):
    due = [Due(str(n), cause) for n, cause in enumerate(causes)]
    busy = unfinished or waiting

    settled = settle(policy, due, unfinished=unfinished, waiting=waiting, left=left)

    # Never two under way, never two that wait, and none passes by one that waits.
    assert len(settled.runs) <= (0 if busy else 1)
    assert settled.waits is None or (policy is Overlap.QUEUE and not waiting)
    # In order; each is told once, but for those that come after the last run that was left.
    told = (*settled.taken, *settled.skipped)
    assert len(told) == len(set(told))
    untold = [each for each in due if each not in told]
    assert [] == untold or 0 == settled.left
    assert all(each.cause is not Cause.MANUAL for each in untold)
    counted = [each for each in settled.taken if each.cause is not Cause.MANUAL]
    if left is not None:
        assert left - len(counted) == settled.left
        assert settled.left >= 0
    for one, other in zip(counted, untold, strict=False):
        assert int(one.name) < int(other.name)
    # Nothing is skipped for nothing.
    if settled.skipped:
        assert busy or settled.runs
        assert policy is Overlap.SKIP or waiting or settled.waits is not None
    if due and not busy and left != 0:
        assert settled.runs == (due[0],)


@properties
@given(st.sampled_from(list(Overlap)), st.lists(st.integers(0, 4) | st.just("end"), max_size=40))
def test_a_backlog_at_a_time_is_the_same_as_one_occurrence_after_the_other(policy, steps):
    """An oracle that takes each by itself, over ticks with so many due and ends of runs."""
    policy_allows, queues = policy is Overlap.ALLOW, policy is Overlap.QUEUE
    under_way, waiting, skipped = [], [], []  # as the oracle has it
    ran, queue, left_out = [], [], []  # as it was settled
    for step, due in enumerate(steps):
        if due == "end":
            under_way, ran = under_way[1:], ran[1:]
            if not under_way and waiting:
                under_way, waiting = waiting, []
                ran, queue = queue, []
        else:
            those = [Due(f"{step}/{n}") for n in range(due)]
            settled = settle(policy, those, unfinished=bool(ran or queue), waiting=bool(queue))
            ran += settled.runs
            queue += [settled.waits] if settled.waits else []
            left_out += settled.skipped
            for each in those:
                if policy_allows or not under_way:
                    under_way.append(each)
                elif queues and not waiting:
                    waiting.append(each)
                else:
                    skipped.append(each)
        assert (under_way, waiting, skipped) == (ran, queue, left_out)
        assert policy_allows or len(ran) <= 1


STANDS = {"present": True, "active": True, "over": False, "by_hand": False, "expired": False}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({}, None),
        ({"active": False}, "inactive"),
        ({"active": False, "over": True}, None),
        ({"present": False, "active": False}, "removed"),
        ({"present": False, "active": False, "over": True}, "removed"),
        ({"active": False, "by_hand": True}, None),
        ({"present": False, "active": False, "by_hand": True}, None),
        ({"expired": True}, "expired while it waited"),
        ({"expired": True, "by_hand": True}, "expired while it waited"),
        ({"expired": True, "active": False}, "inactive"),
    ],
)
def test_a_run_that_has_waited_runs_unless(how, reason):
    assert reason == released(**STANDS | how)


# -- on real databases ------------------------------------------------------------------------


def insert(beat, schedule, overlap, **more):
    values = {"name": "one", "task": "tasks.one", "schedule": json.dumps(schedule)}
    values |= {"overlap": overlap} | more
    with beat.engine.begin() as connection:
        connection.execute(routines.insert().values(values))
    beat.clock.set(max(beat.clock.now(), datetime.now(UTC)))


def set_(beat, **values):
    """What a person types. Triggers keep the database's clock: ours must not stay behind it."""
    with beat.engine.begin() as connection:
        connection.execute(routines.update().values(values))
    beat.clock.set(max(beat.clock.now(), datetime.now(UTC)))


def row(beat):
    with beat.engine.connect().execution_options(reading=True) as connection:
        return connection.execute(sa.select(routines)).mappings().one()


def ledger(beat, *states):
    wanted = [State(state).value for state in states] or [state.value for state in State]
    chosen = sa.select(runs).where(runs.c.state.in_(wanted))
    chosen = chosen.order_by(runs.c.scheduled_for, runs.c.cause.desc())
    with beat.engine.connect().execution_options(reading=True) as connection:
        return connection.execute(chosen).mappings().all()


def states(beat):
    return [run["state"] for run in ledger(beat)]


def become(beat, run, state, **values):
    """What somebody writes into a run."""
    with beat.engine.begin() as connection:
        mine = runs.c.id == run.id
        connection.execute(runs.update().where(mine).values(state=State(state).value, **values))


def test_skip_skips_while_the_run_before_is_unfinished(beat, clock):
    one = beat()
    insert(one, {"timedelta": 10}, "skip")
    one.run()
    (first,) = one.advance(10)
    assert [] == one.advance(25)
    ran = row(one)

    records = ledger(one, "skipped")
    assert [(1, BUSY)] * 2 == [(record["count"], record["reason"]) for record in records]
    assert [first.scheduled_for + 10 * n * SECOND for n in (1, 2)] == [
        record["scheduled_for"] for record in records
    ]
    assert [Cause.SCHEDULE.value] * 2 == [record["cause"] for record in records]
    assert all(record["finished_at"] and not record["claimed_by"] for record in records)
    # It neither counts nor moves what is the last run.
    assert (1, first.scheduled_for) == (ran["total_run_count"], ran["last_run_at"])
    one.finish(first)
    (second,) = one.advance(10)
    assert first.scheduled_for + 30 * SECOND == second.scheduled_for
    assert 2 == row(one)["total_run_count"]


@pytest.mark.parametrize("state", [state.value for state in UNFINISHED])
@pytest.mark.parametrize("policy", ["skip", "queue"])
def test_a_run_in_any_unfinished_state_is_met(beat, state, policy):
    one = beat()
    insert(one, {"timedelta": 10}, policy)
    one.run()
    (first,) = one.advance(10)
    become(one, first, state, claimed_at=one.clock.now() + timedelta(days=1))
    if state == "waiting":  # nothing else is unfinished: it is let go
        assert [first.id] == [run.id for run in one.run()]

    assert [] == one.advance(10)
    assert ["skipped" if policy == "skip" else "waiting"] == states(one)[1:]


@pytest.mark.parametrize("state", ["succeeded", "failed", "missed", "skipped", "lost"])
@pytest.mark.parametrize("policy", ["skip", "queue"])
def test_a_run_that_has_ended_is_in_nobodys_way(beat, state, policy):
    one = beat()
    insert(one, {"timedelta": 10}, policy)
    one.run()
    (first,) = one.advance(10)
    become(one, first, state)

    assert 1 == len(one.advance(10))


def test_queue_lets_one_wait_and_it_runs_when_the_run_before_has_ended(beat, clock):
    one = beat()
    insert(
        one, {"timedelta": 10}, "queue", args="[1]", kwargs='{"a": 2}', options='{"queue": "slow"}'
    )
    one.run()
    (first,) = one.advance(10)
    assert [] == one.advance(35)

    (waits,) = ledger(one, "waiting")
    assert first.scheduled_for + 10 * SECOND == waits["scheduled_for"] == waits["claimed_at"]
    assert (None, 0, None) == tuple(
        waits[name] for name in ("claimed_by", "publish_attempts", "finished_at")
    )
    assert [(1, QUEUED)] * 2 == [
        (record["count"], record["reason"]) for record in ledger(one, "skipped")
    ]
    # It counts since it was taken.
    assert (2, waits["scheduled_for"]) == (row(one)["total_run_count"], row(one)["last_run_at"])
    # What it sends, it carries along.
    set_(one, args="[9]")

    one.finish(first)
    (second,) = one.run()

    assert (waits["id"], (1,), {"a": 2}) == (second.id, second.args, second.kwargs)
    assert {"queue": "slow"} == second.options
    (claimed,) = ledger(one, "sent")
    assert (second.id, clock.now(), 1) == (
        claimed["id"],
        claimed["claimed_at"],
        claimed["publish_attempts"],
    )
    assert claimed["claimed_by"] is not None
    assert 2 == row(one)["total_run_count"]
    assert [] == one.advance(10)
    assert ["waiting"] == [run["state"] for run in ledger(one, "waiting")]


def test_nobody_takes_the_place_of_one_that_waits(beat, clock):
    """The run before has ended, and the next occurrence comes before the one that waits is let go."""
    one = beat()
    insert(one, {"timedelta": 10}, "queue")
    one.run()
    (first,) = one.advance(10)
    one.advance(10)
    one.finish(first)
    clock.advance(10)

    batch = one.store.claim(
        lambda routine, now: one.loop._decide(_Streak(), routine, now), limit=10
    )

    assert () == batch.claimed
    assert ["succeeded", "waiting", "skipped"] == states(one)


class _Streak:
    since = None


@pytest.mark.parametrize(
    ("policy", "told"),
    [("skip", ["sent", "skipped"]), ("queue", ["sent", "waiting", "skipped"])],
)
def test_of_a_backlog_what_is_left_out_is_one_record(beat, clock, policy, told):
    one = beat()
    insert(one, {"timedelta": 10}, policy)
    one.run()
    oldest = row(one)["next_run_at"]
    clock.set(oldest + 45 * SECOND)

    (ran,) = one.run()

    assert oldest == ran.scheduled_for
    assert told == states(one)
    record = ledger(one)[-1]
    taken = len(told) - 1
    assert (5 - taken, oldest + taken * 10 * SECOND, oldest + 40 * SECOND) == (
        record["count"],
        record["scheduled_for"],
        record["until"],
    )
    assert taken == row(one)["total_run_count"]
    assert oldest + 50 * SECOND == row(one)["next_run_at"]


@pytest.mark.parametrize(("policy", "taken"), [("skip", 1), ("queue", 2)])
def test_all_that_is_to_be_caught_up_still_runs_one_at_a_time(beat, clock, policy, taken):
    one = beat()
    insert(one, {"timedelta": 10}, policy, catch_up="all")
    one.run()
    oldest = row(one)["next_run_at"]
    clock.set(oldest + timedelta(hours=1))

    ran = one.run()
    while ran:
        one.finish(ran[-1])
        ran = one.run()

    done = ledger(one, "succeeded")
    assert [Cause.CATCH_UP.value] * taken == [run["cause"] for run in done]
    (missed,), (skipped,) = ledger(one, "missed"), ledger(one, "skipped")
    assert (361 - 100, 100 - taken) == (missed["count"], skipped["count"])
    assert Cause.CATCH_UP.value == skipped["cause"]
    assert skipped["until"] == oldest + timedelta(hours=1)


@pytest.mark.parametrize("policy", ["skip", "queue"])
def test_max_runs_counts_what_runs_and_not_what_is_skipped(beat, clock, policy):
    one = beat()
    insert(one, {"timedelta": 10}, policy, max_runs=3)
    one.run()
    clock.set(row(one)["next_run_at"] + 45 * SECOND)
    ran = one.run()
    for _ in range(20):
        for run in ran:
            one.finish(run)
        ran = one.advance(10)

    assert 3 == len(ledger(one, "succeeded"))
    after = row(one)
    assert (3, False, None) == (
        after["total_run_count"],
        bool(after["active"]),
        after["next_run_at"],
    )


@pytest.mark.parametrize("policy", ["allow", "skip", "queue"])
@pytest.mark.parametrize("schedule", [{"timedelta": 10}, {"after": 10}])
def test_with_its_last_run_a_routine_is_over_at_once(beat, clock, policy, schedule):
    one = beat()
    insert(one, schedule, policy, max_runs=1)
    one.run()
    clock.set(max(clock.now(), row(one)["next_run_at"] or clock.now()))
    one.run()

    over = row(one)
    assert ["sent"] == states(one)
    assert (False, None, None) == (
        bool(over["active"]),
        over["next_run_at"],
        over["waiting_for"],
    )


def test_the_last_run_that_is_left_may_wait_though_its_routine_is_over(beat):
    one = beat()
    insert(one, {"timedelta": 10}, "queue", max_runs=2)
    one.run()
    (first,) = one.advance(10)
    assert [] == one.advance(60)
    assert not row(one)["active"]
    assert ["sent", "waiting"] == states(one)

    one.finish(first)

    assert 1 == len(one.run())
    assert 2 == row(one)["total_run_count"]


def test_once_waits_though_its_routine_is_over(beat, clock):
    one = beat()
    insert(one, {"once": (clock.now() + 60 * SECOND).isoformat()}, "queue")
    one.run()
    set_(one, next_run_at=clock.now())
    (ordered,) = one.run()
    assert [] == one.advance(90)
    assert (Cause.MANUAL, ["sent", "waiting"]) == (ordered.cause, states(one))
    assert not row(one)["active"]
    one.finish(ordered)

    (run,) = one.run()

    assert Cause.SCHEDULE is run.cause


def test_a_once_that_is_skipped_has_been(beat, clock):
    one = beat()
    insert(one, {"once": (clock.now() + 60 * SECOND).isoformat()}, "skip")
    one.run()
    set_(one, next_run_at=clock.now())
    (ordered,) = one.run()
    one.advance(90)
    one.finish(ordered)

    assert [] == one.advance(90)
    assert ["succeeded", "skipped"] == states(one)
    assert (0, False) == (row(one)["total_run_count"], bool(row(one)["active"]))


@pytest.mark.parametrize("policy", ["skip", "queue"])
def test_by_hand_it_does_not_overlap_either(beat, clock, policy):
    one = beat()
    insert(one, {"timedelta": 3600}, policy)
    one.run()
    set_(one, next_run_at=clock.now())
    (first,) = one.run()
    set_(one, next_run_at=clock.now())
    assert [] == one.run()
    one.finish(first)

    ran = one.run()

    assert [Cause.MANUAL] * (policy == "queue") == [run.cause for run in ran]
    by_hand = [(run["cause"], run["state"]) for run in ledger(one) if run["id"] != first.id]
    assert [("manual", "sent" if policy == "queue" else "skipped")] == by_hand
    assert 0 == row(one)["total_run_count"]


# -- after --


@pytest.mark.parametrize("delay", [0, 5])
@pytest.mark.parametrize("policy", ["skip", "queue"])
def test_after_that_meets_a_run_by_hand_goes_on_when_that_has_ended(beat, clock, policy, delay):
    one = beat()
    insert(one, {"after": delay}, policy, starts_at=clock.now() + 60 * SECOND)
    one.run()
    set_(one, next_run_at=clock.now())
    (ordered,) = one.run()
    assert Cause.MANUAL is ordered.cause
    assert [] == one.advance(120)
    (met,) = [run for run in ledger(one) if run["id"] != ordered.id]
    assert "skipped" == met["state"] if policy == "skip" else "waiting" == met["state"]

    one.finish(ordered)
    ended = clock.now()
    ran = one.advance(delay + 1)

    (run,) = ran
    due = ended + delay * SECOND if policy == "skip" else met["scheduled_for"]
    assert timedelta(0) <= run.scheduled_for - due < SECOND
    assert run.id == row(one)["waiting_for"]
    one.finish(run)
    assert 1 == len(one.advance(delay + 1))


def test_after_that_meets_one_that_waits_goes_on_when_that_has_ended(beat, clock):
    one = beat()
    insert(one, {"after": 5}, "queue", starts_at=clock.now() + 60 * SECOND)
    one.run()
    for _ in range(2):
        set_(one, next_run_at=clock.now())
        one.run()
    first, waits = sorted(ledger(one), key=lambda run: run["state"])
    assert ("sent", "waiting") == (first["state"], waits["state"])
    assert [] == one.advance(120)
    assert waits["id"] == row(one)["waiting_for"]

    become_ended(one, first)
    (second,) = one.run()
    assert waits["id"] == second.id
    assert [] == one.advance(30)
    one.finish(second)

    (run,) = one.advance(6)
    assert Cause.SCHEDULE is run.cause


def become_ended(beat, run):
    with beat.engine.begin() as connection:
        mine = runs.c.id == run["id"]
        values = {"state": "succeeded", "finished_at": beat.clock.now()}
        connection.execute(runs.update().where(mine).values(values))


def test_a_waiting_run_of_after_that_is_not_to_run_any_more_holds_up_nothing(beat, clock):
    one = beat()
    insert(one, {"after": 5}, "queue", starts_at=clock.now() + 60 * SECOND)
    one.run()
    set_(one, next_run_at=clock.now())
    (ordered,) = one.run()
    one.advance(120)
    set_(one, active=False)
    one.finish(ordered)
    one.run()
    assert "skipped" == ledger(one)[-1]["state"]

    set_(one, active=True)

    assert 1 == len(one.advance(10))
    assert 1 == row(one)["total_run_count"]


# -- what becomes of one that waits --


@pytest.fixture
def queued(beat):
    """A beat with a routine of which one run is out and another waits."""
    one = beat()
    insert(one, {"timedelta": 10}, "queue")
    one.run()
    (first,) = one.advance(10)
    one.advance(10)
    assert ["sent", "waiting"] == states(one)
    one.first = first
    return one


@pytest.mark.parametrize(
    ("change", "reason"),
    [("active = :off", "inactive"), (None, "removed")],
)
def test_switched_off_or_removed_it_is_skipped_and_no_longer_counts(queued, change, reason):
    with queued.engine.begin() as connection:
        if change:
            connection.execute(sa.text(f"UPDATE routines SET {change}"), {"off": False})
        else:
            connection.execute(sa.text("DELETE FROM routines"))
    queued.clock.set(max(queued.clock.now(), datetime.now(UTC)))
    assert [] == queued.advance(60)
    queued.finish(queued.first)

    assert [] == queued.run()

    (record,) = ledger(queued, "skipped")
    assert (reason, queued.clock.now()) == (record["reason"], record["finished_at"])
    if change:
        assert 1 == row(queued)["total_run_count"]


def test_switched_off_and_on_again_it_runs(queued):
    set_(queued, active=False)
    set_(queued, active=True)
    queued.finish(queued.first)

    assert 1 == len(queued.run())


def test_what_has_expired_while_it_waited_is_skipped(beat):
    one = beat()
    insert(one, {"timedelta": 10}, "queue", options='{"expires": 60}')
    one.run()
    (first,) = one.advance(10)
    one.advance(71)
    one.finish(first)

    assert [] == one.run()
    record = next(run for run in ledger(one, "skipped") if run["reason"] != QUEUED)
    assert "expired while it waited" == record["reason"]
    assert 1 == row(one)["total_run_count"]


def test_it_need_not_wait_where_runs_may_overlap_now(queued):
    set_(queued, overlap="allow")

    assert 1 == len(queued.run())


def test_with_skip_it_goes_on_waiting(queued):
    set_(queued, overlap="skip")
    assert [] == queued.advance(5)
    queued.finish(queued.first)

    assert 1 == len(queued.run())


def test_a_lost_run_lets_it_go(queued):
    become(queued, queued.first, "lost")

    assert 1 == len(queued.run())


@pytest.mark.parametrize("policy", ["skip", "queue"])
def test_a_worker_that_is_killed_blocks_until_its_run_is_lost(beat, clock, policy):
    one = beat(scheduler_lost_after=90)
    insert(one, {"timedelta": 10}, policy)
    one.run()
    (first,) = one.advance(10)
    worker = Ledger(one.engine, clock)
    assert Begun.BEGUN is worker.begin(first.id, uuid4(), retries=0, worker="killed")
    assert [] == one.advance(80)
    become(one, first, "lost", finished_at=clock.now())

    ran = one.advance(9)

    assert (0 if policy == "skip" else 1) == len(ran)
    for run in ran:
        one.finish(run)
    assert one.advance(20)


@pytest.mark.parametrize("waited", [timedelta(minutes=5), timedelta(hours=25)])
def test_one_that_was_let_go_by_a_scheduler_that_died_is_published_by_another(
    queued, beat, clock, waited
):
    """However many occurrences have come since: it is late because it waited."""
    clock.advance(waited)
    queued.finish(queued.first)
    released_ = queued.store.release(limit=10)
    assert 1 == len(released_.claimed)
    queued.kill()
    clock.advance(11)

    (run,) = beat().run()

    assert released_.claimed[0].run.id == run.id


def test_two_schedulers_do_not_let_go_the_same_run(queued, beat):
    other = beat()
    queued.finish(queued.first)

    assert 1 == len(queued.store.release(limit=10).claimed)
    assert () == other.store.release(limit=10).claimed


def test_the_scheduler_looks_again_soon_while_a_run_waits(queued):
    """The end may be written while it is claimed, and then nobody hears of it."""
    assert queued.loop.turn() <= 1


def test_the_broker_away_nothing_is_let_go(queued):
    queued.publisher.away = True
    queued.finish(queued.first)
    assert [] == queued.advance(5)
    assert ["succeeded", "waiting"] == states(queued)[:2]
    queued.publisher.away = False

    assert 1 == len(queued.run())


# SQLite has but one transaction at a time.
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_routine_that_is_locked_holds_up_neither_scheduler_nor_what_waits(queued):
    """Somebody's transaction is left open."""
    queued.finish(queued.first)
    people = sa.create_engine(queued.engine.url, future=True)
    with people.connect() as somebody:
        somebody.execute(sa.text("UPDATE routines SET description = 'being edited'"))
        assert 1 == len(queued.run())
        somebody.rollback()
    people.dispose()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_one_that_no_longer_counts_waits_for_the_row_without_holding_up_anybody(queued):
    set_(queued, active=False)
    queued.finish(queued.first)
    people = sa.create_engine(queued.engine.url, future=True)
    with people.connect() as somebody:
        somebody.execute(sa.text("UPDATE routines SET description = 'being edited'"))
        assert [] == queued.advance(5)
        assert "waiting" == states(queued)[1]
        somebody.rollback()
    people.dispose()

    assert [] == queued.advance(5)
    assert ("skipped", 1) == (states(queued)[1], row(queued)["total_run_count"])


# MySQL and MariaDB call nobody: there the scheduler looks once a second.
@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("end", ["succeeded", "lost", "missed"])
def test_whatever_ends_a_run_wakes_the_schedulers_if_another_waits(queued, database, end):
    listener = queued.engine
    if listener.dialect.name == "postgresql":
        listener = make_engine(database)
    wakeups = wakeups_for(queued.engine, listener, notify=True)
    wakeups.listen()
    people = make_engine(database)
    with people.begin() as connection:
        values = {"end": end, "first": "sent"}
        connection.execute(
            sa.text("UPDATE routine_runs SET state = :end WHERE state = :first"), values
        )

    began = time.monotonic()
    wakeups.wait(60)

    assert time.monotonic() - began < 30
    assert 1 == len(queued.run())
    listener.dispose()
    people.dispose()


def test_the_end_of_a_run_that_nobody_waits_for_wakes_nobody(postgresql, clock):
    one = ManualBeat(postgresql, clock)
    one.start()
    insert(one, {"timedelta": 10}, "queue")
    insert(one, {"timedelta": 10}, "queue", name="other")
    one.run()
    first, second = one.advance(10)
    one.finish(first)
    one.advance(10)  # the other's next run waits
    listener = make_engine(postgresql)
    wakeups = wakeups_for(one.engine, listener, notify=True)
    wakeups.listen()
    (again,) = [run for run in ledger(one, "sent") if run["id"] != second.id]

    become_ended(one, again)

    began = time.monotonic()
    wakeups.wait(0.2)
    assert time.monotonic() - began >= 0.2
    one.kill()
    listener.dispose()


# -- several schedulers and workers at once --


# SQLite has but one transaction at a time.
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_run_that_was_claimed_since_this_claim_began_is_met(beat, clock):
    one, other = beat(), beat()
    insert(one, {"timedelta": 3600}, "skip")
    one.run()
    at = clock.now()
    set_(one, next_run_at=at)
    claimed = []

    def meanwhile(connection, cursor, statement, parameters, context, executemany):
        if "FOR UPDATE" in statement and not claimed:
            claimed.extend(other.run())
            set_(other, next_run_at=at)

    sa.event.listen(one.engine, "before_cursor_execute", meanwhile)

    assert [] == one.run()
    assert 1 == len(claimed)
    assert ["sent", "skipped"] == sorted(states(one))


# SQLite has but one transaction at a time.
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_what_somebody_else_lets_go_meanwhile_is_left_to_him(queued, beat):
    other = beat()
    queued.finish(queued.first)
    released_ = []

    def meanwhile(connection, cursor, statement, parameters, context, executemany):
        if "FOR UPDATE" in statement and not released_:
            released_.extend(other.store.release(limit=10).claimed)

    sa.event.listen(queued.engine, "before_cursor_execute", meanwhile)

    assert () == queued.store.release(limit=10).claimed
    assert 1 == len(released_)


class Crowd:
    """Schedulers and workers, each in a thread, and the runs that are between them."""

    def __init__(self, database):
        self.database = database
        self.lock = threading.Lock()
        self.stopping, self.closing = threading.Event(), threading.Event()
        self.under_way: dict[UUID, set[UUID]] = {}
        self.overlapped: list[tuple[UUID, set[UUID]]] = []
        self.sent: list[Run] = []
        self.published: Counter[UUID] = Counter()
        self.faults: list[Exception] = []

    def ready(self):
        return True

    def publish(self, claimed, since, sent, **_):
        with self.lock:
            for held in claimed:
                others = self.under_way.setdefault(held.run.routine_id, set())
                if others - {held.run.id}:
                    self.overlapped.append((held.run.id, set(others)))
                others.add(held.run.id)
                self.sent.append(held.run)
                self.published[held.run.routine_id] += 1
                sent.append(held.run.id)
        return []

    def _take(self, chance):
        with self.lock:
            return self.sent.pop(chance.randrange(len(self.sent))) if self.sent else None

    def schedule(self, _):
        beat = ManualBeat(self.database, DATABASE)
        beat.loop._publisher = self
        beat.store.beat(timedelta(0))
        while not self.stopping.is_set():
            try:
                seconds = beat.loop.turn()
            except sa.exc.OperationalError as error:
                # Where SQLite did not give the lock; a deadlock is what must not be.
                if "locked" not in str(error.orig):
                    raise
                seconds = 0.01
            self.stopping.wait(min(seconds, 0.05))
        beat.engine.dispose()

    def work(self, seed):
        chance = random.Random(seed)
        engine = make_engine(self.database)
        book = Ledger(engine)
        while self.sent or not self.closing.is_set():
            run = self._take(chance)
            if run is None:
                self.closing.wait(0.01)
                continue
            attempt = uuid4()
            assert Begun.BEGUN is book.begin(run.id, attempt, retries=0, worker="w")
            self.stopping.wait(chance.choice([0, 0, 0.02, 0.4]))
            # Before it is told to the database: nobody may begin another on account of this.
            with self.lock:
                self.under_way[run.routine_id].discard(run.id)
            assert book.end(run.id, attempt, State.SUCCEEDED)
        engine.dispose()

    def _busy(self, count):
        """Whether each of so many routines has run a few times."""
        with self.lock:
            return len(self.published) == count and min(self.published.values()) > 3

    def run(self, count, *, schedulers, workers):
        """Until *count* routines have run a few times each, and all that was sent has ended."""

        def guarded(work, number):
            try:
                work(number)
            except Exception as fault:  # noqa: BLE001  told by the test
                self.faults.append(fault)

        def started(work, many):
            threads = [threading.Thread(target=guarded, args=(work, n)) for n in range(many)]
            for thread in threads:
                thread.start()
            return threads

        working, scheduling = started(self.work, workers), started(self.schedule, schedulers)
        try:
            wait_for(lambda: self.faults or self._busy(count), timeout=120)
        finally:
            for event, threads in ((self.stopping, scheduling), (self.closing, working)):
                event.set()
                for thread in threads:
                    thread.join()


def accounted(routine, mine, period):
    """The instants of a routine's runs and records, in order; and what there has to be."""
    instants = [run["scheduled_for"] for run in mine if run["state"] != "skipped"]
    for record in mine:
        if record["state"] == "skipped":
            those = [record["scheduled_for"] + n * period for n in range(record["count"])]
            assert those[-1] == record["until"]
            instants += those
    first = min(instants)
    whole = (routine["occurrence_at"] - first) // period
    return sorted(instants), [first + n * period for n in range(whole)]


def test_several_schedulers_and_workers_at_once_never_overlap_and_account_for_all(database):
    """In real time, as locks are what this is about."""
    first = ManualBeat(database, DATABASE)
    first.start()
    periods = {f"r{n}": (0.25, 0.5, 0.75)[n % 3] * SECOND for n in range(24)}
    with first.engine.begin() as connection:
        for n, (name, period) in enumerate(periods.items()):
            schedule = json.dumps({"timedelta": period.total_seconds()})
            values = {"name": name, "task": "t", "schedule": schedule}
            values["overlap"] = ("skip", "queue")[n % 2]
            connection.execute(routines.insert().values(values))
    crowd = Crowd(database)

    crowd.run(len(periods), schedulers=3, workers=4)

    assert [] == crowd.faults
    assert [] == crowd.overlapped
    told = ledger(first)
    with first.engine.connect().execution_options(reading=True) as connection:
        kept = connection.execute(sa.select(routines)).mappings().all()
    for routine in kept:
        mine = [run for run in told if run["routine_id"] == routine["id"]]
        taken = [run for run in mine if run["state"] != "skipped"]
        assert {"succeeded", "skipped", "waiting"} >= {run["state"] for run in mine}
        assert 1 >= sum(run["state"] == "waiting" for run in mine)
        assert len(taken) == routine["total_run_count"] > 3
        counted, wanted = accounted(routine, mine, periods[routine["name"]])
        assert wanted == counted
    assert any(run["state"] == "skipped" for run in told)


def test_of_a_batch_without_policies_nothing_is_asked_nor_made_ready(monkeypatch):
    monkeypatch.delattr(unfinished_runs, "_one_of")

    assert {} == unfinished_runs.read(None, iter(()))
