"""A scheduler or worker that is stopped between any two of its steps changes nothing."""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from processes import ROOT

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.store.connections import make_engine

HERE = Path(__file__).parent


@pytest.fixture
def stepping(processes, redis_url):
    """Starts a script of steps; returns what gives, once it has ended, what it told of each step."""

    def start(kind, database, *part):
        child = processes.start(
            kind,
            *(sys.executable, HERE / f"{kind}_steps.py"),
            *(database.render_as_string(hide_password=False), redis_url, *part),
            env={"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        )

        def told():
            assert 0 == child.wait(240)
            lines = child.output().splitlines()
            return [json.loads(line) for line in lines if line.startswith("{")]

        return told

    return start


def test_a_scheduler_may_die_between_any_two_steps_on_sqlite(stepping, sqlite):
    other = sqlite.set(database=f"{sqlite.database}-2")

    check([stepping("scheduler", sqlite, 0, 2), stepping("scheduler", other, 1, 2)])


def test_a_scheduler_may_die_between_any_two_steps_on_postgresql(stepping, postgresql):
    migrations.migrate(engine := make_engine(postgresql))
    engine.dispose()

    check([stepping("scheduler", postgresql, part, 2) for part in (0, 1)])


def check(parts):
    *died, _, unharmed = sorted(
        (told for part in parts for told in part()),
        key=lambda told: (told["code"] == 0, told["step"]),
    )
    assert 30 < len(died)
    assert {9} == {told["code"] for told in died}
    for told in (*died, unharmed):
        assert RUNS == told["runs"], told["step"]
        assert (0, [], []) == (told["after"], told["unsent"], told["miscounted"]), told["step"]


RUNS = {
    "interval": ["0.5 s: sent 1", "1 s: sent 1"],
    "jittered": ["1 s: sent 1"],
    "late": [f"{n} s: sent 1" for n in (-4, -3, -2, -1, 0, 1)],
    "once": ["1 s: sent 1"],
    "twice": ["0.5 s: sent 1", "1 s: sent 1"],
    "queue": ["0.5 s: accounted for", "1 s: accounted for"],
    "skip": ["0.5 s: accounted for", "1 s: accounted for"],
}


def test_a_worker_may_die_between_any_two_steps(stepping, postgresql):
    told = defaultdict(list)
    for each in stepping("worker", postgresql)():
        told[each["task"]].append(each)

    for task, steps in told.items():
        died = [each for each in steps if each["code"] == 9]
        assert len(died) >= 7  # received, prerun, begin, body, postrun, end, acknowledged
        for each in steps:
            assert each["state"] in ("succeeded", "lost"), each
            assert each["done"] <= each["begin"] <= each["attempts"], each
            if each["state"] == "succeeded":
                assert each["done"], each
            else:
                assert each["reason"].startswith("no beat of worker"), each
            if task == "again":
                assert "succeeded" == each["state"], each
            else:
                assert each["begin"] <= 1, each
            if each["code"] == 0:
                assert ("succeeded", 1) == (each["state"], each["done"]), each
        states = {each["state"] for each in died}
        assert ({"succeeded"} if task == "again" else {"succeeded", "lost"}) == states
