"""What every store has to do with a run between its claim and the broker."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID, uuid4

from ..rescue import Stranded, Verdict
from ..routines import State
from ..storage.values import Begun
from .bench import (
    EVERY,
    RESCUED_AFTER,
    SECOND,
    SIDE_BY_SIDE,
    Bench,
    at_once,
    begin,
    claim,
    claimed,
    given_up,
    ids,
    planned,
    released,
    rescued,
)


class PublishingConformance:
    """Confirmed, rescued, released, or given up."""

    def test_what_is_published_is_sent_however_often_it_is_confirmed(self, bench: Bench) -> None:
        store, (one, other) = claimed(bench, "a", "b")
        store.confirm([one])
        assert {one: State.SENT, other: State.CLAIMED} == bench.runs()
        store.confirm([one])
        assert store.look().oldest_claim_at is not None

        claim(store, published=[one, other])

        assert {one: State.SENT, other: State.SENT} == bench.runs()
        assert store.look().oldest_claim_at is None

    def test_what_a_worker_has_begun_is_not_sent_by_a_late_confirm(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        assert Begun.BEGUN is begin(bench.ledger(), run)

        store.confirm([run])

        assert {run: State.RUNNING} == bench.runs()

    def test_the_farewell_confirms_what_was_published(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")

        store.leave([run])

        assert {run: State.SENT} == bench.runs()

    def test_the_claims_of_a_killed_scheduler_are_rescued_once(self, bench: Bench) -> None:
        killed, (run,) = claimed(bench, "a")
        others = [bench.store() for _ in range(SIDE_BY_SIDE)]
        bench.clock.advance(RESCUED_AFTER - SECOND)
        assert [] == rescued(others[0])
        bench.clock.advance(SECOND)

        found = at_once([partial(rescued, store) for store in others])

        assert [run] == [each for some in found for each in some]
        # It is the other's now, and about to be published by it.
        killed.confirm([run])
        assert {run: State.CLAIMED} == bench.runs()
        bench.clock.advance(RESCUED_AFTER)
        assert [run] == rescued(bench.store())

    def test_what_was_confirmed_is_not_rescued(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        store.confirm([run])
        bench.clock.advance(RESCUED_AFTER)

        assert [] == rescued(bench.store())

    def test_what_is_not_worth_publishing_any_more_is_ended(self, bench: Bench) -> None:
        _, (run,) = claimed(bench, "a")
        bench.edit("a", active=False)
        bench.clock.advance(RESCUED_AFTER)

        assert [] == rescued(bench.store())
        assert {run: State.SKIPPED} == bench.runs()

    def test_who_takes_a_claim_over_takes_the_oldest_first(self, bench: Bench) -> None:
        store, (first,) = claimed(bench, "a")
        claimed_at = bench.clock.now()
        bench.clock.advance(EVERY)
        (second,) = ids(claim(store))
        assert claimed_at == store.look().oldest_claim_at
        bench.clock.advance(RESCUED_AFTER)

        batches = [
            store.rescue(lambda run, now: Verdict(), age=RESCUED_AFTER, limit=1) for _ in range(3)
        ]

        assert [[first], [second], []] == [
            [held.run.id for held in batch.claimed] for batch in batches
        ]
        assert bench.clock.now() == store.look().oldest_claim_at

    def test_a_rescue_is_told_what_it_has_to_judge_by(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        store.note_fault(run, "no such queue")
        store.note_fault(uuid4(), "no such run")
        seen: list[Stranded] = []

        def judge(stranded: Stranded, now: datetime) -> Verdict:
            seen.append(stranded)
            return Verdict()

        for _ in range(2):
            bench.clock.advance(RESCUED_AFTER)
            store.rescue(judge, age=RESCUED_AFTER, limit=100)

        first, second = seen
        assert (1, "no such queue") == (first.publish_attempts, first.fault)
        assert (2, first.claimed_at) != (second.publish_attempts, second.claimed_at)
        assert (2, bench.clock.now() - RESCUED_AFTER) == (
            second.publish_attempts,
            second.claimed_at,
        )
        assert (True, True) == (first.present, first.active)
        assert first.scheduled_for + EVERY == first.following

    def test_what_is_given_up_is_told_and_does_not_count(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")

        ((title, state, reason),) = given_up(store).ended

        assert (State.MISSED, "given up") == (state, reason)
        assert "a" in title
        assert {run: State.MISSED} == bench.runs()
        bench.clock.advance(EVERY)
        (held,) = claim(store).claimed
        assert held.routine is not None
        assert 0 == held.routine.total_run_count
        now = bench.clock.now()
        assert 1 == store.prune(now, now, limit=100)

    def test_a_fault_is_noted_in_nothing_but_a_claim(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        store.confirm([run])

        store.note_fault(run, "too late")

        assert {run: State.SENT} == bench.runs()

    def test_a_run_that_waits_is_released_once_by_the_end_of_the_one_before(
        self, bench: Bench
    ) -> None:
        store = planned(bench, "a")
        bench.edit("a", overlap="queue")
        claim(store)
        bench.clock.advance(EVERY)
        (before,) = ids(claim(store))
        ledger, mine = bench.ledger(), uuid4()
        begin(ledger, before, mine)
        bench.clock.advance(EVERY)
        assert [] == ids(claim(store))
        (waiting,) = set(bench.runs()) - {before}
        assert State.WAITING is bench.runs()[waiting]
        view = store.look()
        assert (True, False) == (view.waiting, view.to_release)
        assert () == store.release(limit=100).claimed

        ledger.end(before, mine, State.SUCCEEDED)
        assert store.look().to_release
        stores = [bench.store() for _ in range(SIDE_BY_SIDE)]
        found = at_once([partial(released, each) for each in stores])

        assert [waiting] == [each for some in found for each in some]
        assert State.CLAIMED is bench.runs()[waiting]
        assert not store.look().waiting

    def test_a_run_that_waits_is_dropped_if_its_routine_is_off_by_then(self, bench: Bench) -> None:
        before, waiting = _queued(bench)
        store = bench.store()
        bench.edit("a", active=False)
        bench.ledger().drop(before, State.SKIPPED, retries=0, reason="revoked")
        assert store.look().to_release

        released = store.release(limit=100)

        assert ((), [State.SKIPPED]) == (
            released.claimed,
            [state for _, state, _ in released.ended],
        )
        assert State.SKIPPED is bench.runs()[waiting]
        assert not store.look().waiting

    def test_a_run_that_waits_need_not_any_more_once_runs_may_overlap(self, bench: Bench) -> None:
        before, waiting = _queued(bench)
        bench.edit("a", overlap="allow")
        store = bench.store()

        assert store.look().to_release
        assert [waiting] == released(store)
        assert {before: State.CLAIMED, waiting: State.CLAIMED} == bench.runs()

    def test_a_run_that_waits_is_taken_over_as_any_other_once_it_is_claimed(
        self, bench: Bench
    ) -> None:
        before, waiting = _queued(bench)
        bench.ledger().drop(before, State.SKIPPED, retries=0, reason="revoked")
        assert [waiting] == released(bench.store())
        assert [] == rescued(bench.store())
        bench.clock.advance(RESCUED_AFTER)

        assert [waiting] == rescued(bench.store())

    def test_no_more_is_released_than_asked_for(self, bench: Bench) -> None:
        store = planned(bench, "a", "b")
        for name in ("a", "b"):
            bench.edit(name, overlap="queue")
        bench.clock.advance(EVERY)
        before = ids(claim(store))
        bench.clock.advance(EVERY)
        claim(store)
        for run in before:
            bench.ledger().drop(run, State.SKIPPED, retries=0, reason="revoked")

        assert [1, 1, 0] == [len(store.release(limit=1).claimed) for _ in range(3)]

    def test_what_waits_is_neither_rescued_nor_begun_nor_dropped(self, bench: Bench) -> None:
        before, waiting = _queued(bench)
        store, ledger = bench.store(), bench.ledger()
        bench.clock.advance(RESCUED_AFTER)

        assert [before] == rescued(store)
        assert Begun.DUPLICATE is begin(ledger, waiting)
        assert not ledger.drop(waiting, State.SKIPPED, retries=0, reason="revoked")
        assert 0 == store.prune(bench.clock.now(), bench.clock.now(), limit=100)
        assert State.WAITING is bench.runs()[waiting]


def _queued(bench: Bench) -> tuple[UUID, UUID]:
    """A run that is claimed, and one that waits for its end."""
    store = planned(bench, "a")
    bench.edit("a", overlap="queue")
    bench.clock.advance(EVERY)
    (before,) = ids(claim(store))
    bench.clock.advance(EVERY)
    assert [] == ids(claim(store))
    (waiting,) = set(bench.runs()) - {before}
    return before, waiting
