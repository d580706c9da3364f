"""What the commands have in common: the app's routines, their errors, names, JSON.

Exit codes: 0 done; 1 not done, as the message says (no such routine, a value that is not allowed,
what is in the way), or the answer is no; 2 wrong options or settings; 3 the database cannot be
reached, or its tables are not there.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..config import shown_url
from ..errors import KitError, SettingsError
from ..store import edits
from .reading import Reading, reading
from .tables import clean_lines, say

F = TypeVar("F", bound=Callable[..., Any])

#: Exit codes beside 0, and click's own 2.
NO, AWAY = 1, 3
#: Names that a shell offers at most.
MOST_COMPLETED = 200


def routines_of(celery: Any) -> Any:
    """The `Routines` of the app that ``celery -A`` names.

    Raises:
        click.UsageError: a setting is missing or wrong, or no driver is installed.
    """
    from ..client import Routines

    try:
        routines = Routines(celery.app, who=os.environ.get("ROUTINES_WHO"))
        routines.verbs.url()
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    return routines


def passes_routines(command: F) -> F:
    """The command is given the app's `Routines`; what they raise is a line, and an exit code."""

    @functools.wraps(command)
    @click.pass_obj
    def run(celery: Any, *args: Any, **kwargs: Any) -> Any:
        routines = routines_of(celery)
        try:
            return command(routines, *args, **kwargs)
        except BrokenPipeError:  # whoever read what is printed has enough; click knows
            raise
        except SettingsError as error:
            raise click.UsageError(str(error)) from None
        except KitError as error:
            fail(str(error), NO)
        except (SQLAlchemyError, ImportError, ArgumentError, OSError) as error:
            fail(f"the database {fault(routines.verbs.url(), error)}", AWAY)

    return run  # type: ignore[return-value]


def fault(url: Any, error: BaseException) -> str:
    """What is wrong with a database, in a line without its password."""
    shown = shown_url(url)
    if shown.endswith("…"):  # what the driver tells may be a part of a password that holds an @
        return f"{shown} does not answer as it should"
    told = " ".join(str(getattr(error, "orig", None) or error).split())
    return f"{shown} does not answer as it should: {told}"


def fail(message: str, code: int) -> NoReturn:
    """Say *message* on standard error, and exit with *code*."""
    click.echo("\n".join(clean_lines(f"Error: {message}")), err=True)
    raise click.exceptions.Exit(code)


def as_json(command: F) -> F:
    """The option ``--json``: the command prints one JSON document, for programs."""
    text = "Print JSON, for programs: one document, instants in UTC, durations in seconds."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def print_json(value: Any) -> None:
    """Of a list each element is on a line of its own; with an indent ten thousand take long."""
    if isinstance(value, list):
        encode = json.JSONEncoder(ensure_ascii=False).encode
        text = "[\n" + ",\n".join(map(encode, value)) + "\n]" if value else "[]"
    else:
        text = json.dumps(value, ensure_ascii=False, indent=2)
    # What could move a terminal is escaped by JSON itself, but for these.
    say(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def note(command: F) -> F:
    """The option ``--note``, which is kept with the change."""
    text = "Why: kept with the change, and shown to whoever looks next."
    return click.option("--note", metavar="TEXT", help=text)(command)


def complete_names(context: click.Context, parameter: Any, incomplete: str) -> list[str]:
    """Names of routines for the shell; none where there is no app, or no database."""
    from ..client import Wanted

    def names(seen: Reading) -> Iterable[str]:
        wanted = Wanted((f"{incomplete}*",))
        found = seen.routines.list(wanted, limit=MOST_COMPLETED, connection=seen.connection)
        return (routine.name for routine in found)

    return _completed(context, names)


def complete_removed(context: click.Context, parameter: Any, incomplete: str) -> list[str]:
    """The same of routines that were removed."""
    return _completed(
        context,
        lambda seen: edits.removed(seen.connection, seen.desk, incomplete, limit=MOST_COMPLETED),
    )


def _completed(context: click.Context, names: Callable[[Reading], Iterable[str]]) -> list[str]:
    try:
        with reading(routines_of(_celery(context))) as seen:
            return [name for name in names(seen) if name.isprintable()]
    except Exception:  # noqa: BLE001  a shell that completes must not be written to
        return []


def _celery(context: click.Context) -> Any:
    """What `celery` makes of its options; where a shell completes, it has only parsed them."""
    root = context.find_root()
    if root.obj is not None:
        return root.obj
    app = root.params.get("app")
    return CLIContext(find_app(app) if isinstance(app, str) else app, no_color=True, workdir=None)


def name_argument(command: F) -> F:
    """One routine, by its name or id."""
    return click.argument("name", shell_complete=complete_names)(command)


def name_arguments(command: F) -> F:
    """Routines by names or patterns."""
    return click.argument(
        "names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_names
    )(command)
