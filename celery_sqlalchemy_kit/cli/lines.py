"""What commands print, line by line: a name or a note may not move the cursor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from ..details import plain
from . import tables
from .tables import clean

#: Items of a long list that are shown from its beginning, and from its end.
SHOWN = 10


def say(text: str, *, err: bool = False) -> None:
    """Print one line; what is no letter of any script is escaped."""
    if err:
        click.echo(clean(text), err=True)
    else:
        tables.say(clean(text))


def warn(text: str) -> None:
    """Print one line on standard error: the command goes on."""
    say(f"Warning: {text}", err=True)


def value(of: Any) -> str:
    """A field's value in one line: JSON, as in the table."""
    return json.dumps(plain(of), ensure_ascii=False)


def shortened(items: Iterable[str]) -> list[str]:
    """The first and the last `SHOWN` of a long list, and how many are between."""
    everything = list(items)
    between = len(everything) - 2 * SHOWN
    if between <= 1:
        return everything
    return [*everything[:SHOWN], f"… and {between} more …", *everything[-SHOWN:]]


def counted(number: int, what: str) -> str:
    """``1 routine``, ``2 routines``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
