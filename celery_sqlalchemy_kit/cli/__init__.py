"""``celery routines …``: commands, one file each; and the alias of the asyncio pool.

Celery loads the group for every command of its own, ``celery worker`` as well: it has to be
cheap to import, and to do nothing by itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from . import health

#: ``celery worker --pool`` takes this name.
POOL = "routines-asyncio"


@click.group()
def routines(**options: Any) -> None:
    """Look after routines."""
    # *options* are the app's own, ``app.user_options["preload"]``: Celery gives them to all.


routines.add_command(health.command)


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
