"""``celery routines upcoming``: what is going to be due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from ..client import Routines
from ..details import RoutineDetails
from . import desk
from .durations import Duration
from .options import examples, limited, tell_more
from .reading import reading
from .tables import Row, print_table
from .times import about, stamp

TITLES = ("due", "in", "name", "schedule")


@click.command("upcoming", epilog=examples("upcoming", "upcoming --within 2h --limit 100"))
@click.option(
    "--within",
    type=Duration(),
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How far to look: 90s, 2h, 13.5d.",
)
@limited(50)
@desk.as_json
@desk.passes_routines
def command(routines: Routines, *, within: timedelta, limit: int, as_json: bool) -> None:
    """Show what is going to be due, in order of time.

    Instants are in UTC. Of a routine that waits for the end of a run it is not known.
    """
    with reading(routines) as seen:
        found = seen.routines.upcoming(within, limit=limit + 1, connection=seen.connection)
    shown = found[:limit]
    if as_json:
        desk.print_json([_json(at, routine) for at, routine in shown])
    elif shown:
        rows = [
            Row((stamp(at), about(at, seen.now), routine.name, routine.words))
            for at, routine in shown
        ]
        print_table(TITLES, rows)
    else:
        click.echo("Nothing is going to be due.", err=True)
    tell_more(found, limit)


def _json(at: datetime, routine: RoutineDetails) -> dict[str, Any]:
    return {
        "at": at.isoformat(),
        "id": str(routine.id),
        "name": routine.name,
        "task": routine.task,
        "words": routine.words,
    }
