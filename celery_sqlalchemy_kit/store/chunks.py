"""Many values in one statement, but not more than every database takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

#: Values in one statement; databases and drivers bound the number of parameters.
CHUNK = 500

T = TypeVar("T")


def chunks(items: Iterable[T]) -> Iterator[Sequence[T]]:
    """*items* in pieces of at most `CHUNK`; none if there are none."""
    everything = list(items)
    for start in range(0, len(everything), CHUNK):
        yield everything[start : start + CHUNK]
