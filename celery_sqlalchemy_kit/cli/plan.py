"""``celery routines plan``: what the start of a scheduler would do to the table."""

from __future__ import annotations

import json
from typing import Any

import click

from ..reconcile import Plan
from .code import imported
from .desk import NO, passes_routines, print_json
from .desk import as_json as as_json_option
from .drift import differences
from .examples import examples
from .lines import say, value


@click.command(epilog=examples("plan", "plan --json"))
@as_json_option
@passes_routines
def plan(routines: Any, *, as_json: bool) -> None:
    """Show what a scheduler would change at its start so that the table fits the code.

    Changes nothing. Exit code 1 if routines would be removed or deactivated, at the start or when
    the last scheduler that declares them stops; for CI, before a deployment.
    """
    imported()
    found: Plan = routines.plan()
    if as_json:
        print_json(to_json(found))
    else:
        for line in lines(found):
            say(line)
    click.get_current_context().exit(NO if loses(found) else 0)


def loses(plan: Plan) -> bool:
    """Whether routines go, now or when another scheduler has stopped; pure."""
    return bool(plan.remove or plan.deactivate or plan.held)


def to_json(plan: Plan) -> dict[str, Any]:
    """Names by what becomes of them; of fields that follow the code, what they are going to be."""
    return {
        "insert": [each.name for each in plan.insert],
        "restore": [each.name for each in plan.restore],
        "retask": [{"name": row.name, "from": row.task, "to": task} for row, task in plan.retask],
        "follow": [
            {"name": row.name, **{field: json.loads(text) for field, text in fields.items()}}
            for row, fields in plan.follow
        ],
        "remove": [row.name for row in plan.remove],
        "deactivate": [row.name for row in plan.deactivate],
        "held": list(plan.held),
        "spared": list(plan.spared),
        "drift": [
            {
                "name": each.name,
                "field": each.field,
                "code": json.loads(each.code),
                "database": json.loads(each.database),
            }
            for each in plan.drift
        ],
    }


def lines(plan: Plan) -> list[str]:
    """What would be done, a line each, and what is left; pure."""
    told = [
        *(f"insert {each.name}: {each.task}, {each.schedule.words()}" for each in plan.insert),
        *(f"restore {each.name}, as it was when removed" for each in plan.restore),
        *(f"move {row.name} from task {row.task} to {task}" for row, task in plan.retask),
        *(f"take from the code {row.name}: {', '.join(fields)}" for row, fields in plan.follow),
        *(f"remove {row.name}: {_why(row.origin)}" for row in plan.remove),
        *(f"deactivate {row.name}: no longer declared" for row in plan.deactivate),
        *(
            f"remove {name} once the last scheduler that declares it has stopped"
            for name in plan.held
        ),
        *(f"keep {name}: the code declares nothing at all" for name in plan.spared),
    ]
    told += [
        f"leave {each.name}: {each.field} is {value(each.database)} in the table, "
        f"{value(each.code)} in the code"
        for each in differences(plan)
        if each.stays
    ]
    return told or ["nothing to do: the table fits the code"]


def _why(origin: str | None) -> str:
    if origin is None:
        return "came by SQL, its task is not known here and it never ran"
    return "no longer declared"
