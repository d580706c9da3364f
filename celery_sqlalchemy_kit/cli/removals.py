"""``celery routines remove`` and ``restore``."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy.engine import Connection

from ..errors import ConflictError
from .consent import Manner, agree, asks, manner_options
from .desk import as_json as as_json_option
from .desk import complete_removed, name_arguments, note, passes_routines, print_json
from .engines import rehearsed, together
from .examples import examples
from .lines import counted, say, shortened


@click.command(epilog=examples("remove nightly", "remove 'old.*' --dry-run", "restore nightly"))
@name_arguments
@click.option("--force", is_flag=True, help="Even if a running scheduler declares it in code.")
@note
@manner_options
@passes_routines
def remove(
    routines: Any, names: tuple[str, ...], note: str | None, manner: Manner, *, force: bool
) -> None:
    """Remove routines, by their names or by patterns: all of them, or none.

    Their history stays, and "restore" brings them back. One that the code of a running scheduler
    declares would be back with its next start: disable it instead, or use --force.
    """

    def removing(connection: Connection) -> list[str]:
        found = routines.names(*names, connection=connection)
        for name in found:
            routines.delete(name, force=force, note=note, connection=connection)
        return list(found)

    done = rehearsed(routines, removing)
    if manner.dry_run or asks(yes=manner.yes):
        for line in shortened(f"would remove {name}" for name in done):
            say(line, err=manner.as_json)
    if not manner.dry_run:
        agree(f"Remove {counted(len(done), 'routine')}?", yes=manner.yes)
        done = together(routines, lambda c: _if_same(removing(c), done))
    _tell(done, "removed", manner)


@click.command(epilog=examples("restore nightly", "restore nightly weekly --note 'still needed'"))
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_removed)
@note
@as_json_option
@passes_routines
def restore(routines: Any, names: tuple[str, ...], note: str | None, *, as_json: bool) -> None:
    """Bring back routines that were removed: all of them, or none.

    They come back with their schedule, counters and whether they were active, and stay although
    no code declares them. Time in between is not caught up.
    """

    def restoring(connection: Connection) -> list[str]:
        for name in dict.fromkeys(names):
            routines.restore(name, note=note, connection=connection)
        return list(dict.fromkeys(names))

    _tell(
        together(routines, restoring), "restored", Manner(dry_run=False, yes=True, as_json=as_json)
    )


def _if_same(done: list[str], shown: list[str]) -> list[str]:
    if done != shown:
        raise ConflictError("there are others by now: look again; nothing is removed")
    return done


def _tell(done: list[str], word: str, manner: Manner) -> None:
    if manner.as_json:
        print_json({"done": not manner.dry_run, word: done})
    elif not manner.dry_run:
        for name in done:
            say(f"{word} {name}")
