"""What every store has to do with runs that got stuck, and with those that are over."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from ..rescue import WINDOW, Unbegun, Verdict
from ..routines import State
from ..storage.values import Begun, Walk
from .bench import (
    EVERY,
    LOST_AFTER,
    SECOND,
    Bench,
    begin,
    claim,
    claimed,
    code,
    gives_up,
    ids,
    in_state,
    redeliver,
    register,
    sends_again,
    survey,
    sweep,
    swept,
)


class SweepingConformance:
    """What is lost or sent again, and what is kept."""

    def test_a_run_whose_worker_is_silent_is_lost_once(self, bench: Bench) -> None:
        store, (silent, beaten) = claimed(bench, "silent", "beaten")
        ledger, mine = bench.ledger(), uuid4()
        begin(ledger, silent)
        begin(ledger, beaten, mine)
        bench.clock.advance(LOST_AFTER - SECOND)
        assert 1 == ledger.beat([(beaten, mine)], "worker")
        assert [] == swept(store, bench)
        bench.clock.advance(2 * SECOND)
        assert survey(store, bench).silent

        assert [silent] == swept(store, bench)
        assert [] == swept(bench.store(), bench)
        assert {silent: State.LOST, beaten: State.RUNNING} == bench.runs()
        assert not survey(store, bench).silent

    def test_a_run_that_begins_again_is_sent_again(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        begin(bench.ledger(), run)
        bench.clock.advance(LOST_AFTER + SECOND)

        found = store.sweep(
            lambda task: "again",
            now=bench.clock.now(),
            lost_after=LOST_AFTER,
            limit=100,
            may_send=True,
        )

        assert [run] == [held.run.id for held in found.again]
        assert {run: State.SENT} == bench.runs()
        assert Begun.BEGUN is begin(bench.ledger(), run)

    def test_a_run_that_nobody_begins_is_lost_and_still_begins(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        store.confirm([run])
        bench.clock.advance(LOST_AFTER)

        found = redeliver(store, bench, gives_up)

        assert [run] == [UUID(lost.run_id) for lost in found.lost]
        assert {run: State.LOST} == bench.runs()
        assert Begun.BEGUN is begin(bench.ledger(), run)

    def test_what_is_to_begin_again_waits_for_the_broker(self, bench: Bench) -> None:
        run, _ = in_state(bench, State.RUNNING)
        store = bench.store()
        bench.clock.advance(LOST_AFTER + SECOND)

        for fate, sends, lost, again in (
            ("again", False, 0, 0),
            ("again", True, 1, 1),
            ("again", True, 0, 0),
        ):
            found = sweep(store, bench, fate, sends=sends)
            assert (lost, again) == (len(found.lost), len(found.again))
            assert all(each.again for each in found.lost)
        assert {run: State.SENT} == bench.runs()

    def test_a_run_that_falls_silent_again_is_told_again_with_its_number(
        self, bench: Bench
    ) -> None:
        run, _ = in_state(bench, State.RETRYING)
        store, ledger = bench.store(), bench.ledger()
        begin(ledger, run, retries=1)
        for _ in range(2):
            bench.clock.advance(LOST_AFTER + SECOND)
            (again,) = sweep(store, bench, "again").again
            assert (run, 1) == (again.run.id, again.retries)
            assert Begun.BEGUN is begin(ledger, run, retries=1)

    def test_a_sweep_is_bounded(self, bench: Bench) -> None:
        store, runs = claimed(bench, "a", "b", "c")
        for run in runs:
            begin(bench.ledger(), run)
        bench.clock.advance(LOST_AFTER + SECOND)

        batches = [sweep(store, bench, limit=2) for _ in range(3)]

        assert [2, 1, 0] == [len(batch.lost) for batch in batches]

    def test_what_is_sent_again_stays_as_it_is_and_counts(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        claimed_at = bench.clock.now()
        sent_at = bench.clock.advance(SECOND)
        store.confirm([run])
        seen: list[Unbegun] = []

        def judge(task: str, unbegun: Unbegun) -> Verdict:
            seen.append(unbegun)
            return Verdict()

        for attempts in (1, 2):
            (again,) = redeliver(store, bench, judge).again
            assert (run, 0) == (again.run.id, again.retries)
            assert (attempts, sent_at, claimed_at) == (
                seen[-1].publish_attempts,
                seen[-1].since,
                seen[-1].claimed_at,
            )
            assert {run: State.SENT} == bench.runs()
        assert Begun.BEGUN is begin(bench.ledger(), run)
        assert () == redeliver(store, bench, sends_again).again

    def test_what_is_put_back_is_as_young_as_that(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        store.confirm([run])
        ledger, mine = bench.ledger(), uuid4()
        bench.clock.advance(60)
        begin(ledger, run, mine)
        begun_at = bench.clock.now()
        ledger.end(run, mine, State.SENT)
        seen = []

        redeliver(store, bench, lambda _, unbegun: seen.append(unbegun.since))

        assert [begun_at] == seen

    def test_what_was_put_off_is_not_a_second_time(self, bench: Bench) -> None:
        store = bench.store()
        register(store, code("a", options={"countdown": 3, "queue": "q"}))
        claim(store)
        bench.clock.advance(EVERY)
        (run,) = claim(store).claimed
        assert {"countdown": 3, "queue": "q"} == run.run.options
        store.confirm([run.run.id])

        (again,) = redeliver(store, bench, sends_again).again

        assert {"queue": "q"} == again.run.options

    def test_a_retry_that_does_not_come_is_sent_again_with_the_next_number(
        self, bench: Bench
    ) -> None:
        run, mine = in_state(bench, State.RUNNING)
        store, ledger = bench.store(), bench.ledger()
        ledger.end(run, mine, State.RETRYING, due=7.0)
        due = bench.clock.now() + 7 * SECOND
        seen = []

        def judge(task: str, unbegun: Unbegun) -> Verdict:
            seen.append(unbegun.since)
            return Verdict()

        (again,) = redeliver(store, bench, judge, State.RETRYING).again

        assert (1, {due}) == (again.retries, set(seen))
        assert {run: State.RETRYING} == bench.runs()
        redeliver(store, bench, gives_up, State.RETRYING)
        assert {run: State.LOST} == bench.runs()
        # What is lost is the attempt that has not begun: only its message begins the run.
        assert Begun.DUPLICATE is begin(ledger, run)
        assert not ledger.end(run, mine, State.SUCCEEDED)
        assert Begun.BEGUN is begin(ledger, run, retries=1)

    def test_a_retry_may_be_due_at_an_instant(self, bench: Bench) -> None:
        run, mine = in_state(bench, State.RUNNING)
        due = bench.clock.now() + timedelta(hours=1)
        bench.ledger().end(run, mine, State.RETRYING, due=due)
        seen = []

        redeliver(bench.store(), bench, lambda _, run: seen.append(run.since), State.RETRYING)

        assert [due] == seen

    def test_a_walk_goes_on_where_it_ended_and_looks_at_each_once(self, bench: Bench) -> None:
        store, runs = claimed(bench, "a", "b", "c")
        store.confirm(runs)
        seen = []

        def judge(task: str, unbegun: Unbegun) -> None:
            seen.append(task)

        first = redeliver(store, bench, judge, looks_at=2)
        assert (2, True) == (len(seen), first.place is not None)
        second = redeliver(store, bench, judge, after=first.place, looks_at=2)

        assert ["task.a", "task.b", "task.c"] == sorted(seen)
        assert second.place is None

    def test_a_walk_ends_after_so_many_runs_that_it_acts_on(self, bench: Bench) -> None:
        store, runs = claimed(bench, "a", "b", "c")
        store.confirm(runs)

        first = redeliver(store, bench, gives_up, limit=2)
        second = redeliver(store, bench, gives_up, after=first.place, limit=2)

        assert [2, 1] == [len(found.lost) for found in (first, second)]
        assert {State.LOST} == set(bench.runs().values())

    def test_a_walk_passes_by_what_was_claimed_just_now(self, bench: Bench) -> None:
        store, (run,) = claimed(bench, "a")
        store.confirm([run])
        walk = Walk(State.SENT, bench.clock.now() - SECOND, None, 100)

        assert () == store.redeliver(gives_up, walk, limit=100).lost

    def test_of_a_long_queue_only_the_beginning_is_sent_again(self, bench: Bench) -> None:
        store = bench.store()
        register(store, *(code(f"r{number}", task="task") for number in range(WINDOW + 2)))
        claim(store)
        bench.clock.advance(EVERY)
        store.confirm(ids(claim(store)))

        first = redeliver(store, bench, sends_again, looks_at=WINDOW + 1, limit=WINDOW + 2)
        second = redeliver(store, bench, sends_again, after=first.place)

        assert (WINDOW, 0) == (len(first.again), len(second.again))
