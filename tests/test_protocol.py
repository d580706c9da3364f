"""The promises hold in every order of events, up to three kills included; and each rule is needed.

What is idealised is said in `protocol`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from protocol import ENDED, Message, Row, Rules, Violation, World, start, walk

#: From where to where a run may move. From ``sent`` to an end, if it was sent again as its worker
#: was silent, and that one ends it after all.
MOVES = {
    "due": {"claimed", "waiting", "skipped"},
    "waiting": {"claimed"},
    "claimed": {"sent", "running", "missed"},
    "sent": {"running", "lost", "succeeded", "failed", "retrying"},
    "running": {"running", "succeeded", "failed", "retrying", "sent", "lost"},
    "retrying": {"running", "lost"},
    "lost": {"running", "succeeded", "failed", "retrying", "sent"},
}


def promises(rules: Rules):
    """What is wrong with a step, if anything."""

    def check(before: World, name: str, after: World) -> str | None:
        for row, then in zip(before.rows, after.rows, strict=True):
            if then.state != row.state and then.state not in MOVES.get(row.state, ()):
                return f"a run goes from {row.state} to {then.state}"
            if row.state in ENDED - {"lost"} and then != row:
                return f"a run that is {row.state} is changed"
        most = 1 + (after.deaths if rules.on_worker_lost == "again" else 0)
        if max(after.effects) > most:
            return "twice"
        for row, effects in zip(after.rows, after.effects, strict=True):
            if row.state == "succeeded" and not effects:
                return "succeeded, but nothing was done"
        if rules.overlap == "queue" and _joins_another(before, after):
            return "two runs at once"
        return None

    return check


def _joins_another(before: World, after: World) -> bool:
    """Whether a run is taken while another is at it. One that was lost may join: it blocks nobody,
    and may turn up again."""
    at_it = {"claimed", "sent", "running", "retrying"}
    taken = any(
        row.state in ("due", "waiting") and then.state in at_it
        for row, then in zip(before.rows, after.rows, strict=True)
    )
    return taken and sum(row.state in at_it for row in after.rows) > 1


def visit(rules: Rules, **first: int) -> int:
    return walk(start(**first), rules, promises(rules))


ONCE = ("succeeded",)


@pytest.mark.parametrize("on_worker_lost", ["lost", "again"])
def test_three_faults_at_any_moments_break_no_promise(on_worker_lost):
    rules = Rules(on_worker_lost, outcomes=ONCE, most_sent=2)

    assert 20_000 < visit(rules, faults=3)


@pytest.mark.parametrize("on_worker_lost", ["lost", "again"])
def test_failures_retries_and_messages_put_back_break_no_promise(on_worker_lost):
    assert 20_000 < visit(Rules(on_worker_lost, most_sent=2), faults=1)


@pytest.mark.parametrize("on_worker_lost", ["lost", "again"])
def test_of_a_routine_that_queues_one_run_is_at_it_at_a_time(on_worker_lost):
    rules = Rules(on_worker_lost, overlap="queue", outcomes=ONCE, most_sent=1)

    assert 5_000 < visit(rules, runs=2, faults=1)


FEW = Rules(outcomes=ONCE, most_sent=2)
RETRIED = replace(FEW, outcomes=("succeeded", "retrying"))


def plus(begins, rules: Rules = FEW) -> Rules:
    """The rules, but that a message also begins a run where *begins* says so."""

    def either(row: Row, message: Message) -> bool:
        return rules.begins(row, message) or begins(row, message)

    return replace(rules, begins=either)


def drop(*_) -> str:
    return "drop"


def take_what_runs(rules: Rules, row: Row, *_) -> str:
    return "take" if row.state == "running" else "drop"


BEGUN = ("running", "lost")
WRONG = {
    "a message that comes again begins, whatever the run does": (
        plus(lambda row, message: message.repeated and row.state in BEGUN),
        "twice",
    ),
    "a message that comes again begins a lost run": (
        plus(lambda row, message: message.repeated and row.state == "lost"),
        "twice",
    ),
    "a first message begins what is lost, begun or not": (
        plus(lambda row, message: row.state == "lost"),
        "twice",
    ),
    "any message begins a run that is to be retried": (
        plus(lambda row, message: row.state == "retrying", RETRIED),
        "twice",
    ),
    "a message of fewer retries begins what nobody has begun": (
        plus(lambda row, message: row.state == "lost" and row.owner is None, RETRIED),
        "twice",
    ),
    "what is published is sent, whatever has become of it": (
        replace(FEW, confirms=lambda row, me: True),
        "goes from missed to sent",
    ),
    "what is missed begins": (plus(lambda row, message: row.state == "missed"), "goes from missed"),
    "who died for good is heard of by nobody": (replace(FEW, sweeps=False, repeats=drop), "stuck"),
    "the message alone tells of a dead worker": (replace(FEW, sweeps=False), "stuck"),
    "what a scheduler left unpublished stays": (replace(FEW, rescues=False), "stuck"),
    "what nobody begins is never given up": (replace(FEW, gives_up=None), "stuck"),
    "what nobody begins is sent once only and never given up": (
        replace(FEW, redelivers=False, gives_up=None),
        "stuck",
    ),
    "a live attempt is taken over": (
        replace(FEW, on_worker_lost="again", repeats=take_what_runs),
        "twice",
    ),
    # Told in DESIGN, section 11.
    "a worker that cannot reach the ledger runs what it is sent": (
        replace(FEW, blind=True),
        "twice",
    ),
}


@pytest.mark.parametrize(("rules", "wrong"), WRONG.values(), ids=WRONG)
def test_a_promise_is_broken_if(rules, wrong):
    with pytest.raises(Violation, match=wrong):
        visit(rules, faults=1)


def test_of_three_runs_of_a_routine_that_queues_one_waits_at_most():
    rules = Rules(overlap="queue", outcomes=ONCE, most_sent=1)

    assert 1_000 < visit(rules, runs=3, workers=1, faults=0)
