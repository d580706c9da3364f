"""``celery routines run`` and ``backfill``: runs by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
from sqlalchemy.engine import Connection

from ..errors import ConflictError
from ..store.orders import MOST, Backfill, Span
from .code import app
from .consent import Manner, agree, manner_options
from .desk import NO, name_argument, note, passes_routines, print_json
from .desk import as_json as as_json_option
from .durations import Duration, Moment
from .engines import present, together
from .examples import examples
from .json_text import ARRAY, OBJECT
from .lines import counted, say, shortened
from .outcome import await_end
from .times import stamp


@click.command(
    epilog=examples(
        "run report",
        "run report --kwargs '{\"month\": 11}' --wait --timeout 10m",
    )
)
@name_argument
@click.option("--args", type=ARRAY, metavar="JSON", help="In place of the routine's own.")
@click.option("--kwargs", type=OBJECT, metavar="JSON", help="In place of the routine's own.")
@click.option("--options", type=OBJECT, metavar="JSON", help="In place of the routine's own.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit code 1 unless it succeeds.")
@click.option(
    "--timeout",
    type=Duration(),
    metavar="DURATION",
    help="Wait no longer; exit code 1 if it still runs.",
)
@note
@as_json_option
@passes_routines
def run(
    routines: Any,
    name: str,
    note: str | None,
    *,
    wait: bool,
    timeout: timedelta | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Run a routine now, once, whether it is on or off. Prints the run's id, the Celery task's.

    Its rhythm stays as it is, and its overlap holds. It is sent by a scheduler, at once if one is
    there.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is that of --wait")
    key = routines.run_now(name, note=note, **given)
    if not as_json:
        say(str(key))
    if not wait:
        if as_json:
            print_json({"run_id": str(key)})
        return
    outcome = await_end(routines, app(), key, timeout)
    if as_json:
        print_json(outcome.to_json())
    else:
        for line in outcome.lines():
            say(line)
    click.get_current_context().exit(0 if outcome.succeeded else NO)


@click.command(
    epilog=examples(
        "backfill report --from 2026-11-01T00:00Z --to 2026-11-08T00:00Z",
        "backfill report --from 7d --rate 0.5 --note 'prices were wrong' --yes",
    )
)
@name_argument
@click.option(
    "--from", "since", type=Moment(past=True), required=True, metavar="WHEN", help="Included."
)
@click.option(
    "--to",
    "until",
    type=Moment(past=True),
    default="now",
    show_default=True,
    metavar="WHEN",
    help="Included.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=MOST, show_default=True, help="Runs at most."
)
@click.option("--rate", type=float, metavar="NUMBER", help="Runs that begin a second at most.")
@click.option("--again", is_flag=True, help="Also what has succeeded, or is under way.")
@note
@manner_options
@passes_routines
def backfill(
    routines: Any, name: str, note: str | None, manner: Manner, *, rate: float | None, **said: Any
) -> None:
    """Run a routine for occurrences that have been, oldest first.

    Those of which a run has succeeded or is under way are left out. Runs of a routine that does
    not overlap follow one another. WHEN is 2026-11-01T00:00Z, now, or how long before now: 7d.
    """
    now = present(routines)
    since, until = said.pop("since").at(now), said.pop("until").at(now)
    span = Span(since, until, per_second=rate, **said)
    found = routines.backfill(name, span, dry_run=True)
    _show(found, err=manner.as_json)
    does = bool(found.occurrences) and not manner.dry_run
    if does:
        agree(f"Run {name} for {counted(len(found.occurrences), 'occurrence')}?", yes=manner.yes)
        found = together(routines, lambda c: _order(routines, c, name, span, found, note))
    if manner.as_json:
        print_json({"done": does, **_as_json(found)})
    elif does:
        say(f"ordered {counted(len(found.run_ids), 'run')}")


def _order(
    routines: Any, connection: Connection, name: str, span: Span, shown: Backfill, note: str | None
) -> Backfill:
    done: Backfill = routines.backfill(name, span, note=note, connection=connection)
    if not set(done.occurrences) <= set(shown.occurrences):
        raise ConflictError("its schedule has changed meanwhile: look again; nothing is ordered")
    return done


def _show(found: Backfill, *, err: bool) -> None:
    for line in shortened(map(stamp, found.occurrences)):
        say(line, err=err)
    left_out = f"; {found.left_out} left out, as they have run or are going to"
    say(counted(len(found.occurrences), "occurrence") + left_out * bool(found.left_out), err=err)


def _as_json(found: Backfill) -> dict[str, Any]:
    return {
        "occurrences": [at.isoformat() for at in found.occurrences],
        "left_out": found.left_out,
        "run_ids": [str(key) for key in found.run_ids],
    }
