"""``celery routines set`` and ``add``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy.engine import Connection

from ..errors import NotFoundError
from .code import warn_if_unknown
from .consent import Manner, manner_options
from .desk import name_argument, note, passes_routines
from .engines import present
from .examples import examples
from .field_options import field_options, fields_of
from .proposal import Edit, carry_out, edit, locked

_SCHEDULE = (
    "A cron string, an interval (30s, 1h30m, every 5 minutes), 'after 10s', an instant, an "
    "RFC 5545 rule, or JSON as in the table."
)


@click.command(
    "set",
    epilog=examples(
        "set report --schedule '0 8 * * MON-FRI' --timezone Europe/Berlin",
        "set report --queue slow --priority 3 --note 'too many at nine'",
        "set report --kwargs '{\"full\": true}' --ends-at '' --dry-run",
    ),
)
@name_argument
@click.option("--schedule", metavar="TEXT", help=_SCHEDULE)
@click.option("--task", metavar="TASK", help="The Celery task that it sends.")
@field_options
@note
@manner_options
@passes_routines
def set_(routines: Any, name: str, note: str | None, manner: Manner, **given: Any) -> None:
    """Change a routine: what is given, nothing else.

    Shows each field before and after, and when it is due next; then asks, if there is anybody to
    ask. --queue, --priority, --starts-at, --ends-at, --max-runs and --description take '' for
    none. WHEN is 2026-12-01T09:00Z, now, or how long from now: 7d.
    """
    if given["task"] is not None:
        warn_if_unknown(given["task"])
    now = present(routines)

    def change(connection: Connection) -> Sequence[Edit]:
        before = locked(routines, connection, name)
        said = fields_of(given, _options_of(before), now)
        after = routines.update(before.id, note=note, connection=connection, **said)
        return [edit(routines, connection, before, after)]

    carry_out(routines, change, f"Change {name}?", note, manner)


@click.command(
    epilog=examples(
        "add nightly reports.build '0 2 * * *' --timezone Europe/Berlin",
        "add poll shop.poll 'every 30s' --overlap skip --if-exists update",
        'add sundown lamps.on \'{"solar": "sunset", "latitude": 52.5, "longitude": 13.4}\'',
    ),
)
@click.argument("name")
@click.argument("task")
@click.argument("schedule")
@field_options
@click.option(
    "--if-exists",
    type=click.Choice(["error", "update", "keep"]),
    default="error",
    show_default=True,
    help="What is done if there is a routine of that name; update: what is given, nothing else.",
)
@note
@manner_options
@passes_routines
def add(
    routines: Any, name: str, note: str | None, if_exists: str, manner: Manner, **given: Any
) -> None:
    """Make a routine that no code declares: NAME sends TASK by SCHEDULE.

    SCHEDULE is a cron string, an interval (30s, 1h30m, every 5 minutes), 'after 10s', an instant,
    an RFC 5545 rule, or JSON as in the table. Shows when it is going to be due, then asks, if
    there is anybody to ask.
    """
    warn_if_unknown(given["task"])
    now = present(routines)

    def make(connection: Connection) -> Sequence[Edit]:
        before = _there(routines, connection, name)
        options = {} if before is None else _options_of(before)
        said = fields_of(given, options, now)
        after = routines.create(name, if_exists=if_exists, note=note, connection=connection, **said)
        return [edit(routines, connection, before, after)]

    carry_out(routines, make, f"Add {name}?", note, manner)


def _there(routines: Any, connection: Connection, name: str) -> Any:
    try:
        found = locked(routines, connection, name)
    except NotFoundError:
        return None
    return found if found.name == name else None  # it has this as its id


def _options_of(routine: Any) -> dict[str, Any]:
    """Those that cannot be read are corrected, or the API says what is wrong with them."""
    return routine.options if isinstance(routine.options, dict) else {}
