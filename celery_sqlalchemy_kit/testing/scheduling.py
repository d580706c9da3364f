"""What every scheduler's side of a store has to pass."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import pytest

from ..due import Decision, Occurrence
from ..routines import Cause, Routine, State, run_id
from ..storage.values import Begun
from .bench import (
    EVERY,
    FOUGHT_FOR,
    RESCUED_AFTER,
    SECOND,
    SIDE_BY_SIDE,
    Bench,
    all_claimed,
    at_once,
    begin,
    claim,
    claimed,
    decide,
    ids,
    names,
    planned,
    reconcile,
    rescued,
)


class SchedulingConformance:
    """Code and table, the claim, and the way to the broker."""

    # -- code and table --

    def test_what_is_declared_is_there_once_and_a_second_time_changes_nothing(
        self, bench: Bench
    ) -> None:
        first = reconcile(bench.store(), "a", "b")
        second = reconcile(bench.store(), "a", "b")

        assert ["a", "b"] == sorted(routine.name for routine in first.insert)
        assert ((), (), ()) == (second.insert, second.restore, second.remove)
        assert ["a", "b"] == sorted(bench.routines())

    def test_schedulers_that_start_at_once_insert_a_routine_once(self, bench: Bench) -> None:
        stores = [bench.store() for _ in range(SIDE_BY_SIDE)]

        plans = at_once([partial(reconcile, store, "a") for store in stores])

        assert 1 == sum(len(plan.insert) for plan in plans)

    def test_what_people_changed_stays_when_the_code_is_reconciled(self, bench: Bench) -> None:
        planned(bench, "a")
        bench.edit("a", active=False)

        plan = reconcile(bench.store(), "a")

        assert ((), ()) == (plan.insert, plan.remove)
        bench.clock.advance(EVERY)
        assert [] == ids(claim(bench.store()))

    def test_what_a_live_scheduler_declares_is_kept_until_it_has_left(self, bench: Bench) -> None:
        old, new = bench.store(), bench.store()
        reconcile(old, "a", "b")

        held = reconcile(new, "a")
        kept = sorted(bench.routines())
        old.leave()
        removed = reconcile(new, "a")

        assert (("b",), ["a", "b"]) == (held.held, kept)
        assert ["b"] == [row.name for row in removed.remove]
        assert ["a"] == list(bench.routines())

    def test_a_scheduler_that_was_killed_counts_for_half_a_minute(self, bench: Bench) -> None:
        killed, new = bench.store(), bench.store()
        reconcile(killed, "a", "b")
        bench.clock.advance(20 * SECOND)
        assert killed.beat(timedelta(0))
        bench.clock.advance(20 * SECOND)
        assert ("b",) == reconcile(new, "a").held

        bench.clock.advance(11 * SECOND)

        assert () == reconcile(new, "a").held

    def test_a_routine_that_is_declared_again_comes_back_as_it_was(self, bench: Bench) -> None:
        store = planned(bench, "a", "b")
        bench.edit("b", active=False)
        reconcile(store, "a")
        assert ["a"] == list(bench.routines())

        plan = reconcile(store, "a", "b")

        assert ["b"] == [routine.name for routine in plan.restore]
        bench.clock.advance(EVERY)
        assert ["a"] == names(claim(store))

    def test_a_scheduler_that_is_not_known_is_told_so_by_its_beat(self, bench: Bench) -> None:
        store = bench.store()
        assert not store.beat(timedelta(0))
        reconcile(store, "a")
        assert store.beat(timedelta(0))
        store.leave()
        store.leave()
        assert not store.beat(timedelta(0))

    # -- the claim --

    def test_a_new_routine_is_planned_and_then_claimed_when_it_is_due(self, bench: Bench) -> None:
        store = bench.store()
        reconcile(store, "a")
        assert store.look().to_claim
        claim(store)
        view = store.look()
        assert view.next_run_at is not None
        assert (False, None, {}) == (view.to_claim, view.oldest_claim_at, bench.runs())

        bench.clock.set(view.next_run_at)
        assert store.look().to_claim
        (held,) = claim(store).claimed

        assert held.routine is not None
        assert run_id(held.routine.id, view.next_run_at) == held.run.id
        assert (Cause.SCHEDULE, view.next_run_at) == (held.run.cause, held.run.scheduled_for)
        assert {held.run.id: State.CLAIMED} == bench.runs()
        assert view.next_run_at + EVERY == store.look().next_run_at
        assert not store.look().to_claim

    def test_what_is_due_is_claimed_once_by_any_number_of_schedulers(self, bench: Bench) -> None:
        planned(bench, *(f"r{number}" for number in range(FOUGHT_FOR)))
        stores = [bench.store() for _ in range(SIDE_BY_SIDE)]
        for _ in range(3):
            bench.clock.advance(EVERY)

            claimed = at_once([partial(all_claimed, store) for store in stores])

            found = [each for some in claimed for each in some]
            assert FOUGHT_FOR == len(found)
            assert FOUGHT_FOR == len(set(found))
        assert 3 * FOUGHT_FOR == len(bench.runs())

    def test_a_claim_is_bounded_and_the_oldest_come_first(self, bench: Bench) -> None:
        store = bench.store()
        reconcile(store, "first")
        claim(store)
        bench.clock.advance(SECOND)
        reconcile(store, "first", "then")
        claim(store)
        bench.clock.advance(EVERY)

        batches = [claim(store, limit=1) for _ in range(2)]

        assert [["first"], ["then"]] == [names(batch) for batch in batches]
        assert batches[0].more

    def test_an_id_that_is_there_is_not_claimed_again(self, bench: Bench) -> None:
        store = planned(bench, "a")
        bench.clock.advance(EVERY)
        pending = bench.clock.now()

        def stuck(routine: Routine, now: datetime) -> Decision:
            return Decision((Occurrence(pending, Cause.SCHEDULE),), (), pending, pending)

        first = claim(store, stuck)
        store.confirm(ids(first))
        second = claim(bench.store(), stuck)

        assert 1 == len(first.claimed)
        assert ([], tuple(ids(first))) == (ids(second), second.repeated)
        assert {ids(first)[0]: State.SENT} == bench.runs()

    def test_a_decision_that_raises_leaves_nothing_half_done(self, bench: Bench) -> None:
        store = planned(bench, "a", "b")
        bench.clock.advance(EVERY)
        published = ids(claim(store))
        bench.clock.advance(EVERY)
        decided = []

        def fails(routine: Routine, now: datetime) -> Decision:
            decided.append(routine.name)
            if len(decided) == 2:
                raise ZeroDivisionError
            return decide(routine, now)

        with pytest.raises(ZeroDivisionError):
            claim(store, fails, published=published)

        assert dict.fromkeys(published, State.CLAIMED) == bench.runs()
        after = claim(store, published=published)
        assert (["a", "b"], ()) == (sorted(names(after)), after.repeated)

    def test_an_inactive_routine_is_not_claimed(self, bench: Bench) -> None:
        store = planned(bench, "on", "off")
        bench.edit("off", active=False)
        bench.clock.advance(EVERY)

        assert ["on"] == names(claim(store))
        assert not store.look().to_claim

    def test_an_edit_of_the_schedule_is_obeyed(self, bench: Bench) -> None:
        store = planned(bench, "a")
        bench.edit("a", schedule={"timedelta": 3600})
        bench.clock.advance(EVERY)
        all_claimed(store)  # the occurrence that was pending may stay so

        bench.clock.advance(5 * EVERY)

        assert [] == ids(claim(store))
        following = store.look().next_run_at
        assert following is not None
        assert following > bench.clock.now() + 1000 * SECOND

    # -- from the claim to the broker --

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
