"""``celery routines list``: one line a routine."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import click

from ..client import Routines, Wanted
from ..details import Change, RoutineDetails, RunDetails, plain
from ..store import changes
from ..store.routine_list import is_pattern
from . import desk, wording
from .options import examples, limited
from .reading import Reading, reading, uncollected
from .tables import FAINT, Row, Toned, print_table

TITLES = ("name", "schedule", "active", "next run", "last run")
#: What programs are told of the last run.
_RUN = (
    *("id", "state", "reason", "cause", "count", "scheduled_for", "started_at", "finished_at"),
    *("lateness", "duration", "error"),
)


class Line(NamedTuple):
    """A routine, its newest run, and of one that is off the last note."""

    routine: RoutineDetails
    run: RunDetails | None
    note: Change | None


@click.command(
    "list", epilog=examples("list", "list 'report.*' --inactive", "list --troubled --json")
)
@click.argument("names", nargs=-1, metavar="[NAME]…", shell_complete=desk.complete_names)
@click.option(
    "--task", "tasks", multiple=True, metavar="TASK", help="Only of these tasks, or patterns."
)
@click.option("--active/--inactive", default=None, help="Only what is on, or only what is off.")
@click.option("--troubled", is_flag=True, help="Only what has an error or an alert.")
@click.option(
    "--origin",
    type=click.Choice(["code", "db", "sql"]),
    help="Only what the code declares, what was made by hand, or what came by bare SQL.",
)
@click.option("--one-offs", is_flag=True, help="One-offs that have still to run as well.")
@click.option("--only-one-offs", is_flag=True, help="Nothing but those.")
@limited()
@desk.as_json
@desk.passes_routines
@uncollected()
def command(  # noqa: PLR0913  an option is an argument
    routines: Routines,
    *,
    names: tuple[str, ...],
    tasks: tuple[str, ...],
    active: bool | None,
    troubled: bool,
    origin: str | None,
    one_offs: bool,
    only_one_offs: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """List routines: when they run, and how they fared.

    NAME is a name, or a pattern such as 'report.*'. Without any, all are listed.
    """
    wanted = Wanted(
        names=names,
        tasks=tasks,
        active=active,
        origin=origin,
        troubled=True if troubled else None,
        one_offs=None if only_one_offs else one_offs,
    )
    with reading(routines) as seen:
        found = _lines(seen, wanted, limit)
    if as_json:
        desk.print_json([_json(line) for line in found])
    elif found:
        print_table(TITLES, [row(line, seen.now) for line in found])
    else:
        click.echo("No routines.", err=True)


def row(line: Line, now: datetime) -> Row:
    """It as a row of a table, beneath `TITLES`."""
    routine = line.routine
    return Row(
        (
            routine.name if routine.active else Toned(routine.name, FAINT),
            routine.words,
            "yes" if routine.active else Toned("no", FAINT),
            wording.next_run(routine, now),
            wording.last_run(routine, line.run, now),
        ),
        wording.remark(routine, line.note, now),
    )


def _lines(seen: Reading, wanted: Wanted, limit: int | None) -> list[Line]:
    found = seen.routines.list(wanted, limit=limit, connection=seen.connection)
    _check_names(seen, wanted, found)
    ids = (routine.id for routine in found)
    runs = seen.routines.last_runs(ids, connection=seen.connection)
    off = (routine.name for routine in found if not routine.active)
    notes = changes.last_notes(seen.connection, seen.desk, off)
    return [Line(each, runs.get(each.id), _still(notes.get(each.name))) for each in found]


def _check_names(seen: Reading, wanted: Wanted, found: list[RoutineDetails]) -> None:
    """A name that is none's is a mistake, one that another option leaves out is not."""
    known = {routine.name for routine in found}
    for name in wanted.names:
        if name not in known and not is_pattern(name):
            seen.routines.get(name, connection=seen.connection)


def _still(note: Change | None) -> Change | None:
    """What was said when it was switched on says nothing about why it is off."""
    return None if note is None or note.action == "enable" else note


def _json(line: Line) -> dict[str, Any]:
    run = None if line.run is None else {name: plain(getattr(line.run, name)) for name in _RUN}
    note = None if line.note is None else line.note.to_json()
    return {**line.routine.to_json(), "last_run": run, "note": note}
