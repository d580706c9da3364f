"""A short form of what `harness` does for as long as you like."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness import Plan, report, try_out

SHORT = Plan(seconds=18, seed=1, schedulers=3, workers=2, routines=60, rate=10, pause=2)


@pytest.fixture
def home(tmp_path_factory, _redis_server, _postgresql_server):
    """A directory for the servers of one trial, where there are servers to be had."""
    return tmp_path_factory.mktemp("trial")


@pytest.mark.parametrize("keeps", [True, False], ids=["keeps", "forgets"])
def test_nothing_is_lost_and_nothing_runs_twice(home, keeps):
    verdict = try_out(replace(SHORT, keeps=keeps), home)

    assert [] == verdict.wrong, report(verdict)
    assert 50 < verdict.states["succeeded"]
