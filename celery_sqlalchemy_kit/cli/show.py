"""``celery routines show``: all there is to know about one routine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import click
from sqlalchemy.exc import SQLAlchemyError

from ..client import Routines
from ..details import Change, RoutineDetails, RunDetails, plain
from ..reconcile import Drift
from ..store import run_list
from . import desk, wording
from .history import print_changes, print_runs
from .options import examples
from .reading import Reading, reading
from .tables import BAD, ODD, Row, Toned, clean_lines, print_table, say, say_heading
from .times import duration

#: Occurrences, runs and changes that are shown.
SHOWN = 10


class Found(NamedTuple):
    """A routine and what belongs to it; *drift* in words if it is not known."""

    routine: RoutineDetails
    next_runs: list[datetime]
    runs: list[RunDetails]
    drift: list[Drift] | str
    changes: list[Change]


@click.command("show", epilog=examples("show report", "show report --json"))
@desk.name_argument
@desk.as_json
@desk.passes_routines
def command(routines: Routines, *, name: str, as_json: bool) -> None:
    """Show all there is to know about a routine.

    Its fields, its next occurrences, its last runs, and who has changed it.
    NAME may also be its id. Where the code says otherwise than the table, both are shown; the
    table is obeyed.
    """
    with reading(routines) as seen:
        found = _found(seen, name)
    if as_json:
        desk.print_json(_json(found))
    else:
        _print(found, seen.now)


def _found(seen: Reading, name: str) -> Found:
    ask, connection = seen.routines, seen.connection
    routine = ask.get(name, connection=connection)
    return Found(
        routine,
        ask.next_runs(routine.name, SHOWN, connection=connection),
        run_list.runs_of(connection, routine.id, limit=SHOWN),
        _drift(seen, routine.name),
        ask.changes(routine.name, limit=SHOWN, connection=connection),
    )


def _drift(seen: Reading, name: str) -> list[Drift] | str:
    app = seen.routines.verbs.app
    try:
        app.loader.import_default_modules()
        plan = seen.routines.plan(connection=seen.connection)
    except SQLAlchemyError:
        raise
    except Exception as error:  # noqa: BLE001  the code is not ours, and not what was asked for
        return f"{type(error).__name__}: {error}"
    return [drift for drift in plan.drift if drift.name == name]


def _print(found: Found, now: datetime) -> None:
    routine, zone = found.routine, wording.zone_of(found.routine)
    print_table(("", ""), list(_fields(found, now, zone)))
    _print_drift(found.drift)
    say_heading("Next occurrences")
    for at in found.next_runs:
        say(wording.when(at, now, zone))
    if not found.next_runs:
        say(_why_none(routine))
    if found.runs:
        say_heading("Last runs")
        print_runs(found.runs, now, zone)
    if found.changes:
        say_heading("Changes")
        print_changes(found.changes, now, zone)


def _fields(found: Found, now: datetime, zone: str) -> Iterator[Row]:
    """Names and values, without those that say nothing."""
    routine = found.routine
    last = found.runs[0] if found.runs else None
    most = "" if routine.max_runs is None else f" of {routine.max_runs} at most"
    texts = {
        "name": routine.name,
        "error": routine.error and Toned(routine.error, BAD),
        "alert": routine.alert and Toned(routine.alert, BAD),
        "task": routine.task,
        "schedule": routine.words,
        "": wording.value(routine.schedule_json),
        "active": "yes" if routine.active else Toned("no", ODD),
        "next run": wording.next_run(routine, now),
        "last run": wording.last_run(routine, last, now),
        "runs": f"{routine.total_run_count}{most}",
        "args": routine.args and wording.value(routine.args),
        "kwargs": routine.kwargs and wording.value(routine.kwargs),
        "options": routine.options and wording.value(routine.options),
        "catch up": routine.catch_up,
        "overlap": routine.overlap,
        "jitter": routine.jitter and f"up to {duration(timedelta(seconds=routine.jitter))}",
        "starts": routine.starts_at and wording.when(routine.starts_at, now, zone),
        "ends": routine.ends_at and wording.when(routine.ends_at, now, zone),
        "origin": _ORIGINS.get(routine.origin, routine.origin),
        "namespace": routine.namespace,
        "id": str(routine.id),
        "created": wording.when(routine.created_at, now, zone),
        "updated": wording.when(routine.updated_at, now, zone),
        "description": routine.description,
    }
    for name, text in texts.items():
        for place, line in enumerate(clean_lines(text) if text else ()):
            yield Row((name if place == 0 else "", Toned(line, getattr(text, "tone", ""))))


_ORIGINS = {None: "bare SQL", "code": "code", "db": "made by hand", "once": "a one-off"}


def _print_drift(drift: list[Drift] | str) -> None:
    if isinstance(drift, str):
        say_heading("What the code says is not known")
        say("\n".join(clean_lines(drift)))
    elif drift:
        say_heading("The code says otherwise; the table is obeyed")
        print_table(("field", "table", "code"), [Row((d.field, d.database, d.code)) for d in drift])


def _why_none(routine: RoutineDetails) -> str:
    if not routine.active:
        return "None: it is off."
    if routine.error is not None:
        return "None: it cannot be scheduled, see its error."
    if routine.routine is not None and routine.routine.waiting_for is not None:
        return "Not known: it waits for the end of a run."
    return "None."


def _json(found: Found) -> dict[str, Any]:
    drift = found.drift
    return {
        **found.routine.to_json(),
        "next_runs": plain(found.next_runs),
        "runs": plain(found.runs),
        "drift": None if isinstance(drift, str) else [_drift_json(each) for each in drift],
        "changes": plain(found.changes),
    }


def _drift_json(drift: Drift) -> dict[str, Any]:
    return {
        "field": drift.field,
        "code": json.loads(drift.code),
        "database": json.loads(drift.database),
    }
