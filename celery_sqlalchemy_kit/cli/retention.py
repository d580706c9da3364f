"""``celery routines prune``: runs that have ended leave the history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from ..store.pruning import prune as prune_runs
from ..store.pruning import prune_changes
from .desk import as_json as as_json_option
from .desk import passes_routines, print_json
from .durations import Moment, When
from .engines import client, present
from .examples import examples
from .lines import counted, say
from .options import ROWS


@click.command(epilog=examples("prune", "prune --before 30d", "prune --keep 100"))
@click.option(
    "--before",
    type=Moment(past=True),
    metavar="WHEN",
    help="What ended before: an instant, or 30d.",
)
@click.option("--keep", type=ROWS, help="Ended runs that each routine keeps, its newest.")
@as_json_option
@passes_routines
def prune(routines: Any, before: When | None, keep: int | None, *, as_json: bool) -> None:
    """Delete runs that have ended from the history, in small batches. What has not ended stays.

    Schedulers do so while nothing is due, by scheduler_keep_runs_for and scheduler_keep_runs, and
    delete old changes, by scheduler_keep_changes_for; without options this command does the same at
    once. With options it deletes runs, and goes by them alone.
    """
    verbs = routines.verbs
    settings, engine, now = verbs.settings, client(routines), present(routines)
    told = {}
    if before is None and keep is None:
        before = _ago(settings.scheduler_keep_runs_for)
        keep = settings.scheduler_keep_runs or None
        old = _ago(settings.scheduler_keep_changes_for).at(now)
        told["changes"] = sum(prune_changes(engine, verbs.desk.namespace, old))
    until = None if before is None else before.at(now)
    told["runs"] = sum(prune_runs(engine, verbs.desk.namespace, before=until, keep=keep))
    if as_json:
        print_json({"pruned": told})
    else:
        say("pruned " + ", ".join(counted(n, what[:-1]) for what, n in sorted(told.items())[::-1]))


def _ago(seconds: float) -> When:
    return When(offset=-timedelta(seconds=seconds))
