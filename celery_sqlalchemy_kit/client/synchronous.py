"""`Routines`: for scripts, Flask views, migrations, tasks."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..details import Change, RoutineDetails
from ..reconcile import Plan
from ..store.routine_list import Wanted
from .fields import parted
from .runs import RunVerbs

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .fields import Changed, Created, Within


class Routines(RunVerbs):
    """The routines of *app*'s namespace, in the database of ``scheduler_db_uri``.

    Values in, values out: what is returned is frozen and knows no database. Any thread may call.

    Every verb takes ``session=`` (SQLAlchemy's ``Session``) or ``connection=``, and then takes
    part in that transaction, which must be one of the same database: what it has done is there
    once that is committed, and never was if it is rolled back. Without, it commits by itself.
    *who*, by default the user and host of this process, is written into ``routine_changes``.

    Raises (every verb): `NotFoundError`, `ConflictError`, `RoutineError` or `ScheduleError` as its
    text says; `SettingsError` if neither a database is set nor one is passed; and SQLAlchemy's
    errors if the database cannot be reached, or its tables are not there.
    """

    def create(
        self,
        name: str,
        task: str,
        schedule: Any,
        *,
        if_exists: str = "error",
        note: str | None = None,
        **fields: Unpack[Created],
    ) -> RoutineDetails:
        """Make a routine; *schedule* is anything that `schedules.parse` reads.

        *if_exists*: ``error``, ``update`` it (what is given, nothing else), or ``keep`` it as it
        is.

        Raises:
            ConflictError: there is one of that name.
            RoutineError, ScheduleError: names the field, its value and what is allowed.
        """
        said, where = parted(fields)
        given = {"name": name, "task": task, "schedule": schedule, **said}
        return self._do(self.verbs.create(given, if_exists, note), **where)

    def get(self, key: str | UUID, **where: Unpack[Within]) -> RoutineDetails:
        """The routine of that name, or id.

        Raises:
            NotFoundError: there is none.
        """
        return self._look(self.verbs.get(key), **where)

    def update(
        self,
        key: str | UUID,
        *,
        note: str | None = None,
        **fields: Unpack[Changed],
    ) -> RoutineDetails:
        """Change what is given, and leave the rest as it is.

        Raises:
            NotFoundError: there is no such routine.
            RoutineError, ScheduleError: names the field, its value and what is allowed.
        """
        said, where = parted(fields)
        return self._do(self.verbs.update(key, said, note), **where)

    def delete(
        self,
        key: str | UUID,
        *,
        force: bool = False,
        note: str | None = None,
        **where: Unpack[Within],
    ) -> RoutineDetails:
        """Remove a routine; its history stays, and `restore` brings it back.

        Raises:
            NotFoundError: there is no such routine.
            ConflictError: a running scheduler declares it in code; unless *force*.
        """
        return self._do(self.verbs.delete(key, force=force, note=note), **where)

    def restore(
        self, name: str, *, note: str | None = None, **where: Unpack[Within]
    ) -> RoutineDetails:
        """Bring back a routine that was removed, with its schedule, ``active`` and counters.

        Raises:
            NotFoundError: none of that name was removed.
            ConflictError: there is one of that name.
        """
        return self._do(self.verbs.restore(name, note), **where)

    def enable(
        self, *names: str, note: str | None = None, **where: Unpack[Within]
    ) -> builtins.list[str]:
        """Switch on the routines of these names or patterns (``report.*``); returns those that
        were off.

        Raises:
            NotFoundError: a name is none's, or a pattern matches none; nothing is changed.
        """
        return self._do(self.verbs.switch(names, active=True, note=note), **where)

    def disable(
        self, *names: str, note: str | None = None, **where: Unpack[Within]
    ) -> builtins.list[str]:
        """Switch them off; see `enable`. From the commit on no run of theirs is sent."""
        return self._do(self.verbs.switch(names, active=False, note=note), **where)

    def list(
        self,
        wanted: Wanted | None = None,
        *,
        limit: int | None = None,
        after: str | None = None,
        **where: Unpack[Within],
    ) -> builtins.list[RoutineDetails]:
        """The routines that are *wanted*, by name: all, but for one-offs, unless it says otherwise.

        *limit*: so many at most; those that follow are listed with the last name as *after*.
        """
        verb = self.verbs.listed(wanted or Wanted(), limit, after)
        return self._look(verb, **where)

    def names(self, *names: str, **where: Unpack[Within]) -> builtins.list[str]:
        """The names, sorted, of the routines that *names* stand for: names, ids or patterns.

        Raises:
            NotFoundError: a name is none's, or a pattern matches none.
        """
        return self._look(self.verbs.names(names), **where)

    def changes(
        self, name: str | None = None, *, limit: int | None = 100, **where: Unpack[Within]
    ) -> builtins.list[Change]:
        """What was changed by this class and by the command line, newest first."""
        return self._look(self.verbs.changes(name, limit), **where)

    def plan(self, **where: Unpack[Within]) -> Plan:
        """What the start of a scheduler would change so that the table fits the code of *app*,
        whose task modules have to be imported; ``drift`` is what differs and stays."""
        return self._look(self.verbs.plan(), **where)

    def reset(
        self,
        name: str,
        fields: Iterable[str] = (),
        *,
        note: str | None = None,
        **where: Unpack[Within],
    ) -> RoutineDetails:
        """Take the code's ``schedule``, ``args``, ``kwargs`` and ``options``, or some *fields* of
        those.

        Raises:
            NotFoundError: the code declares no such routine, or the table has none.
            RoutineError: a field is none of these.
        """
        return self._do(self.verbs.reset(name, fields, note), **where)
