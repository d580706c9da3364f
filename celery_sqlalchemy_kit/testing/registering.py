"""What every store has to make of what the code declares."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from ..routines import State
from .bench import (
    EVERY,
    SECOND,
    SIDE_BY_SIDE,
    Bench,
    all_claimed,
    at_once,
    claim,
    code,
    ids,
    names,
    planned,
    reconcile,
    register,
)


class RegisteringConformance:
    """Code and table, and which schedulers there are."""

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

    def test_a_routine_that_comes_back_goes_on_and_what_it_missed_is_not_caught_up(
        self, bench: Bench
    ) -> None:
        store = planned(bench, "a")
        bench.clock.advance(EVERY)
        (before,) = claim(store).claimed
        register(store, code("b"))
        assert ["b"] == list(bench.routines())
        bench.clock.advance(100 * EVERY)

        plan = register(store, code("a", task="moved"), code("b"))

        assert ["a"] == [routine.name for routine in plan.restore]
        bench.edit("b", active=False)
        assert store.look().to_claim
        assert [] == ids(claim(store))
        assert [State.CLAIMED] == list(bench.runs().values())
        bench.clock.advance(EVERY)
        (after,) = claim(store).claimed
        assert before.run.routine_id == after.run.routine_id
        assert "moved" == after.run.task
        assert after.routine is not None
        assert 1 == after.routine.total_run_count

    def test_a_task_that_moves_in_the_code_moves_at_once(self, bench: Bench) -> None:
        store = planned(bench, "a")

        plan = register(store, code("a", task="moved"))

        assert [("a", "moved")] == [(row.name, task) for row, task in plan.retask]
        bench.clock.advance(EVERY)
        assert ["moved"] == [held.run.task for held in claim(store).claimed]

    def test_a_schedule_that_nobody_edited_follows_the_code_if_it_is_to(self, bench: Bench) -> None:
        store = planned(bench, "edited", "plain")
        bench.edit("edited", schedule={"timedelta": 3600})

        def follows(seconds: int, *, merge: bool = True) -> list[str]:
            declared = [code(name, seconds * SECOND) for name in ("edited", "plain")]
            return [row.name for row, _ in register(store, *declared, merge=merge).follow]

        assert [] == follows(20, merge=False)
        assert [["plain"], []] == [follows(20) for _ in range(2)]
        assert ["plain"] == follows(500)
        all_claimed(store)
        bench.clock.advance(EVERY)
        all_claimed(store)  # the occurrence that was pending may stay so
        bench.clock.advance(20 * EVERY)
        assert [] == all_claimed(store)

    def test_what_is_declared_no_longer_is_only_switched_off_if_it_is_to(
        self, bench: Bench
    ) -> None:
        store = planned(bench, "a", "b")

        assert not register(store, code("a"), removal="keep").deactivate
        plan = register(store, code("a"), removal="deactivate")

        assert ["b"] == [row.name for row in plan.deactivate]
        assert ["a", "b"] == sorted(bench.routines())
        bench.clock.advance(EVERY)
        assert ["a"] == names(claim(store))

    def test_namespaces_know_nothing_of_each_other(self, bench: Bench) -> None:
        mine, others = bench.store(), bench.store("other")
        reconcile(mine, "a", "b")

        plan = reconcile(others, "b")
        assert (1, ()) == (len(plan.insert), plan.held)
        assert ["a", "b", "b"] == sorted(bench.routines())

        # The other's "b" keeps nothing of mine, nor is mine what comes back there.
        assert ["b"] == [row.name for row in reconcile(mine, "a").remove]
        assert ["a"] == [routine.name for routine in reconcile(others, "a", "b").insert]
        assert ["a", "a", "b"] == sorted(bench.routines())
