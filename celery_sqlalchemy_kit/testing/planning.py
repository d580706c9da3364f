"""What every store has to make of what people, and time, do to a routine."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from ..due import Decision
from ..routines import Cause, Routine, State
from ..storage import SchedulerStore
from ..storage.values import Claimed
from .bench import (
    EVERY,
    SECOND,
    Bench,
    all_claimed,
    begin,
    claim,
    decide,
    ids,
    names,
    planned,
    reconcile,
)


class PlanningConformance:
    """Missed, off, edited, ordered by hand, over, and waiting for the run before."""

    def test_what_is_missed_is_recorded(self, bench: Bench) -> None:
        store = planned(bench, "a")
        bench.clock.advance(100 * EVERY)

        (held,) = claim(store).claimed

        assert Cause.CATCH_UP is held.run.cause
        assert [State.CLAIMED, State.MISSED] == sorted(bench.runs().values())
        assert State.CLAIMED is bench.runs()[held.run.id]

    def test_time_off_is_not_caught_up(self, bench: Bench) -> None:
        bench.clock.advance(-6 * EVERY)  # edits may be dated by the storage's own clock
        store = planned(bench, "a")
        bench.clock.advance(6 * EVERY)
        bench.edit("a", active=False)
        bench.edit("a", active=True)
        bench.clock.advance(SECOND)

        was_off = []

        def watches(routine: Routine, now: datetime) -> Decision:
            was_off.append(routine.paused_at is not None)
            return decide(routine, now)

        assert [] == ids(claim(store, watches))
        assert [State.MISSED] == list(bench.runs().values())
        following = store.look().next_run_at
        assert following is not None
        assert following > bench.clock.now()
        bench.clock.set(following)
        assert 1 == len(ids(claim(store, watches)))
        bench.clock.advance(EVERY)
        assert 1 == len(ids(claim(store)))
        assert [True, False] == was_off

    def test_a_routine_that_cannot_be_read_says_so_and_keeps_no_other(self, bench: Bench) -> None:
        store = planned(bench, "bad", "good")
        bench.edit("bad", schedule={"when": "now and then"})
        bench.clock.advance(EVERY)

        batch = claim(store)

        assert (["good"], ["bad"]) == (names(batch), [name for name, _ in batch.faults])
        assert all(fault for _, fault in batch.faults)
        assert not store.look().to_claim
        assert () == claim(store).faults
        bench.edit("bad", schedule={"timedelta": 10})
        assert store.look().to_claim
        claim(store)
        bench.clock.advance(2 * EVERY)
        assert ["bad", "good"] == sorted(set(names(claim(store))))

    def test_an_order_by_hand_is_a_run_of_its_own(self, bench: Bench) -> None:
        store = planned(bench, "a")
        planned_for = store.look().next_run_at
        orders: list[Claimed] = []
        for _ in range(2):
            bench.edit("a", next_run_at=bench.clock.advance(SECOND))
            orders += claim(store).claimed

        assert [Cause.MANUAL] * 2 == [held.run.cause for held in orders]
        assert 2 == len(bench.runs())
        assert planned_for == store.look().next_run_at
        bench.clock.advance(EVERY)
        (held,) = claim(store).claimed
        assert held.routine is not None
        assert (Cause.SCHEDULE, 0) == (held.run.cause, held.routine.total_run_count)

    def test_after_as_many_runs_as_it_may_have_a_routine_is_over(self, bench: Bench) -> None:
        store = planned(bench, "a")
        bench.edit("a", max_runs=2)
        found = []
        for _ in range(4):
            found += all_claimed(store)
            bench.clock.advance(EVERY)

        assert 2 == len(found)
        view = store.look()
        assert (False, None) == (view.to_claim, view.next_run_at)
        # It was switched off by that: nobody has to know how it came about to switch it on.
        bench.edit("a", max_runs=3)
        assert not store.look().to_claim
        bench.edit("a", active=True)
        found = all_claimed(store)
        bench.clock.advance(EVERY)
        assert 1 == len(found + all_claimed(store))

    def test_an_occurrence_is_skipped_while_the_run_before_it_is_unfinished(
        self, bench: Bench
    ) -> None:
        store = planned(bench, "a")
        bench.edit("a", overlap="skip")
        bench.clock.advance(EVERY)
        (run,) = ids(claim(store))
        ledger, mine = bench.ledger(), uuid4()
        for step in (
            lambda: None,
            lambda: store.confirm([run]),
            lambda: begin(ledger, run, mine),
            lambda: ledger.end(run, mine, State.RETRYING, due=3600.0),
        ):
            step()
            bench.clock.advance(EVERY)
            assert [] == ids(claim(store))

        begin(ledger, run, mine, retries=1)
        ledger.end(run, mine, State.FAILED)
        bench.clock.advance(EVERY)

        (held,) = claim(store).claimed
        assert held.routine is not None
        assert 1 == held.routine.total_run_count
        assert [State.SKIPPED] * 4 == [
            state for key, state in bench.runs().items() if key not in {run, held.run.id}
        ]

    def test_a_routine_that_waits_for_the_end_of_its_run_is_planned_from_it(
        self, bench: Bench
    ) -> None:
        store, run = _waits_for(bench)
        ledger, mine = bench.ledger(), uuid4()
        begin(ledger, run, mine)
        bench.clock.advance(3 * EVERY)
        store.beat(timedelta(0))
        view = store.look()
        assert (False, None) == (view.to_claim, view.next_run_at)

        ledger.end(run, mine, State.SUCCEEDED)
        ended_at = bench.clock.now()
        bench.clock.advance(SECOND)
        store.beat(timedelta(0))

        assert [] == all_claimed(store)
        assert ended_at + 5 * SECOND == store.look().next_run_at
        bench.clock.advance(EVERY)
        assert 1 == len(all_claimed(store))

    def test_a_routine_is_let_go_of_if_the_run_that_it_waits_for_is_pruned(
        self, bench: Bench
    ) -> None:
        """It ended, while the routine was not there to be told."""
        store, run = _waits_for(bench)
        ledger, mine = bench.ledger(), uuid4()
        begin(ledger, run, mine)
        reconcile(store, "b")
        assert ["b"] == list(bench.routines())
        ledger.end(run, mine, State.SUCCEEDED)
        bench.clock.advance(EVERY)
        assert 1 == store.prune(bench.clock.now(), bench.clock.now(), limit=100)

        reconcile(store, "a", "b")
        store.beat(timedelta(0))
        bench.edit("b", active=False)
        all_claimed(store)
        bench.clock.advance(EVERY)

        assert 1 == len(all_claimed(store))


def _waits_for(bench: Bench) -> tuple[SchedulerStore, UUID]:
    """A scheduler whose routine "a" runs five seconds after its run before, and the run."""
    store = planned(bench, "a")
    bench.edit("a", schedule={"after": 5})
    found = all_claimed(store)  # at once, but by the clock that the edit is dated by
    bench.clock.advance(EVERY)
    (run,) = found + all_claimed(store)
    return store, run
