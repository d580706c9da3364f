"""A routine as people define it: what a document says of it, without what the kit keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple

from .. import schedules
from ..errors import ScheduleError
from ..routines import CatchUp, Origin, Overlap
from ..schedules import Schedule
from ..schedules.schedule import quoted, shown
from .keys import (
    INSTANTS,
    READERS,
    REQUIRED,
    Unquoted,
    Unreadable,
    first_of,
    written,
    written_schedule,
)


@dataclass(frozen=True)
class Definition:
    """One routine, as it can be written down and moved: no id, no counters, no instants of runs.

    Instants are aware UTC. ``origin`` None says nothing of it: a routine that is created of it is
    ``db``, one that is there already keeps its own.
    """

    name: str
    task: str
    schedule: Schedule
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    active: bool = True
    catch_up: CatchUp = CatchUp.LATEST
    overlap: Overlap = Overlap.ALLOW
    jitter_seconds: float = 0.0
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_runs: int | None = None
    description: str | None = None
    origin: Origin | None = None

    def to_json(self) -> dict[str, Any]:
        """What stands in a document: what is as by default is left out.

        Raises:
            Unreadable: JSON cannot hold what is sent, or it is nested too deeply.
        """
        return {
            key: self.value(key)
            for key, attribute, default in _ATTRIBUTES
            if default is MISSING or getattr(self, attribute) != default
        }

    def value(self, key: str) -> Any:
        """The value of one key of a document, in JSON."""
        if key == "schedule":
            return written_schedule(self.schedule.to_json())
        return written(getattr(self, _attribute(key)))


class Found(NamedTuple):
    """What a store of another scheduler holds."""

    definitions: list[Definition]
    #: What cannot be taken over: by name, and why.
    problems: list[str]


def read(value: object, timezone: str = "UTC") -> tuple[Definition | None, list[str]]:
    """The definition that *value*, a routine in a document, stands for; else all its faults.

    *timezone* is the zone of a schedule that follows the clock on a wall and names none.
    """
    if not isinstance(value, Mapping):
        allowed = ", ".join(READERS)
        return None, [f"{_shown(value)}: allowed is a mapping with the keys {allowed}"]
    faults = [f"{key} is missing" for key in REQUIRED if key not in value]
    found: dict[str, Any] = {}
    for key, said in value.items():
        if key not in READERS:
            faults.append(f"unknown key {quoted(key)}; allowed are {', '.join(READERS)}")
            continue
        try:
            found[_attribute(key)] = _value(key, said, timezone)
        except ScheduleError as fault:
            faults.append(str(fault))
        except Unreadable as allowed:
            faults.append(f"{key} = {_shown(said)}: allowed is {allowed}")
    return (None, faults) if faults else (Definition(**found), [])


def _value(key: str, said: Any, timezone: str) -> Any:
    if key == "schedule":
        if isinstance(said, Mapping) and isinstance(said.get("once"), Unquoted):
            said = {**said, "once": str(said["once"])}
        _check_quotes(said)
        return schedules.from_json(said, timezone=timezone)
    if key not in INSTANTS:
        _check_quotes(said)
    return READERS[key](said)


def _check_quotes(said: Any) -> None:
    text = first_of(Unquoted, said)
    if text is not None:
        raise Unreadable(
            f"{shown(text)} in quotes if it is a text, else true, false or a decimal number; "
            "without quotes it is not the same thing in all versions of YAML"
        )


def _shown(value: object) -> str:
    return shown(value).strip('"') if isinstance(value, Unquoted) else shown(value)


def _attribute(key: str) -> str:
    return "jitter_seconds" if key == "jitter" else key


def _default(attribute: str) -> Any:
    """The default of an attribute, made if need be; `MISSING`: it has none."""
    (named,) = (each for each in fields(Definition) if each.name == attribute)
    return named.default if named.default_factory is MISSING else named.default_factory()


_ATTRIBUTES = tuple((key, _attribute(key), _default(_attribute(key))) for key in READERS)
