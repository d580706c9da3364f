"""``celery routines …``: commands, one file each; and the alias of the asyncio pool.

Celery loads the group for every command of its own, ``celery worker`` as well: it has to be
cheap to import, and to do nothing by itself.
"""

from __future__ import annotations

import atexit
import gc
from contextlib import suppress
from importlib import import_module
from typing import Any

import click
from click_didyoumean import DYMGroup

#: Each command, and where it is: a module, and the name in it.
COMMANDS = {
    "add": "definitions:add",
    "backfill": "orders:backfill",
    "cancel": "one_offs:cancel",
    "check": "check:check",
    "diff": "drift:diff",
    "disable": "switches:disable",
    "enable": "switches:enable",
    "errors": "errors:command",
    "export": "documents:export",
    "health": "health:command",
    "history": "history:command",
    "import": "documents:import_",
    "list": "listing:command",
    "migrate": "schema:migrate",
    "once": "one_offs:once",
    "plan": "plan:plan",
    "prune": "retention:prune",
    "remove": "removals:remove",
    "reschedule": "one_offs:reschedule",
    "reset": "drift:reset",
    "restore": "removals:restore",
    "run": "orders:run",
    "set": "definitions:set_",
    "show": "show:command",
    "upcoming": "upcoming:command",
}
#: ``celery worker --pool`` takes this name.
POOL = "routines-asyncio"


class Commands(DYMGroup):  # type: ignore[misc]
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f".{module}", __name__), name)
        return command


@click.group(cls=Commands)
def routines(**options: Any) -> None:
    """Look after routines."""
    # *options* are the app's own, ``app.user_options["preload"]``: Celery gives them to all.
    # When it ends Python goes through all that Celery and SQLAlchemy have made: for 0.2 seconds.
    atexit.register(gc.freeze)


def _name_pool() -> None:
    """Have ``--pool`` take `POOL`. Celery has fixed the names by now; one that keeps them elsewhere
    does without this one."""
    with suppress(ImportError, AttributeError, TypeError):
        from celery import concurrency
        from celery.bin import worker

        names = (*worker.WORKERS_POOL.choices, POOL)
        concurrency.ALIASES.setdefault(POOL, "celery_sqlalchemy_kit.pool:AsyncioPool")
        worker.WORKERS_POOL.choices = names


_name_pool()
