"""``celery routines …``: commands, one file each.

Celery loads the group for every command of its own, ``celery worker`` as well: it has to be
cheap to import, and to do nothing by itself.
"""

from __future__ import annotations

from typing import Any

import click

from . import health


@click.group()
def routines(**options: Any) -> None:
    """Look after routines."""
    # *options* are the app's own, ``app.user_options["preload"]``: Celery gives them to all.


routines.add_command(health.command)
