"""``celery routines history``: what ran, and what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import click

from ..client import Routines
from ..details import Change, RunDetails
from ..errors import NotFoundError
from ..routines import State
from . import desk, wording
from .durations import Moment, When
from .options import examples, limited, tell_more
from .reading import Reading, reading
from .tables import Row, print_table
from .times import duration

#: What ``--failed`` stands for.
FAILED = (State.FAILED, State.LOST, State.MISSED)
RUN_TITLES = ("due", "state", "cause", "late", "took", "tries", "worker", "run")
CHANGE_TITLES = ("when", "what", "who", "fields")


@click.command(
    "history",
    epilog=examples("history report", "history --failed --since 1d", "history report --changes"),
)
@click.argument("name", required=False, shell_complete=desk.complete_names)
@click.option("--failed", is_flag=True, help="Only what failed, was lost or was missed.")
@click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in State]),
    multiple=True,
    help="Only runs in this state; may be given several times.",
)
@click.option(
    "--since",
    type=Moment(past=True),
    metavar="WHEN",
    help="Nothing older: 2h, 3d, or an instant such as 2026-12-01T09:00+01:00.",
)
@limited(20)
@click.option("--changes", is_flag=True, help="What people have changed, instead of runs.")
@desk.as_json
@desk.passes_routines
def command(  # noqa: PLR0913  an option is an argument
    routines: Routines,
    *,
    name: str | None,
    failed: bool,
    states: tuple[str, ...],
    since: When | None,
    limit: int,
    changes: bool,
    as_json: bool,
) -> None:
    """Show the runs of a routine, or of all; the newest first.

    NAME may also be that of a routine that has been removed, or the id of a one-off. --since goes
    by when a run of that routine was due, and without NAME by when it ended.
    """
    if changes and (failed or states):
        raise click.UsageError("--changes goes with neither --failed nor --state")
    wanted = (*states, *(FAILED if failed else ()))
    runs: Sequence[RunDetails] = ()
    edits: Sequence[Change] = ()
    with reading(routines) as seen:
        from_ = None if since is None else since.at(seen.now)
        if changes:
            edits = _changes(seen, name, from_, limit + 1)
        else:
            runs = seen.routines.history(
                name, states=wanted, since=from_, limit=limit + 1, connection=seen.connection
            )
        zone = _zone(seen, name)
    if as_json:
        desk.print_json([each.to_json() for each in (*runs, *edits)[:limit]])
    elif edits:
        print_changes(edits[:limit], seen.now, zone, named=name is None)
    elif runs:
        print_runs(runs[:limit], seen.now, zone, named=name is None)
    else:
        click.echo("No changes." if changes else "No runs.", err=True)
    tell_more((*runs, *edits), limit)


def print_runs(
    runs: Sequence[RunDetails], now: datetime, zone: str, *, named: bool = False
) -> None:
    """A table of *runs*, by the clocks of *zone*; *named*: also whose each is."""
    titles = (*RUN_TITLES[:1], "routine", *RUN_TITLES[1:]) if named else RUN_TITLES
    rows = [_run(each, now, zone, named=named) for each in runs]
    print_table(titles, rows, spare=("worker", "tries", "cause"))


def print_changes(
    changes: Sequence[Change], now: datetime, zone: str, *, named: bool = False
) -> None:
    """A table of *changes*, in the same way."""
    titles = (*CHANGE_TITLES[:1], "routine", *CHANGE_TITLES[1:]) if named else CHANGE_TITLES
    rows = [
        Row(
            (
                wording.when(each.changed_at, now, zone),
                *((each.routine_name,) if named else ()),
                each.action,
                each.changed_by,
                wording.fields(each),
            ),
            each.note or "",
        )
        for each in changes
    ]
    print_table(titles, rows)


def _run(run: RunDetails, now: datetime, zone: str, *, named: bool) -> Row:
    return Row(
        (
            wording.when(run.scheduled_for, now, zone),
            *((run.routine_name,) if named else ()),
            wording.state(run),
            run.cause,
            wording.NOTHING if run.lateness is None else duration(run.lateness),
            wording.NOTHING if run.duration is None else duration(run.duration),
            str(run.attempts),
            run.worker or wording.NOTHING,
            str(run.id)[:8],
        ),
        wording.why(run),
    )


def _changes(seen: Reading, name: str | None, since: datetime | None, limit: int) -> list[Change]:
    found = seen.routines.changes(name, limit=limit, connection=seen.connection)
    if name is not None and not found:  # it may be none's
        seen.routines.history(name, limit=1, connection=seen.connection)
    return [each for each in found if since is None or each.changed_at >= since]


def _zone(seen: Reading, name: str | None) -> str:
    with suppress(NotFoundError):  # it has been removed
        if name is not None:
            return wording.zone_of(seen.routines.get(name, connection=seen.connection))
    return "UTC"
