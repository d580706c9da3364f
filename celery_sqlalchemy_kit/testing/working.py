"""What a store has to pass once workers have to do with it."""

from __future__ import annotations

from functools import partial
from uuid import UUID, uuid4

from .. import rescue
from ..routines import Run, State
from ..storage.values import Begun, Walk
from .bench import (
    EVERY,
    FOUGHT_FOR,
    LOST_AFTER,
    SECOND,
    SIDE_BY_SIDE,
    Bench,
    at_once,
    begin,
    claim,
    claimed,
    ids,
    planned,
    released,
    survey,
    swept,
)


class WorkingConformance:
    """Beginning and ending, what gets stuck, and what is kept."""

    # -- workers --

    def test_a_run_is_begun_once(self, bench: Bench) -> None:
        store, runs = claimed(bench, *(f"r{number}" for number in range(FOUGHT_FOR // 4)))
        store.confirm(runs)
        ledgers = [bench.ledger() for _ in range(SIDE_BY_SIDE)]
        for run in runs:
            begun = at_once([partial(begin, ledger, run) for ledger in ledgers])

            assert 1 == begun.count(Begun.BEGUN)
            assert SIDE_BY_SIDE - 1 == begun.count(Begun.DUPLICATE)

    def test_who_asks_again_has_begun_and_who_is_late_has_not(self, bench: Bench) -> None:
        _, (run,) = claimed(bench, "a")
        ledger, mine = bench.ledger(), uuid4()
        assert [Begun.BEGUN] * 2 == [begin(ledger, run, mine) for _ in range(2)]
        assert ledger.end(run, mine, State.SUCCEEDED)

        assert Begun.DUPLICATE is begin(ledger, run)
        assert Begun.UNKNOWN is begin(ledger, uuid4())

    def test_a_run_is_ended_by_the_attempt_that_began_it(self, bench: Bench) -> None:
        _, (run,) = claimed(bench, "a")
        ledger, mine = bench.ledger(), uuid4()
        begin(ledger, run, mine)

        assert not ledger.end(run, uuid4(), State.FAILED)
        assert {run: State.RUNNING} == bench.runs()
        assert [True] * 2 == [ledger.end(run, mine, State.SUCCEEDED) for _ in range(2)]
        assert not ledger.end(run, uuid4(), State.FAILED)
        assert {run: State.SUCCEEDED} == bench.runs()

    def test_a_retry_is_begun_by_its_higher_number(self, bench: Bench) -> None:
        _, (run,) = claimed(bench, "a")
        ledger, mine = bench.ledger(), uuid4()
        begin(ledger, run, mine)
        assert ledger.end(run, mine, State.RETRYING, due=5.0)

        assert Begun.DUPLICATE is begin(ledger, run)
        assert Begun.BEGUN is begin(ledger, run, retries=1)
        assert {run: State.RUNNING} == bench.runs()

    # -- what gets stuck --

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
        verdict = rescue.Verdict(State.LOST, "nobody began it")
        walk = Walk(State.SENT, bench.clock.now(), None, 100)

        found = store.redeliver(lambda task, unbegun: verdict, walk, limit=100)

        assert [run] == [UUID(lost.run_id) for lost in found.lost]
        assert {run: State.LOST} == bench.runs()
        assert Begun.BEGUN is begin(bench.ledger(), run)

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

    # -- what is kept --

    def test_only_what_ended_is_pruned(self, bench: Bench) -> None:
        store, (ended, running, sent, left) = claimed(bench, "a", "b", "c", "d")
        ledger, mine = bench.ledger(), uuid4()
        begin(ledger, ended, mine)
        ledger.end(ended, mine, State.SUCCEEDED)
        begin(ledger, running)
        store.confirm([sent])
        before = bench.clock.now()
        assert 0 == store.prune(before - SECOND, before, limit=100)
        bench.clock.advance(3600)

        assert 1 == store.prune(bench.clock.now(), before, limit=100)
        assert {running, sent, left} == set(bench.runs())
        assert 0 == store.prune(bench.clock.now(), before, limit=100)

    def test_the_newest_ended_runs_of_a_routine_are_kept(self, bench: Bench) -> None:
        store, ledger = planned(bench, "a"), bench.ledger()
        runs: list[Run] = []
        for _ in range(4):
            bench.clock.advance(EVERY)
            runs += [held.run for held in claim(store).claimed]
        for run in runs[:3]:
            mine = uuid4()
            begin(ledger, run.id, mine)
            ledger.end(run.id, mine, State.SUCCEEDED)
        routine_id = runs[0].routine_id
        assert store.surplus(routine_id, keep=3) is None

        until = store.surplus(routine_id, keep=1)

        assert runs[1].scheduled_for == until
        assert until is not None
        assert 2 == store.prune_surplus(routine_id, until, limit=100)
        assert {run.id for run in runs[2:]} == set(bench.runs())
