"""What becomes of occurrences while a run before them is unfinished: pure.

What is guarded is that no two runs of a routine are under way at once, whatever they are there
for: runs by hand wait, or are skipped, like all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .routines import Cause, Overlap, made

#: Why an occurrence is skipped, by policy.
REASONS = {
    Overlap.SKIP: "the run before it is unfinished",
    Overlap.QUEUE: "another run waits already",
}


class Due(Protocol):
    """What is known here of an occurrence."""

    @property
    def cause(self) -> Cause: ...


T = TypeVar("T", bound=Due)


@dataclass(frozen=True)
class Settled(Generic[T]):
    """Each occurrence is in one of the three; in each they stay in their order.

    ``left``: how many runs ``max_runs`` leaves after these, None: no end of them. Once there are
    none left, the occurrences that would have followed never were: they are in none of the three.
    """

    runs: tuple[T, ...]
    waits: T | None
    skipped: tuple[T, ...]
    left: int | None

    @property
    def taken(self) -> tuple[T, ...]:
        """What runs, now or later."""
        return self.runs if self.waits is None else (*self.runs, self.waits)


def settle(
    policy: Overlap,
    occurrences: Sequence[T],
    *,
    unfinished: bool = False,
    waiting: bool = False,
    left: int | None = None,
) -> Settled[T]:
    """Take *occurrences* in their order, as if each had come while the one before it ran.

    The oldest comes first: a backlog within the misfire grace counts as on time, and on time the
    first would have run and the others met it unfinished. Who would rather have the newest of a
    late backlog says so by ``catch_up``.

    *unfinished*: a run of the routine is under way. *waiting*: one waits, which nobody takes the
    place of, though nothing is under way any more. *left*: how many runs ``max_runs`` leaves; those
    by hand do not count.
    """
    if policy is Overlap.ALLOW and left is None:
        return made(Settled, runs=tuple(occurrences), waits=None, skipped=(), left=None)
    runs: list[T] = []
    skipped: list[T] = []
    waits: T | None = None
    for occurrence in occurrences:
        counts = occurrence.cause is not Cause.MANUAL
        if counts and left == 0:
            continue
        if policy is Overlap.ALLOW or not (unfinished or waiting):
            runs.append(occurrence)
            unfinished = True
        elif policy is Overlap.QUEUE and not waiting:
            waits, waiting = occurrence, True
        else:
            skipped.append(occurrence)
            continue
        if counts and left is not None:
            left -= 1
    return Settled(tuple(runs), waits, tuple(skipped), left)


def released(
    *, present: bool, active: bool, over: bool, by_hand: bool, expired: bool
) -> str | None:
    """Why a run that has waited is not to run any more, now that it could; None: it runs.

    *present* and *active* tell how its routine stands; *over*: it is inactive as this was its last
    run. *by_hand*: an order by hand is carried out whatever its routine does.
    """
    if not by_hand and not present:
        return "removed"
    if not by_hand and not (active or over):
        return "inactive"
    return "expired while it waited" if expired else None
