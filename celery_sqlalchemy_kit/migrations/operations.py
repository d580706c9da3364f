"""The tables by Alembic migrations of your own, online and with ``--sql``.

::

    from celery_sqlalchemy_kit import migrations


    def upgrade():
        migrations.upgrade(op, version=1)


    def downgrade():
        migrations.downgrade(op, version=0)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ..columns import family
from ..errors import SchemaError
from ..tables import metadata
from . import scripts
from .versions import CURRENT, bring


def upgrade(
    op: Any,
    *,
    version: int = CURRENT,
    schema: str | None = None,
    without: Collection[str] = (),
) -> None:
    """Bring the tables to *version*; the earlier package's ``routines`` is upgraded as well.

    *op* is Alembic's. *version*: say it, as a migration must do the same for ever; a later one is
    for a migration of its own. *schema*: PostgreSQL's, made if it is missing.
    *without*: names of tables that your migrations have made before, as those of mixins; they get
    their triggers.

    Online nothing is done that has been done already. With ``--sql`` there is no database to look
    at: what is written is for one without these tables.

    Raises:
        SchemaError: *version*, *schema* or *without* is not allowed, or as `migrate` says.
    """
    _check(version, range(1, CURRENT + 1), without)
    name = _family(op, schema)
    before, after = scripts.around(schema)
    if op.get_context().as_sql:
        _write(op, [*before, *scripts.creation(name, without), *after])
        return
    _execute(op, before)
    bring(op.get_bind(), without)
    _execute(op, after)


def downgrade(
    op: Any,
    *,
    version: int,
    schema: str | None = None,
    without: Collection[str] = (),
) -> None:
    """Bring the tables back to *version*; 0 drops them, with all that stands in them.

    *without*: names of tables that stay, as your own migration drops them afterwards. A *schema*
    stays in any case.

    Raises:
        SchemaError: *version*, *schema* or *without* is not allowed.
    """
    _check(version, range(CURRENT), without)
    name = _family(op, schema)
    before, after = scripts.around(schema)
    run = _write if op.get_context().as_sql else _execute
    run(op, [*before, *scripts.removal(name, without), *after])


def _check(version: int, allowed: range, without: Collection[str]) -> None:
    if version not in allowed:
        known = ", ".join(map(str, allowed))
        raise SchemaError(f"version = {version!r}: allowed is {known}")
    strange = sorted(set(without) - metadata.tables.keys())
    if isinstance(without, str) or strange:
        known = ", ".join(metadata.tables)
        raise SchemaError(f"without = {without!r}: allowed are names out of {known}")


def _family(op: Any, schema: str | None) -> str:
    name = family(op.get_context().dialect)
    scripts.check_schema(schema, name)
    return name


def _write(op: Any, statements: Iterable[str]) -> None:
    context = op.get_context()
    for text in scripts.script(family(context.dialect), statements):
        context.impl.static_output(text)


def _execute(op: Any, statements: Iterable[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
