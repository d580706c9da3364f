"""`Routine` and `RoutineRun` for those who use SQLAlchemy's ORM; nothing else imports this.

They are mapped by `mixins` on a `metadata` of their own, which describes the kit's tables as the
ORM sees them. The tables are made by the kit or its migrations, not by this metadata: to have
them made by yours, or to add columns, use the mixins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import foreign, registry, relationship

from .mixins import RoutineMixin, RoutineRunMixin

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped

__all__ = ["Routine", "RoutineRun", "metadata"]

_registry = registry()
#: The two tables, as the ORM sees them.
metadata = _registry.metadata


@_registry.mapped
class RoutineRun(RoutineRunMixin):
    """One row of ``routine_runs``. Read it, but leave its changes to the kit."""

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...


@_registry.mapped
class Routine(RoutineMixin):
    """One row of ``routines``.

    What is left out of a new one is as in a bare INSERT. A flush is seen by the scheduler once it
    is committed; what the triggers then change (``next_run_at``, ``edited_at``, ``error``, …) is
    seen by the object after ``session.refresh()`` or its next transaction.
    """

    if TYPE_CHECKING:
        runs: Mapped[list[RoutineRun]]

        def __init__(self, **values: Any) -> None: ...

    else:
        #: Its runs, the newest first; read-only. There is no foreign key: runs outlive it.
        runs = relationship(
            RoutineRun,
            primaryjoin=lambda: foreign(RoutineRun.routine_id) == Routine.id,
            order_by=RoutineRun.scheduled_for.desc(),
            viewonly=True,
        )
