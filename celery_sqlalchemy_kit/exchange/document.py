"""Documents: the routines of a namespace as YAML or JSON, to keep and to move.

::

    version: 1
    routines:
    - name: nightly
      task: reports.build
      schedule: {minute: 0, hour: 2}
      kwargs: {full: true}

What is as by default is left out; ``docs/moving.md`` lists the keys. Routines are sorted by name:
the same routines make the same text.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import DocumentError
from ..schedules.schedule import quoted, shown
from . import json_text, yaml_text
from .definition import Definition, read
from .keys import Unreadable

#: Of documents: raised when one that is written now could be misread by what was before.
VERSION = 1


class Format(str, enum.Enum):
    """How a document is written."""

    YAML = "yaml"
    JSON = "json"


_READ: Mapping[Format, Callable[[str], tuple[Any, list[str]]]] = {
    Format.YAML: yaml_text.read,
    Format.JSON: json_text.read,
}
_WRITTEN: Mapping[Format, Callable[[Any], str]] = {
    Format.YAML: yaml_text.written,
    Format.JSON: json_text.written,
}


def dump(definitions: Iterable[Definition], form: Format) -> str:
    """The document of *definitions*; `load` makes equal ones of it.

    Raises:
        DocumentError: names every definition that cannot be written: it sends what JSON cannot
            hold, which only SQLite stores, or is nested in more than 100 levels.
    """
    routines, faults = [], []
    for definition in sorted(definitions, key=lambda each: each.name):
        try:
            routines.append(definition.to_json())
        except Unreadable as allowed:
            faults.append(f"{quoted(definition.name)}: allowed in args, kwargs, options: {allowed}")
    if faults:
        raise DocumentError(faults)
    return _WRITTEN[Format(form)]({"version": VERSION, "routines": routines})


def load(text: str, form: Format, *, timezone: str = "UTC") -> list[Definition]:
    """The definitions of a document, in its order.

    *timezone* is the zone of schedules that follow the clock on a wall and name none.

    Raises:
        DocumentError: names every fault that there is: the routine, the key, its value and what
            is allowed. Where *text* is no YAML or JSON at all, that alone.
    """
    value, faults = _READ[Format(form)](text.removeprefix("\ufeff"))
    definitions = []
    for place, routine in enumerate(_routines(value, faults), 1):
        definition, wrong = read(routine, timezone)
        faults += [f"{_title(routine, place)}: {fault}" for fault in wrong]
        if definition is not None:
            definitions.append(definition)
    if faults:
        raise DocumentError(faults)
    return definitions


def _routines(value: Any, faults: list[str]) -> list[Any]:
    """The routines of a document, each yet to be read; what is wrong about them is a fault."""
    if not isinstance(value, Mapping):
        faults.append(f"{shown(value)}: allowed is a mapping with the keys version and routines")
        return []
    faults += [
        f"unknown key {quoted(key)}; allowed are version and routines"
        for key in value
        if key not in ("version", "routines")
    ]
    version, routines = value.get("version"), value.get("routines")
    if version != VERSION or not isinstance(version, int) or isinstance(version, bool):
        faults.append(f"version = {shown(version)}: allowed is {VERSION}")
    if not isinstance(routines, list):
        faults.append(f"routines = {shown(routines)}: allowed is a list of mappings")
        return []
    faults += _named_twice(routines)
    return routines


def _named_twice(routines: list[Any]) -> Iterable[str]:
    places: dict[str, list[int]] = {}
    for place, routine in enumerate(routines, 1):
        name = routine.get("name") if isinstance(routine, Mapping) else None
        if isinstance(name, str):
            places.setdefault(name, []).append(place)
    for name, found in places.items():
        if len(found) > 1:
            yield f"name = {quoted(name)} stands at {', '.join(map(str, found))}: allowed is once"


def _title(routine: Any, place: int) -> str:
    name = routine.get("name") if isinstance(routine, Mapping) else None
    return quoted(name) if name and isinstance(name, str) else f"routine {place}"
