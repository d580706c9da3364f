"""What every ledger has to do for workers."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest

from ..routines import State
from ..storage.values import Begun, Fate
from .bench import (
    FOUGHT_FOR,
    LOST_AFTER,
    SECOND,
    SIDE_BY_SIDE,
    Bench,
    at_once,
    begin,
    claimed,
    in_state,
    sweep,
    swept,
)


class WorkingConformance:
    """Beginning and ending."""

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

    @pytest.mark.parametrize(
        "state",
        [
            State.RUNNING,
            State.RETRYING,
            State.LOST,
            State.SUCCEEDED,
            State.FAILED,
            State.SKIPPED,
            State.MISSED,
        ],
    )
    def test_what_has_begun_or_is_over_is_not_begun(self, bench: Bench, state: State) -> None:
        run, mine = in_state(bench, state)

        assert Begun.DUPLICATE is begin(bench.ledger(), run)
        assert {run: state} == bench.runs()
        if state is not State.RUNNING:
            assert Begun.DUPLICATE is begin(bench.ledger(), run, mine)

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.SKIPPED, State.MISSED])
    def test_what_is_over_is_begun_by_no_number_of_retries(
        self, bench: Bench, state: State
    ) -> None:
        run, _ = in_state(bench, state)

        assert Begun.DUPLICATE is begin(bench.ledger(), run, retries=5, again=True)
        assert {run: state} == bench.runs()

    @pytest.mark.parametrize("state", [State.RUNNING, State.RETRYING, State.LOST])
    def test_the_next_attempt_may_begin_before_the_end_of_the_last_is_known(
        self, bench: Bench, state: State
    ) -> None:
        run, mine = in_state(bench, state)
        ledger = bench.ledger()

        assert Begun.BEGUN is begin(ledger, run, retries=1)
        assert Begun.DUPLICATE is begin(ledger, run, retries=1)
        assert not ledger.end(run, mine, State.FAILED)
        assert {run: State.RUNNING} == bench.runs()

    def test_a_late_message_of_an_attempt_that_is_over_begins_nothing(self, bench: Bench) -> None:
        run, mine = in_state(bench, State.RETRYING)
        ledger, second = bench.ledger(), uuid4()
        begin(ledger, run, second, retries=1)
        assert ledger.end(run, second, State.SENT)
        assert {run: State.SENT} == bench.runs()

        assert not ledger.end(run, second, State.FAILED)
        assert Begun.DUPLICATE is begin(ledger, run, mine)
        assert Begun.BEGUN is begin(ledger, run, retries=1)

    @pytest.mark.parametrize("begun", [True, False])
    def test_a_run_that_is_lost_begins_again_if_it_is_to(self, bench: Bench, begun: bool) -> None:
        run, mine = in_state(bench, State.LOST, begun=begun)
        ledger = bench.ledger()

        assert Begun.BEGUN is begin(ledger, run, again=True)
        assert not ledger.end(run, mine, State.FAILED)
        assert {run: State.RUNNING} == bench.runs()

    @pytest.mark.parametrize(
        ("silent", "again", "found", "state"),
        [
            (False, False, Begun.DUPLICATE, State.RUNNING),
            (False, True, Begun.OWNED, State.RUNNING),
            (True, False, Begun.LOST, State.LOST),
            (True, True, Begun.BEGUN, State.RUNNING),
        ],
    )
    def test_who_comes_second_takes_over_from_who_is_silent(
        self, bench: Bench, silent: bool, again: bool, found: Begun, state: State
    ) -> None:
        run, mine = in_state(bench, State.RUNNING)
        ledger = bench.ledger()
        bench.clock.advance(LOST_AFTER)
        if not silent:
            assert 1 == ledger.beat([(run, mine)], "worker")

        assert Begun.DUPLICATE is begin(ledger, run, again=again)
        assert found is begin(ledger, run, again=again, lost_after=LOST_AFTER)

        assert {run: state} == bench.runs()
        assert (found is not Begun.BEGUN) == ledger.end(run, mine, State.SUCCEEDED)

    def test_what_is_lost_is_ended_by_the_attempt_that_it_was_lost_in(self, bench: Bench) -> None:
        run, mine = in_state(bench, State.LOST)
        ledger = bench.ledger()

        assert not ledger.end(run, uuid4(), State.SUCCEEDED)
        assert ledger.end(run, mine, State.SUCCEEDED)
        assert {run: State.SUCCEEDED} == bench.runs()

    @pytest.mark.parametrize("overtaken", [False, True])
    def test_what_is_sent_again_is_ended_by_the_attempt_before_while_there_is_no_other(
        self, bench: Bench, overtaken: bool
    ) -> None:
        run, mine = in_state(bench, State.RUNNING)
        ledger = bench.ledger()
        bench.clock.advance(LOST_AFTER + SECOND)
        sweep(bench.store(), bench, "again")
        if overtaken:
            begin(ledger, run)

        assert (not overtaken) == ledger.end(run, mine, State.SUCCEEDED)
        assert {run: State.RUNNING if overtaken else State.SUCCEEDED} == bench.runs()

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.RETRYING])
    def test_an_end_that_is_told_stands(self, bench: Bench, state: State) -> None:
        run, mine = in_state(bench, state)
        ledger = bench.ledger()

        assert ledger.end(run, mine, state)
        other = State.FAILED if state is State.SUCCEEDED else State.SUCCEEDED
        assert not ledger.end(run, mine, other)
        assert not ledger.end(uuid4(), mine, other)
        assert {run: state} == bench.runs()

    def test_an_end_that_is_told_late_is_as_old_as_that(self, bench: Bench) -> None:
        run, mine = in_state(bench, State.RUNNING)
        store, now = bench.store(), bench.clock.now()

        assert bench.ledger().end(run, mine, State.SUCCEEDED, ago=60.0)

        assert 0 == store.prune(now - timedelta(seconds=60), now, limit=100)
        assert 1 == store.prune(now - timedelta(seconds=59), now, limit=100)

    @pytest.mark.parametrize(("again", "state"), [(False, State.LOST), (True, State.SENT)])
    def test_a_run_whose_process_is_gone_is_lost(
        self, bench: Bench, again: bool, state: State
    ) -> None:
        run, mine = in_state(bench, State.RUNNING)
        ledger = bench.ledger()
        assert Fate.OVER is ledger.lose(run, uuid4(), retries=0, reason="killed", again=again)
        assert {run: State.RUNNING} == bench.runs()

        fates = [ledger.lose(run, mine, retries=0, reason="killed", again=again) for _ in range(2)]

        assert [Fate.LOST] * 2 == fates
        assert {run: state} == bench.runs()
        assert (Begun.BEGUN if again else Begun.DUPLICATE) is begin(ledger, run)

    @pytest.mark.parametrize(
        ("state", "fate"),
        [
            (State.CLAIMED, Fate.UNSTARTED),
            (State.SENT, Fate.UNSTARTED),
            (State.RETRYING, Fate.OVER),
            (State.SUCCEEDED, Fate.OVER),
            (State.SKIPPED, Fate.OVER),
        ],
    )
    def test_a_run_that_had_not_begun_in_that_process_may_still(
        self, bench: Bench, state: State, fate: Fate
    ) -> None:
        run, _ = in_state(bench, state)
        ledger = bench.ledger()

        assert fate is ledger.lose(run, uuid4(), retries=0, reason="killed")
        assert {run: state} == bench.runs()
        assert Fate.OVER is ledger.lose(uuid4(), uuid4(), retries=0, reason="killed")

    def test_what_has_ended_is_not_lost_with_its_process(self, bench: Bench) -> None:
        run, mine = in_state(bench, State.SUCCEEDED)

        assert Fate.OVER is bench.ledger().lose(run, mine, retries=0, reason="killed")
        assert {run: State.SUCCEEDED} == bench.runs()

    @pytest.mark.parametrize(
        ("state", "retries", "dropped", "after"),
        [
            (State.CLAIMED, 0, State.SKIPPED, State.SKIPPED),
            (State.SENT, 0, State.SKIPPED, State.SKIPPED),
            (State.SENT, 0, State.LOST, State.LOST),
            (State.RETRYING, 1, State.SKIPPED, State.FAILED),
            (State.RETRYING, 1, State.LOST, State.LOST),
            # The message of an attempt that is over; begun, or over.
            (State.RETRYING, 0, State.SKIPPED, None),
            (State.RUNNING, 1, State.SKIPPED, None),
            (State.SUCCEEDED, 1, State.FAILED, None),
            (State.LOST, 1, State.SKIPPED, None),
            (State.MISSED, 0, State.SKIPPED, None),
        ],
    )
    def test_a_message_that_nobody_will_begin_ends_its_run(
        self, bench: Bench, state: State, retries: int, dropped: State, after: State | None
    ) -> None:
        run, _ = in_state(bench, state)
        ledger = bench.ledger()

        found = ledger.drop(run, dropped, retries=retries, reason="revoked")

        assert ((after is not None), {run: after or state}) == (found, bench.runs())
        assert not ledger.drop(uuid4(), dropped, retries=retries, reason="revoked")

    def test_a_run_that_was_lost_unbegun_is_dropped_but_not_lost_once_more(
        self, bench: Bench
    ) -> None:
        run, _ = in_state(bench, State.LOST, begun=False)
        ledger = bench.ledger()

        assert not ledger.drop(run, State.LOST, retries=0, reason="revoked")
        assert ledger.drop(run, State.SKIPPED, retries=0, reason="revoked")
        assert {run: State.SKIPPED} == bench.runs()

    def test_a_worker_beats_for_what_it_runs_alone(self, bench: Bench) -> None:
        run, mine = in_state(bench, State.RUNNING)
        ledger = bench.ledger()
        bench.clock.advance(LOST_AFTER)

        assert 0 == ledger.beat([(run, mine)], "another")
        assert 0 == ledger.beat([(run, uuid4()), (uuid4(), None)], "worker")
        bench.clock.advance(SECOND)
        assert [run] == swept(bench.store(), bench)
        assert 0 == ledger.beat([(run, mine)], "worker")

    def test_a_beat_may_not_know_the_attempt(self, bench: Bench) -> None:
        run, _ = in_state(bench, State.RUNNING)
        bench.clock.advance(LOST_AFTER)

        assert 1 == bench.ledger().beat([(run, None)], "worker")
        bench.clock.advance(SECOND)
        assert [] == swept(bench.store(), bench)

    def test_whose_a_run_is_is_told_and_what_time_it_is(self, bench: Bench) -> None:
        run, _ = in_state(bench, State.RUNNING)
        ledger = bench.ledger()

        assert [("a", "worker"), ("", "")] == [ledger.owner(run), ledger.owner(uuid4())]
        assert bench.clock.now() == ledger.now()
