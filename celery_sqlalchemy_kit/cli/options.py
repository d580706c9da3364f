"""Options and examples of commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
#: A number of rows: as many as any database takes.
ROWS = click.IntRange(1, 2**31 - 1)


def examples(*calls: str) -> str:
    """What stands below the help of a command: how it is called, behind the name of the group."""
    lines = "\n".join(f"  celery -A proj routines {call}" for call in calls)
    return f"\b\nExamples:\n{lines}"  # the \\b keeps click from filling the lines


def limited(default: int | None = None) -> Callable[[F], F]:
    """The option ``--limit``; without a *default*, all are shown unless it is given."""
    return click.option(
        "--limit",
        type=ROWS,
        default=default,
        show_default=default is not None,
        metavar="N",
        help="So many at most.",
    )


def tell_more(found: Sequence[Any], limit: int) -> None:
    """Say on standard error that more than *limit*, which are shown, were *found*."""
    if len(found) > limit:
        click.echo(f"There are more than these {limit}: see --limit.", err=True)
