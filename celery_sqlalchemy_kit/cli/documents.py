"""``celery routines export`` and ``import``: routines as documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from sqlalchemy.engine import Connection

from ..errors import ConflictError
from ..exchange import Changes, Format, changes, dump
from ..store import imports
from ..store.definitions import Kept, kept
from .consent import Manner, agree, manner_options
from .desk import NO, complete_names, fail, note, passes_routines, print_json
from .engines import together
from .examples import examples
from .lines import counted, say, shortened, value, warn
from .sources import Source, read, source_options


@click.command(
    epilog=examples("export > routines.yaml", "export --output routines.json 'report.*'")
)
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@click.option(
    "--format",
    "form",
    type=click.Choice([each.value for each in Format]),
    help="Default: json for a FILE that ends so, else yaml.",
)
@click.option("--output", metavar="FILE", help="Write it there; default: standard output.")
@passes_routines
def export(routines: Any, names: tuple[str, ...], form: str | None, output: str | None) -> None:
    """Write routines down as a document, all of them or some, for "import" to read.

    The same routines make the same text. What the kit keeps (ids, counters, when they ran) and
    one-offs are not in it. Exit code 1 if a row cannot be read: the others are written.
    """
    found = together(routines, lambda c: _kept(routines, c))
    wanted = set(routines.names(*names)) if names else None
    chosen = [each for each in found.definitions if wanted is None or each.name in wanted]
    default = Format.JSON if output and output.endswith(".json") else Format.YAML
    text = dump(chosen, Format(form) if form else default)
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
    unreadable = {n: why for n, why in found.unreadable.items() if wanted is None or n in wanted}
    for name, why in unreadable.items():
        warn(f"{name!r} is left out: {why}")
    click.get_current_context().exit(NO if unreadable else 0)


@click.command(
    "import",
    epilog=examples(
        "import routines.yaml --dry-run",
        "import - --update --note 'as in version control' < routines.yaml",
        "import --from django-celery-beat --url postgresql://user@host/shop --keep",
    ),
)
@source_options
@click.option(
    "--update/--keep",
    "update",
    default=None,
    help="What is done with a routine that is there and differs; without, nothing is imported.",
)
@note
@manner_options
@passes_routines
def import_(
    routines: Any, note: str | None, manner: Manner, *, update: bool | None, source: Source
) -> None:
    """Make routines of what FILE (- for standard input), or another scheduler, defines.

    All of it or, where something is wrong, none. Routines that are not named stay as they are.
    Shows what is made and what is changed, then asks, if there is anybody to ask.
    """
    desk = routines.verbs.desk
    definitions, problems = read(source)

    def compared(connection: Connection) -> Changes:
        there = _kept(routines, connection)
        return changes(definitions, there.definitions, there.unreadable)

    found = together(routines, compared)
    for problem in problems:
        warn(f"not taken over: {problem}")
    if not definitions and not problems:
        warn("no routine is defined there")
    _show(found, update=update, err=manner.as_json)
    differ = len(found.update) + len(found.repair)
    if differ and update is None and not manner.dry_run:
        what = f"the table says otherwise of {counted(differ, 'routine')}"
        fail(f"{what}: say --update or --keep; nothing is imported", NO)
    does = bool(found.create or (update and differ)) and not manner.dry_run
    if does:
        agree("Import?", yes=manner.yes)

        def carry_out(connection: Connection) -> None:
            _check_same(compared(connection), found)
            imports.create(connection, desk, found.create, note=note)
            if update:
                imports.update(connection, desk, found, note=note)

        together(routines, carry_out)
    _tell(found, problems, manner, update=update, done=does)


def _kept(routines: Any, connection: Connection) -> Kept:
    desk = routines.verbs.desk
    return kept(connection, desk.namespace, desk.timezone)


def _check_same(found: Changes, shown: Changes) -> None:
    if found != shown:
        raise ConflictError("the table has changed meanwhile: look again; nothing is imported")


def _show(found: Changes, *, update: bool | None, err: bool) -> None:
    made = (f"create {each.name}: {each.task}, {each.schedule.words()}" for each in found.create)
    word = {True: "update", False: "keep", None: "differs:"}[update]
    differ = (
        f"{word} {each.after.name}: "
        + "; ".join(f"{d.key} {value(d.before)} → {value(d.after)}" for d in each.differences)
        for each in found.update
    )
    broken = (f"{word} {each.name}, which cannot be read" for each in found.repair)
    for line in (*shortened(made), *shortened(differ), *shortened(broken)):
        say(line, err=err)
    if found.unchanged:
        say(f"{counted(len(found.unchanged), 'routine')} so already", err=err)


def _tell(
    found: Changes, problems: Sequence[str], manner: Manner, *, update: bool | None, done: bool
) -> None:
    if not manner.as_json:
        if done:
            changed = len(found.update) + len(found.repair) if update else 0
            say(f"imported: {len(found.create)} created, {changed} changed")
        return
    updated = [
        {
            "name": each.after.name,
            "changes": {d.key: [d.before, d.after] for d in each.differences},
        }
        for each in found.update
    ]
    created = [each.name for each in found.create]
    unchanged = [each.name for each in found.unchanged]
    repaired = [each.name for each in found.repair]
    told = {"done": done, "create": created, "differ": updated, "repair": repaired}
    print_json({**told, "unchanged": unchanged, "problems": list(problems)})


def _write(output: str, text: str) -> None:
    try:
        Path(output).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}", NO)
