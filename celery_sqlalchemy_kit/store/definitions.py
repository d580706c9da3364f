"""The routines of a namespace as definitions: for an export, and to see what an import changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import raw
from ..exchange.definition import Definition, read
from ..exchange.keys import READERS
from ..routines import Origin
from ..tables import routines


@dataclass(frozen=True)
class Kept:
    """What the rows say, in the order of their names."""

    definitions: tuple[Definition, ...]
    #: By name, what is wrong with a row that says none.
    unreadable: Mapping[str, str]


def kept(connection: Connection, namespace: str, timezone: str = "UTC") -> Kept:
    """The routines of *namespace*, no one-offs. *timezone* is the zone of a schedule without one.

    One statement, nothing locked. A row that cannot be read is in nobody's way.
    """
    columns = [raw(routines.c[key]).label(key) for key in READERS]
    no_one_off = sa.func.coalesce(routines.c.origin, "") != Origin.ONCE.value
    mine = sa.select(*columns).where(routines.c.namespace == namespace, no_one_off)
    definitions, unreadable = [], {}
    for row in connection.execute(mine.order_by(routines.c.name)).mappings():
        definition, faults = read({key: _value(key, row[key]) for key in READERS}, timezone)
        if definition is None:
            unreadable[row["name"]] = "; ".join(faults)
        else:
            definitions.append(definition)
    return Kept(tuple(definitions), unreadable)


def _value(key: str, text: str | None) -> Any:
    """A column's text as it stands in a document; what it cannot be is left for the reader."""
    if text is None or key not in _DECODED:
        return text
    try:
        return _DECODED[key](text)
    except (ValueError, RecursionError):
        return text


_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_DECODED: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("schedule", "args", "kwargs", "options"), json.loads),
    "active": lambda text: _FLAGS.get(text, text),
    "jitter": float,
    "max_runs": int,
}
