"""The options that say what a routine is to be, for ``set`` and ``add``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import click

from .durations import Duration, Moment, When
from .json_text import ARRAY, OBJECT
from .schedule_text import schedule

F = TypeVar("F", bound=Callable[..., Any])

#: What an empty text stands for: the field is to be empty. None: nothing was said of it.
NOTHING: Any = object()
CATCH_UP, OVERLAP = ("latest", "skip", "all"), ("allow", "skip", "queue")
_QUEUE_AND_PRIORITY = ("queue", "priority")


class _OrNothing(click.ParamType):  # type: ignore[type-arg]  # of click 8.5
    """Another type, or `NOTHING` for an empty text."""

    def __init__(self, of: Any) -> None:
        self._of, self.name = of, of.name

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return NOTHING if value in ("", NOTHING) else self._of.convert(value, param, ctx)


_WHOLE = click.IntRange(min=0)
_OPTIONS = (
    ("--timezone", {"metavar": "NAME", "help": "The schedule's own, such as Europe/Berlin."}),
    ("--args", {"type": ARRAY, "metavar": "JSON", "help": "In place of those there are."}),
    ("--kwargs", {"type": OBJECT, "metavar": "JSON", "help": "In place of those there are."}),
    (
        "--options",
        {
            "type": OBJECT,
            "metavar": "JSON",
            "help": "Options of apply_async, in place of those there are.",
        },
    ),
    (
        "--queue",
        {"type": _OrNothing(click.STRING), "metavar": "NAME", "help": "Changes the options."},
    ),
    ("--priority", {"type": _OrNothing(_WHOLE), "metavar": "N", "help": "Changes the options."}),
    ("--catch-up", {"type": click.Choice(CATCH_UP), "help": "What runs of a backlog."}),
    ("--overlap", {"type": click.Choice(OVERLAP), "help": "While the run before is unfinished."}),
    (
        "--jitter",
        {"type": Duration(), "metavar": "DURATION", "help": "Put each run off by up to so long."},
    ),
    (
        "--starts-at",
        {"type": _OrNothing(Moment()), "metavar": "WHEN", "help": "Nothing is due before."},
    ),
    (
        "--ends-at",
        {"type": _OrNothing(Moment()), "metavar": "WHEN", "help": "Nothing is due after."},
    ),
    ("--max-runs", {"type": _OrNothing(_WHOLE), "metavar": "N", "help": "Then it turns inactive."}),
    ("--description", {"type": _OrNothing(click.STRING), "metavar": "TEXT", "help": "Yours."}),
    ("--active/--inactive", {"default": None, "help": "Whether it runs."}),
)


def field_options(command: F) -> F:
    """All of them; a field that is not given is None."""
    for name, about in reversed(_OPTIONS):
        command = click.option(name, **about)(command)
    return command


def fields_of(
    given: Mapping[str, Any], options: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """What the API is told of what was *given*; pure.

    *options* are those that the routine has: a queue and a priority are put into them.

    Raises:
        ScheduleError: the text of the schedule says none.
        click.UsageError: a time zone is given without a schedule.
    """
    said = {name: value for name, value in given.items() if value is not None}
    timezone = said.pop("timezone", None)
    if "schedule" in said:
        said["schedule"] = schedule(said["schedule"], timezone)
    elif timezone is not None:
        raise click.UsageError("--timezone is that of the schedule: give --schedule as well")
    merged = {name: said.pop(name) for name in _QUEUE_AND_PRIORITY if name in said}
    if merged:
        merged = {**said.get("options", options), **merged}
        said["options"] = {key: value for key, value in merged.items() if value is not NOTHING}
    return {name: _value(value, now) for name, value in said.items()}


def _value(said: Any, now: datetime) -> Any:
    if said is NOTHING:
        return None
    return said.at(now) if isinstance(said, When) else said
