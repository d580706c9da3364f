"""``celery routines errors``: why a run failed."""

from __future__ import annotations

import click

from ..client import Routines
from ..details import RunDetails
from ..errors import NotFoundError
from ..routines import State
from ..store import run_list
from . import desk, wording
from .options import examples
from .reading import Reading, reading
from .tables import clean, clean_lines, say

_FAILED = (State.FAILED, State.LOST)


@click.command("errors", epilog=examples("errors report", "errors report 0c3fd4a1"))
@desk.name_argument
@click.argument("run", required=False)
@desk.as_json
@desk.passes_routines
def command(routines: Routines, *, name: str, run: str | None, as_json: bool) -> None:
    """Show why a run failed.

    That is the type of the error and its message, and where it was raised.
    RUN is a run's id or the beginning of it, as 'history' tells it; without, it is the last run
    of the routine that failed or was lost. Exits with 1 if there is none.
    """
    with reading(routines) as seen:
        found = _last(seen, name) if run is None else _begins(seen, name, run)
    if as_json:
        desk.print_json(found.to_json())
        return
    at = found.finished_at or found.claimed_at
    tries = f"attempt {found.attempts}" if found.attempts else "not begun"
    say(f"{clean(found.routine_name)}: run {found.id} {clean(found.state)}, {tries}")
    say(f"due {wording.when(found.scheduled_for, seen.now)}; ended {wording.when(at, seen.now)}")
    told = [*clean_lines(found.reason or ""), *clean_lines(found.error or "")]
    say("\n".join(["", *(told or ["No error was recorded."])]))


def _last(seen: Reading, name: str) -> RunDetails:
    found = seen.routines.history(name, states=_FAILED, limit=1, connection=seen.connection)
    if not found:
        raise NotFoundError(f"no run of {name!r} has failed, or is still kept")
    return found[0]


def _begins(seen: Reading, name: str, beginning: str) -> RunDetails:
    routine_id = run_list.routine_id_of(seen.connection, seen.desk, name)
    found = run_list.runs_beginning(seen.connection, routine_id, beginning)
    if not found:
        raise NotFoundError(f"there is no run {beginning} of {name!r}: see its history")
    if len(found) > 1:
        raise NotFoundError(f"several runs of {name!r} begin with {beginning}: say more of it")
    return found[0]
