"""What Alembic's autogenerate has to know of the tables: hooks for ``context.configure``."""

from __future__ import annotations

from typing import Any, Literal

from ..columns import Id, Instant, JsonText, MappedJson
from ..tables import metadata
from .hashes import STAND_INS

_TYPES = {Id: "Id", Instant: "Instant", JsonText: "JsonText", MappedJson: "JsonText"}


def include_object(
    object_: Any,
    name: str | None,
    type_: str,
    reflected: bool,  # noqa: FBT001  the signature is Alembic's
    compare_to: Any,
) -> bool:
    """False for what the kit has made and your metadata does not know: it is left alone.

    To be had beside a hook of your own::

        def include_object(*args):
            return migrations.include_object(*args) and mine(*args)
    """
    if not reflected or compare_to is not None:
        return True
    if type_ == "table":
        return name not in metadata.tables
    return not (object_.table.name in metadata.tables and name in STAND_INS)


def render_item(type_: str, object_: Any, autogen_context: Any) -> str | Literal[False]:
    """The kit's column types as a migration has them, imported: for a `Base` with the mixins.

    False, for all else, is Alembic's word for its own way.
    """
    for kind, name in _TYPES.items():
        if type_ == "type" and isinstance(object_, kind):
            autogen_context.imports.add("import celery_sqlalchemy_kit.columns")
            return f"celery_sqlalchemy_kit.columns.{name}()"
    return False
