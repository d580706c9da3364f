"""Changes of routines: shown, then made if they are still what has been shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from ..details import RoutineDetails, plain
from ..errors import ConflictError
from ..migrations import hashes
from ..store.fields import FIELDS
from ..store.routine_list import find
from .consent import Manner, agree
from .desk import print_json
from .engines import rehearsed, together
from .lines import say, value
from .times import stamp
from .wording import zone_of

#: Occurrences that are shown of a routine that is going to be changed.
NEXT = 5


@dataclass(frozen=True)
class Edit:
    """One routine as it is going to be; *changes*: its fields before and after.

    *made*: it is new, and what is as by default is left out.
    """

    routine: RoutineDetails
    changes: Mapping[str, tuple[Any, Any]]
    next_runs: Sequence[datetime]
    made: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.routine.name,
            "id": str(self.routine.id),
            "created": self.made,
            "changes": plain(self.changes),
            "next_runs": plain(list(self.next_runs)),
        }


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(FIELDS),
    "args": [],
    "kwargs": {},
    "options": {},
    "active": True,
}
_DEFAULTS |= {"catch_up": "latest", "overlap": "allow", "jitter": 0.0}

#: Makes the changes in a transaction that somebody else ends; called once to show, once to do.
Work = Callable[[Connection], Sequence[Edit]]


def locked(routines: Any, connection: Connection, key: Any) -> RoutineDetails:
    """The routine of that name or id as it is, until the transaction ends.

    Raises:
        NotFoundError: there is none.
    """
    return find(connection, routines.verbs.desk, key, lock=True)


def edit(
    routines: Any, connection: Connection, before: RoutineDetails | None, after: RoutineDetails
) -> Edit:
    """What has been done to a routine, in a transaction; *before* None: it has been made."""
    if hashes.stand_in(connection):  # what a scheduler would plan by in a second
        hashes.adopt(connection, after.namespace)
    was = _DEFAULTS if before is None else before.to_json()
    told = after.to_json()
    changes = {
        name: (None if before is None else was[name], told[name])
        for name in FIELDS
        if was[name] != told[name]
    }
    following = routines.next_runs(after.id, NEXT, connection=connection)
    return Edit(after, changes, following, made=before is None)


def carry_out(routines: Any, work: Work, question: str, note: str | None, manner: Manner) -> None:
    """Show what *work* is going to do, ask the *question*, and have it done.

    Raises:
        ConflictError: it would do something else by now, as somebody was quicker.
    """
    done = rehearsed(routines, work)
    for each in done:
        _show(each, err=manner.as_json)
    changes = any(each.changes for each in done)
    does = not manner.dry_run and (changes or note is not None)
    if does:
        shown = [_essence(each) for each in done]
        agree(question, yes=manner.yes)
        done = together(routines, lambda c: _if_as_shown(work(c), shown))
    if manner.as_json:
        print_json({"done": does, "routines": plain(list(done))})
    elif not manner.dry_run:
        for each in done:
            _tell(each)


def _if_as_shown(done: Sequence[Edit], shown: Sequence[Any]) -> Sequence[Edit]:
    if [_essence(each) for each in done] != shown:
        raise ConflictError("somebody else has changed it meanwhile: look again; nothing is done")
    return done


def _essence(edit: Edit) -> tuple[str, Any]:
    return edit.routine.name, edit.changes


def _show(edit: Edit, *, err: bool) -> None:
    say(edit.routine.name, err=err)
    for field, (before, after) in edit.changes.items():
        was = "" if edit.made else f"{value(before)} → "
        say(f"  {field}: {was}{value(after)}", err=err)
    zone = zone_of(edit.routine)
    following = ", ".join(stamp(at, zone) for at in edit.next_runs)
    say(f"  next: {following or _why_none(edit.routine)}", err=err)


def _why_none(routine: RoutineDetails) -> str:
    if routine.error is not None:
        return f"never: {routine.error}"
    return "not known beforehand" if routine.active else "never: it is off"


def _tell(edit: Edit) -> None:
    name = edit.routine.name
    if edit.made:
        say(f"created {name}")
    else:
        say(f"changed {name}" if edit.changes else f"{name} is so already")
