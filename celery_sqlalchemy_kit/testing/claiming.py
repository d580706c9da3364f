"""What every store has to do with what is due."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

import pytest

from .. import schedules
from ..due import Decision, Occurrence
from ..routines import Cause, Routine, State, run_id
from ..storage.values import Passed, Position
from .bench import (
    EVERY,
    FOUGHT_FOR,
    RESCUED_AFTER,
    SECOND,
    SIDE_BY_SIDE,
    Bench,
    all_claimed,
    at_once,
    claim,
    code,
    decide,
    ids,
    names,
    planned,
    reconcile,
    register,
    rescued,
)

#: How soon what is about to come comes.
A_MOMENT = SECOND / 100


class ClaimingConformance:
    """The look and the claim."""

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

    def test_a_look_may_leave_out_nothing_but_what_was_done_with(self, bench: Bench) -> None:
        store = planned(bench, "a", "b")
        bench.clock.advance(EVERY)
        now = bench.clock.now()
        before = Passed(Position(now - SECOND, str(UUID(int=0))), now - SECOND)

        assert store.look(after=before).to_claim
        runs = ids(claim(store))
        view = store.look(after=before)
        assert (False, now + EVERY, now) == (view.to_claim, view.next_run_at, view.oldest_claim_at)
        store.confirm(runs)
        assert store.look(after=before).oldest_claim_at is None

        bench.clock.advance(SECOND)
        later = bench.clock.now()
        beyond = Passed(Position(later, str(UUID(int=0))), later)
        assert now + EVERY == store.look(after=beyond).next_run_at
        bench.edit("a", schedule={"timedelta": 3600})
        assert store.look(after=beyond).to_claim
        all_claimed(store)
        bench.edit("b", next_run_at=now - EVERY)
        assert store.look().to_claim  # it may be left out, and is found without

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

    def test_what_is_about_to_come_counts_as_come_or_does_not(self, bench: Bench) -> None:
        store = planned(bench, "a", "b", "later")
        bench.edit("b", overlap="skip")
        bench.edit("later", next_run_at=bench.clock.now() + EVERY + 2 * A_MOMENT)
        soon = bench.clock.now() + EVERY
        bench.clock.set(soon - A_MOMENT)

        early = claim(store, until=soon)
        assert names(early) in ([], ["a"])
        if early.claimed:
            assert soon == early.now
            comes_in = early.not_before - bench.clock.monotonic()
            assert abs(comes_in - A_MOMENT.total_seconds()) < 1e-6
        bench.clock.set(soon)
        then = claim(store, until=soon)

        assert (["a", "b"], 0.0) == (sorted(names(early) + names(then)), then.not_before)
        assert all(held.claimed_at == soon for held in (*early.claimed, *then.claimed))
        assert 2 == len(bench.runs())

    def test_what_is_off_or_gone_is_not_to_run(self, bench: Bench) -> None:
        store = bench.store()
        once = code("once", schedule=schedules.parse(bench.clock.now() + EVERY))
        register(store, once, *map(code, ("on", "off", "gone", "last")))
        bench.edit("last", max_runs=1)
        all_claimed(store)
        due = bench.clock.advance(2 * EVERY)
        runs = {held.run.routine_name: held.run.routine_id for held in claim(store).claimed}
        assert {"once", "on", "off", "gone", "last"} == set(runs)
        assert frozenset() == store.stopped(runs.values(), at=due)

        bench.edit("off", active=False)
        store.leave()
        register(bench.store(), once, *map(code, ("on", "off", "last")))

        assert {runs["off"], runs["gone"]} == store.stopped(runs.values(), at=due)
        assert {runs["gone"]} == store.stopped([runs["gone"]], at=due)
        assert frozenset() == store.stopped((), at=due)

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

    def test_a_batch_ends_after_so_many_runs_and_nothing_is_left_out(self, bench: Bench) -> None:
        store = planned(bench, "a", "b")
        bench.clock.advance(EVERY)

        def three(routine: Routine, now: datetime) -> Decision:
            backlog = (Occurrence(now + number * SECOND, Cause.CATCH_UP) for number in range(3))
            return Decision(tuple(backlog), (), now + EVERY, now + EVERY)

        batches = [claim(store, three, limit=2) for _ in range(2)]

        assert [3, 3] == [len(batch.claimed) for batch in batches]
        assert [["a"] * 3, ["b"] * 3] == sorted(names(batch) for batch in batches)
        assert batches[0].more
        assert not store.look().to_claim

    def test_no_more_rows_are_looked_at_than_asked_for(self, bench: Bench) -> None:
        store = planned(bench, "a", "b", "c")
        bench.clock.advance(EVERY)
        decided = []

        def nothing(routine: Routine, now: datetime) -> Decision:
            decided.append(routine.name)
            return Decision((), (), now + EVERY, now + EVERY)

        batches = [claim(store, nothing, limit=2) for _ in range(2)]

        assert ["a", "b", "c"] == sorted(decided)
        assert ([2, 1], [True, False]) == (
            [batch.rows for batch in batches],
            [batch.more for batch in batches],
        )

    def test_what_is_repeated_takes_its_routine_on_all_the_same(self, bench: Bench) -> None:
        store = planned(bench, "a")
        bench.clock.advance(EVERY)
        pending = bench.clock.now()

        def again(routine: Routine, now: datetime, *, after: datetime = pending) -> Decision:
            return Decision((Occurrence(pending, Cause.SCHEDULE),), (), after, after)

        (first,) = ids(claim(store, again))
        batch = claim(store, partial(again, after=pending + EVERY))

        assert (first,) == batch.repeated
        assert (pending + EVERY, False) == (store.look().next_run_at, store.look().to_claim)

    def test_a_claim_counts_and_is_dated(self, bench: Bench) -> None:
        store = planned(bench, "a")
        seen = []
        for _ in range(2):
            bench.clock.advance(EVERY)
            batch = claim(store)
            (held,) = batch.claimed
            assert (bench.clock.now(), bench.clock.now()) == (batch.now, held.claimed_at)
            seen.append(held.routine)

        first, second = seen
        assert first is not None
        assert second is not None
        assert (0, None) == (first.total_run_count, first.last_run_at)
        assert (1, bench.clock.now() - EVERY) == (second.total_run_count, second.last_run_at)
        assert second.occurrence_at == second.next_run_at == bench.clock.now()

    def test_a_namespace_is_claimed_and_rescued_by_its_own(self, bench: Bench) -> None:
        mine, others = bench.store(), bench.store("other")
        reconcile(mine, "a")
        reconcile(others, "b")
        assert [[], []] == [ids(claim(store)) for store in (mine, others)]
        bench.clock.advance(EVERY)

        assert ["a"] == names(claim(mine))
        view = others.look()
        assert (True, None) == (view.to_claim, view.oldest_claim_at)
        assert not mine.look().to_claim
        (run,) = ids(claim(others))
        bench.clock.advance(RESCUED_AFTER)

        assert [run] == rescued(others)
