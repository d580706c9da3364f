"""``celery routines enable`` and ``disable``."""

from __future__ import annotations

from typing import Any

import click

from .desk import as_json as as_json_option
from .desk import name_arguments, note, passes_routines, print_json
from .examples import examples
from .lines import say


@click.command(epilog=examples("enable report.daily", "enable 'report.*' --note 'disk is back'"))
@name_arguments
@note
@as_json_option
@passes_routines
def enable(routines: Any, names: tuple[str, ...], note: str | None, *, as_json: bool) -> None:
    """Switch routines on, by their names or by patterns.

    Each goes on at its next natural time; what has been due while it was off is not caught up.
    Exit code 1 if a name or a pattern matches none: nothing is changed then.
    """
    matched = routines.names(*names)
    _tell(matched, routines.enable(*names, note=note), "on", as_json=as_json)


@click.command(epilog=examples("disable report.daily", "disable 'report.*' --note 'disk full'"))
@name_arguments
@note
@as_json_option
@passes_routines
def disable(routines: Any, names: tuple[str, ...], note: str | None, *, as_json: bool) -> None:
    """Switch routines off, by their names or by patterns.

    From then on none of their runs is sent; what is running goes on. Exit code 1 if a name or a
    pattern matches none: nothing is changed then.
    """
    matched = routines.names(*names)
    _tell(matched, routines.disable(*names, note=note), "off", as_json=as_json)


def _tell(matched: list[str], switched: list[str], word: str, *, as_json: bool) -> None:
    already = sorted(set(matched) - set(switched))
    if as_json:
        print_json({"changed": switched, "unchanged": already})
        return
    for name in switched:
        say(f"{name} is {word}")
    for name in already:
        say(f"{name} was {word} already")
