"""What is measured, how large, how often, and how long that takes; reckoned before it is begun."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.schedulers import Batch

DAY = 86_400
#: The routines whose lateness is measured.
KINDS = (
    Batch("second", 200, 1, 0, "second"),
    Batch("ten", 1_000, 10, 0, "ten"),
)
#: Percentiles that are kept, for the plot of their distribution.
GRID = (0, *range(1, 100), 99.5, 99.9, 100)
#: In how many rounds a case is measured at most: one that takes long in the first alone.
ONCE, MANY = 1, 1_000


@dataclass(frozen=True)
class Scale:
    name: str
    #: Routines stored, by peers and by the kit.
    sizes: tuple[int, ...]
    kit_sizes: tuple[int, ...]
    #: Seconds after which a try to dispatch is cut off, and counted as far as it came.
    cap: int
    #: Messages of the bare loop.
    bare: int
    #: Seconds of a measurement of lateness, and of one of a scheduler that has nothing to do.
    lateness: int
    idle: int
    idle_sizes: tuple[int, ...]
    kit_idle_sizes: tuple[int, ...]
    edits: int
    #: What the lines of the kit alone are told; 1 is their full size.
    lines: float


FULL = Scale(
    name="full",
    sizes=(1_000, 10_000, 100_000),
    kit_sizes=(1_000, 10_000, 100_000, 1_000_000),
    cap=20,
    bare=5_000,
    lateness=60,
    idle=20,
    idle_sizes=(10_000,),
    kit_idle_sizes=(10_000, 1_000_000),
    edits=20,
    lines=1,
)
QUICK = Scale(
    name="quick",
    sizes=(100, 1_000),
    kit_sizes=(100, 1_000, 10_000),
    cap=5,
    bare=500,
    lateness=10,
    idle=6,
    idle_sizes=(1_000,),
    kit_idle_sizes=(1_000, 10_000),
    edits=4,
    lines=0.02,
)
SCALES = {scale.name: scale for scale in (FULL, QUICK)}


@dataclass(frozen=True)
class Case:
    """One measurement: of a scheduler (or a line), of how many routines or of what else."""

    measure: str
    contender: str
    name: str
    #: How long it takes, roughly.
    seconds: float
    #: Rounds in which it is measured, at most.
    rounds: int = MANY


def ordered(cases, rounds):
    """(round, case), rounds one after the other, every second one backwards.

    So none always follows the same one.
    """
    for number in range(1, rounds + 1):
        of_round = [case for case in cases if number <= case.rounds]
        for case in of_round if number % 2 else reversed(of_round):
            yield number, case


def minutes(cases, rounds):
    return sum(case.seconds for _, case in ordered(cases, rounds)) / 60
