"""``celery routines diff`` and ``reset``: what code and table say differently."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import click
from sqlalchemy.engine import Connection

from ..config import zone_name
from ..errors import NotFoundError
from ..reconcile import FIELDS, Plan
from ..registrar import declared
from ..store.routine_list import is_pattern
from .code import imported
from .consent import Manner, manner_options
from .desk import NO, note, passes_routines, print_json
from .desk import as_json as as_json_option
from .examples import examples
from .lines import say, value
from .proposal import Edit, carry_out, edit, locked


@dataclass(frozen=True)
class Difference:
    """*stays*: the database's is obeyed; else the next start of a scheduler takes the code's."""

    name: str
    field: str
    code: Any
    database: Any
    stays: bool


@click.command(
    epilog=examples("diff", "diff 'report.*'", "diff --exit-code --json", "reset report")
)
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything differs.")
@as_json_option
@passes_routines
def diff(routines: Any, names: Sequence[str], *, exit_code: bool, as_json: bool) -> None:
    """Show where code and table differ, of all routines that are in both, or of some.

    What was changed in the table is obeyed; "reset" takes the code's. What is in one of the two
    alone is shown by "plan".
    """
    wanted = _declared(imported(), names or ["*"])
    found = [each for each in differences(routines.plan()) if each.name in wanted]
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        _show(found)
    click.get_current_context().exit(NO if found and exit_code else 0)


@click.command(
    epilog=examples("reset report", "reset 'report.*' --field schedule --field options --yes")
)
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option(
    "--field", "fields", type=click.Choice(FIELDS), multiple=True, help="Only that; repeatable."
)
@note
@manner_options
@passes_routines
def reset(
    routines: Any, names: Sequence[str], fields: Sequence[str], note: str | None, manner: Manner
) -> None:
    """Have routines say what the code says, by their names or by patterns: all of them, or none.

    That is their schedule, args, kwargs and options. Shows each field before and after, then asks,
    if there is anybody to ask.
    """
    wanted = _declared(imported(), names)

    def take(connection: Connection) -> list[Edit]:
        edits = []
        for name in wanted:
            before = locked(routines, connection, name)
            after = routines.reset(name, fields, note=note, connection=connection)
            edits.append(edit(routines, connection, before, after))
        return edits

    carry_out(routines, take, "Take what the code says?", note, manner)


def differences(plan: Plan) -> list[Difference]:
    """What code and table say differently of routines that are in both, by name; pure."""
    found = [*_moved(plan), *_stays(plan)]
    return sorted(found, key=lambda each: (each.name, each.field))


def _moved(plan: Plan) -> Iterator[Difference]:
    for row, task in plan.retask:
        yield Difference(row.name, "task", task, row.task, stays=False)
    for row, taken in plan.follow:
        for field, code in taken.items():
            database = json.loads(row.fields[field] or "null")
            yield Difference(row.name, field, json.loads(code), database, stays=False)


def _stays(plan: Plan) -> Iterator[Difference]:
    for each in plan.drift:
        code, database = json.loads(each.code), json.loads(each.database)
        yield Difference(each.name, each.field, code, database, stays=True)


def _declared(app: Any, names: Iterable[str]) -> list[str]:
    """The names that the code declares, of those that *names* or patterns stand for.

    Raises:
        NotFoundError: a name is not declared, or a pattern matches none that is.
    """
    known = sorted(each.name for each in declared(app, zone_name(app)))
    found: set[str] = set()
    for name in names:
        matching = {each for each in known if _matches(each, name)}
        if not matching:
            what = "no routine that matches" if is_pattern(name) else "no routine"
            raise NotFoundError(f"the code declares {what} {name!r}")
        found |= matching
    return sorted(found)


def _matches(name: str, wanted: str) -> bool:
    return name == wanted or (is_pattern(wanted) and fnmatchcase(name, wanted))


def _show(found: Sequence[Difference]) -> None:
    name = None
    for each in found:
        if each.name != name:
            name = each.name
            say(name)
        obeyed = "" if each.stays else "  (the next start takes the code's)"
        said = f"code {value(each.code)}, database {value(each.database)}"
        say(f"  {each.field}: {said}{obeyed}")
    if not found:
        say("code and table say the same")
