"""Whether what a command has shown is to be done."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from .desk import NO
from .desk import as_json as as_json_option

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Manner:
    """How a command goes about its work, as its options say."""

    dry_run: bool
    yes: bool
    as_json: bool


def manner_options(command: F) -> F:
    """The options ``--dry-run``, ``--yes`` and ``--json``, as one argument *manner*."""

    @functools.wraps(command)
    def run(*args: Any, dry_run: bool, yes: bool, as_json: bool, **kwargs: Any) -> Any:
        return command(*args, manner=Manner(dry_run, yes, as_json), **kwargs)

    text = "Do not ask. Nobody is asked where standard input is no terminal."
    asked = click.option("--yes", "-y", "yes", is_flag=True, help=text)(as_json_option(run))
    text = "Show what would be done, and do nothing."
    return click.option("--dry-run", is_flag=True, help=text)(asked)  # type: ignore[return-value]


def agree(question: str, *, yes: bool) -> None:
    """Ask, on standard error, unless *yes* is said or nobody is there to be asked.

    Raises:
        click.exceptions.Exit: the answer is no; the exit code is 1.
    """
    if asks(yes=yes) and not click.confirm(question, err=True):
        click.echo("Nothing has been done.", err=True)
        raise click.exceptions.Exit(NO)


def asks(*, yes: bool) -> bool:
    """Whether `agree` asks."""
    return not yes and _is_terminal()


def _is_terminal() -> bool:
    return sys.stdin.isatty()
