"""What `Routines` and `AsyncRoutines` do alike: each verb as a function of a connection.

Calling one checks nothing and reads nothing; what it returns does, once it is given a connection.
"""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from celery import Celery
from sqlalchemy.engine import URL, Connection, Engine

from .. import registrar
from ..clock import DATABASE, UTC, Clock
from ..config import Settings, zone_name
from ..details import Change, RoutineDetails, RunDetails
from ..errors import NotFoundError, RoutineError, SettingsError
from ..reconcile import FIELDS, Plan, in_json
from ..routines import OneOff, State
from ..store import changes, edits, one_offs, orders, registry, routine_list, run_list
from ..store import upcoming as instants
from ..store.connections import engine_for
from ..store.desk import Desk
from ..store.fields import instant

T = TypeVar("T")
Verb = Callable[[Connection], T]

MISSING_URL = "scheduler_db_uri is not set: set it, or pass session= or connection= to every call"


class Verbs:
    """The verbs of one app; *who* is written into ``routine_changes``."""

    def __init__(self, app: Celery, who: str | None, clock: Clock = DATABASE) -> None:
        self.app = app
        self.settings = Settings.load(app.conf, scheduler=False)
        self.desk = Desk(
            namespace=self.settings.scheduler_namespace,
            timezone=zone_name(app),
            who=_me() if who is None else who,
            allowed_tasks=self.settings.scheduler_allowed_tasks,
            rescue_after=timedelta(seconds=self.settings.scheduler_rescue_after),
            clock=clock,
        )

    def url(self) -> URL:
        """Where transactions of the kit's own run."""
        if self.settings.scheduler_db_uri is None:
            raise SettingsError([MISSING_URL])
        return self.settings.scheduler_db_uri

    def engine(self) -> Engine:
        """The engine of those."""
        return engine_for(self.url(), "client", schema=self.settings.scheduler_db_schema)

    def create(
        self, given: Mapping[str, Any], if_exists: str, note: str | None
    ) -> Verb[RoutineDetails]:
        if if_exists not in ("error", "update", "keep"):
            raise RoutineError(f"if_exists = {if_exists!r}: allowed are error, update and keep")
        return lambda c: edits.create(c, self.desk, given, if_exists=if_exists, note=note)

    def get(self, key: str | UUID) -> Verb[RoutineDetails]:
        return lambda c: routine_list.find(c, self.desk, key)

    def update(
        self, key: str | UUID, given: Mapping[str, Any], note: str | None
    ) -> Verb[RoutineDetails]:
        return lambda c: edits.update(c, self.desk, key, given, note=note)

    def delete(self, key: str | UUID, *, force: bool, note: str | None) -> Verb[RoutineDetails]:
        return lambda c: edits.delete(c, self.desk, key, force=force, note=note)

    def restore(self, name: str, note: str | None) -> Verb[RoutineDetails]:
        return lambda c: edits.restore(c, self.desk, name, note=note)

    def switch(self, names: Iterable[str], *, active: bool, note: str | None) -> Verb[list[str]]:
        asked = list(names)
        return lambda c: edits.switch(c, self.desk, asked, active=active, note=note)

    def listed(
        self, wanted: routine_list.Wanted, limit: int | None, after: str | None
    ) -> Verb[list[RoutineDetails]]:
        most = _most(limit)
        return lambda c: routine_list.listed(c, self.desk, wanted, limit=most, after=after)

    def names(self, names: Iterable[str]) -> Verb[list[str]]:
        asked = list(names)
        return lambda c: routine_list.named(c, self.desk, asked)

    def run_now(self, key: str | UUID, given: Mapping[str, Any], note: str | None) -> Verb[UUID]:
        said = {name: value for name, value in given.items() if value is not None}
        return lambda c: orders.run_now(c, self.desk, key, said, note=note)

    def backfill(
        self, key: str | UUID, span: orders.Span, *, dry_run: bool, note: str | None
    ) -> Verb[orders.Backfill]:
        return lambda c: orders.backfill(c, self.desk, key, span, dry_run=dry_run, note=note)

    def once(self, wanted: Iterable[OneOff]) -> Verb[list[UUID]]:
        asked = list(wanted)
        return lambda c: one_offs.once(c, self.desk, asked)

    def reschedule(
        self, key: str | UUID, at: datetime | None, in_: timedelta | float | None, note: str | None
    ) -> Verb[datetime]:
        known = _id("one-off", key)
        return lambda c: one_offs.reschedule(c, self.desk, known, at, in_, note=note)

    def cancel(self, key: str | UUID, note: str | None) -> Verb[bool]:
        known = _id("one-off", key)
        return lambda c: one_offs.cancel(c, self.desk, known, note=note)

    def history(
        self,
        key: str | UUID | None,
        states: Iterable[State | str],
        since: datetime | None,
        limit: int | None,
    ) -> Verb[list[RunDetails]]:
        chosen, most = _states(states), _most(limit)
        from_ = None if since is None else instant("since", since)

        def read(c: Connection) -> list[RunDetails]:
            if key is None:
                return run_list.all_runs(c, self.desk, states=chosen, since=from_, limit=most)
            routine_id = run_list.routine_id_of(c, self.desk, key)
            return run_list.runs_of(c, routine_id, states=chosen, since=from_, limit=most)

        return read

    def run(self, run_id: str | UUID) -> Verb[RunDetails]:
        known = _id("run", run_id)
        return lambda c: run_list.find_run(c, self.desk, known)

    def last_runs(self, keys: Iterable[UUID]) -> Verb[dict[UUID, RunDetails]]:
        asked = list(keys)
        return lambda c: run_list.last_runs(c, self.desk, asked)

    def upcoming(
        self, within: timedelta, limit: int
    ) -> Verb[list[tuple[datetime, RoutineDetails]]]:
        most = _most(limit) or 0

        def read(c: Connection) -> list[tuple[datetime, RoutineDetails]]:
            until = _after(self.desk.present(c), within)
            return instants.upcoming(c, self.desk, until, limit=most)

        return read

    def next_runs(self, key: str | UUID, n: int) -> Verb[list[datetime]]:
        def read(c: Connection) -> list[datetime]:
            routine = routine_list.find(c, self.desk, key)
            if routine.routine is None or not routine.active or routine.error is not None:
                return []
            return instants.forecast(routine.routine, self.desk.present(c), n)

        return read

    def changes(self, name: str | None, limit: int | None) -> Verb[list[Change]]:
        most = _most(limit)
        return lambda c: changes.listed(c, self.desk, name, limit=most)

    def plan(self) -> Verb[Plan]:
        code = registry.Code(
            declared=tuple(registrar.declared(self.app, self.desk.timezone)),
            known_tasks=frozenset(self.app.tasks),
            removal=self.settings.scheduler_removed_routines,
            merge=self.settings.scheduler_code_changes == "merge",
        )
        return lambda c: registry.planned(c, self.desk.namespace, code, self.desk.present(c))

    def reset(self, name: str, fields: Iterable[str], note: str | None) -> Verb[RoutineDetails]:
        chosen = tuple(fields) or FIELDS
        for field in chosen:
            if field not in FIELDS:
                raise RoutineError(f"field {field!r}: allowed are {', '.join(FIELDS)}")
        found = registrar.declared(self.app, self.desk.timezone)
        code = next((each for each in found if each.name == name), None)
        if code is None:
            raise NotFoundError(f"the code declares no routine {name!r}")
        said = {field: getattr(code, field) for field in chosen}
        taken = {field: json.loads(text) for field, text in in_json(code).items()}

        def carry_out(c: Connection) -> RoutineDetails:
            routine = edits.update(c, self.desk, name, said, note=note, action="reset")
            registry.note_taken(c, routine.id, {field: taken[field] for field in chosen})
            return routine

        return carry_out


def _id(what: str, key: str | UUID) -> UUID:
    """The id that *key* spells, as it comes out of JSON."""
    try:
        return key if isinstance(key, UUID) else UUID(key)
    except (AttributeError, TypeError, ValueError):
        raise NotFoundError(f"there is no {what} {key!r}: that is no id") from None


def _most(limit: int | None) -> int | None:
    """*limit*, if it is one that every database takes."""
    if limit is not None and not (type(limit) is int and 0 <= limit < 2**31):
        raise RoutineError(f"limit = {limit!r}: allowed are 0 to {2**31 - 1}, or none")
    return limit


def _states(states: Iterable[State | str]) -> tuple[State, ...]:
    try:
        return tuple(State(state) for state in states) or tuple(State)
    except ValueError:
        allowed = ", ".join(state.value for state in State)
        raise RoutineError(f"states = {list(states)!r}: allowed are {allowed}") from None


def _after(present: datetime, within: timedelta) -> datetime:
    try:
        return present + within
    except OverflowError:
        later = within > timedelta(0)
        return datetime.max.replace(tzinfo=UTC) if later else datetime.min.replace(tzinfo=UTC)


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
