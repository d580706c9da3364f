"""What an import would do to the routines that there are: pure, values in, values out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from .definition import Definition
from .keys import READERS


@dataclass(frozen=True)
class Difference:
    """One key that an import would change; both values as in a document."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Update:
    """A routine that is there, and is defined in another way."""

    before: Definition
    after: Definition
    #: At least one, in the order of a document's keys.
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Changes:
    """What an import would do, each in the order in which it was given; the rest stays as it is."""

    create: tuple[Definition, ...] = ()
    update: tuple[Update, ...] = ()
    #: What is there under the name cannot be read: all of it is to be written anew.
    repair: tuple[Definition, ...] = ()
    unchanged: tuple[Definition, ...] = ()


def changes(
    definitions: Iterable[Definition],
    existing: Iterable[Definition],
    unreadable: Collection[str] = (),
) -> Changes:
    """Compare *definitions*, no two of one name, with those of the routines that there are.

    *unreadable* are the names of those of which no definition can be had. Schedules that mean the
    same are equal, however they are written. An ``origin`` that is not said changes none.
    """
    known = {each.name: each for each in existing}
    create: list[Definition] = []
    repair: list[Definition] = []
    update, unchanged = [], []
    for after in definitions:
        before = known.get(after.name)
        if before is None:
            (repair if after.name in unreadable else create).append(after)
        elif different := tuple(_differences(before, after)):
            update.append(Update(before, after, different))
        else:
            unchanged.append(after)
    return Changes(tuple(create), tuple(update), tuple(repair), tuple(unchanged))


def _differences(before: Definition, after: Definition) -> Iterable[Difference]:
    for key in READERS:
        if key == "schedule" and before.schedule == after.schedule:
            continue
        if key == "origin" and after.origin is None:
            continue
        was, is_ = before.value(key), after.value(key)
        # As text: to Python, True is 1.
        if json.dumps(was) != json.dumps(is_):
            yield Difference(key, was, is_)
