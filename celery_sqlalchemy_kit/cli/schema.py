"""``celery routines migrate``: the tables."""

from __future__ import annotations

from typing import Any

import click

from ..config import Settings
from ..errors import SettingsError
from .code import app
from .desk import passes_routines
from .engines import database, to_migrate
from .examples import examples
from .lines import say

DIALECTS = ("postgresql", "mysql", "mariadb", "sqlite")


@click.command(epilog=examples("migrate", "migrate --sql --dialect postgresql > routines.sql"))
@click.option("--sql", is_flag=True, help="Print the SQL that makes the tables; do nothing.")
@click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    help="Of --sql. Default: that of scheduler_db_uri.",
)
def migrate(*, sql: bool, dialect: str | None) -> None:
    """Create the tables, or upgrade them, whatever create_table says.

    A scheduler does so at its start, unless create_table is false. Safe beside running schedulers
    and several times over. --sql needs no database, and prints the statements for migrations of
    your own.
    """
    if dialect is not None and not sql:
        raise click.UsageError("--dialect is that of --sql")
    if sql:
        _print(dialect)
    else:
        _migrate()  # type: ignore[call-arg]  # passed to it


@passes_routines
def _migrate(routines: Any) -> None:
    from .. import migrations

    engine = to_migrate(routines.verbs.settings)
    try:
        done = migrations.migrate(engine)
    finally:
        engine.dispose()
    say(done or f"nothing to do: the tables are of version {migrations.CURRENT}")


def _print(dialect: str | None) -> None:
    from ..migrations import sql

    if dialect is not None:
        script = sql(dialect)
    else:
        try:
            settings = Settings.load(app().conf, scheduler=False)
            url = database(settings)
        except SettingsError as error:
            raise click.UsageError(str(error)) from None
        script = sql(url, schema=settings.scheduler_db_schema)
    click.echo(script.rstrip("\n"))
