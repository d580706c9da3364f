"""What every store has to see that there is to tidy up, and what it has to keep."""

from __future__ import annotations

from uuid import uuid4

import pytest

from ..routines import ENDED, Run, State
from .bench import (
    EVERY,
    LOST_AFTER,
    SECOND,
    Bench,
    begin,
    claim,
    claimed,
    gives_up,
    in_state,
    planned,
    redeliver,
    survey,
    swept,
)


class KeepingConformance:
    """The survey, and what is pruned."""

    @pytest.mark.parametrize(
        ("state", "seen"),
        [
            (State.CLAIMED, None),
            (State.SENT, "sent"),
            (State.RUNNING, "silent"),
            (State.RETRYING, "retrying"),
            (State.SUCCEEDED, "old"),
            (State.MISSED, "old"),
        ],
    )
    def test_what_there_is_to_tidy_up_is_seen(
        self, bench: Bench, state: State, seen: str | None
    ) -> None:
        in_state(bench, state)
        store, others = bench.store(), bench.store("other")
        kinds = ("silent", "sent", "retrying", "old")
        bench.clock.advance(LOST_AFTER - SECOND)
        assert not any(getattr(survey(store, bench), kind) for kind in kinds)
        bench.clock.advance(2 * SECOND)

        found = survey(store, bench)

        assert ([seen] if seen else []) == [kind for kind in kinds if getattr(found, kind)]
        assert not any(getattr(survey(others, bench), kind) for kind in kinds)

    def test_a_namespace_is_tidied_up_by_its_own(self, bench: Bench) -> None:
        store, (ended, silent, sent) = claimed(bench, "a", "b", "c")
        ledger, others, mine = bench.ledger(), bench.store("other"), uuid4()
        begin(ledger, ended, mine)
        ledger.end(ended, mine, State.SUCCEEDED)
        begin(ledger, silent)
        store.confirm([sent])
        before = dict(bench.runs())
        bench.clock.advance(LOST_AFTER + SECOND)
        now = bench.clock.now()

        assert [] == swept(others, bench)
        assert () == redeliver(others, bench, gives_up).lost
        assert 0 == others.prune(now, now, limit=100)
        assert before == bench.runs()

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

    def test_what_is_pruned_is_bounded(self, bench: Bench) -> None:
        store, runs = claimed(bench, "a", "b", "c")
        for run in runs:
            bench.ledger().drop(run, State.SKIPPED, retries=0, reason="revoked")
        bench.clock.advance(SECOND)
        now = bench.clock.now()

        assert [2, 1, 0] == [store.prune(now, now, limit=2) for _ in range(3)]

    @pytest.mark.parametrize("state", [state for state in State if state is not State.WAITING])
    def test_what_has_ended_in_whatever_way_is_pruned_and_nothing_else(
        self, bench: Bench, state: State
    ) -> None:
        in_state(bench, state)
        bench.clock.advance(3600)
        now = bench.clock.now()

        assert (state in ENDED) == (1 == bench.store().prune(now, now, limit=100))

    def test_what_was_lost_and_has_begun_again_is_not_pruned(self, bench: Bench) -> None:
        run, _ = in_state(bench, State.LOST)
        begin(bench.ledger(), run, again=True)
        bench.clock.advance(3600)
        now = bench.clock.now()

        assert 0 == bench.store().prune(now, now, limit=100)
        assert {run: State.RUNNING} == bench.runs()
