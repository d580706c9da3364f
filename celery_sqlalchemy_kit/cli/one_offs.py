"""``celery routines once``, ``reschedule`` and ``cancel``: what runs once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import click
from sqlalchemy.engine import Connection

from ..errors import NotFoundError
from ..routines import Origin
from .code import warn_if_unknown
from .desk import NO, note, passes_routines, print_json
from .desk import as_json as as_json_option
from .durations import Duration, Moment, When
from .engines import present, together
from .examples import examples
from .json_text import ARRAY, OBJECT
from .lines import say
from .times import stamp

_at = click.option("--at", type=Moment(), metavar="WHEN", help="When: 2026-12-01T09:00:00Z.")
_in = click.option("--in", "in_", type=Duration(), metavar="DURATION", help="When: 5m, 1h30m.")


@click.command(
    epilog=examples(
        "once reports.build --kwargs '{\"month\": 11}'",
        "once mails.send --args '[42]' --in 30m --name 'mail 42'",
        "once shop.close --at 2026-12-24T18:00+01:00",
    )
)
@click.argument("task")
@click.option("--args", type=ARRAY, metavar="JSON", help="What the task is called with.")
@click.option("--kwargs", type=OBJECT, metavar="JSON", help="What the task is called with.")
@click.option("--options", type=OBJECT, metavar="JSON", help="Options of apply_async.")
@_at
@_in
@click.option("--name", metavar="NAME", help="Has to be unique; one is made if none is given.")
@as_json_option
@passes_routines
def once(routines: Any, task: str, *, as_json: bool, **given: Any) -> None:
    """Run TASK once: now, or --at an instant, or --in a while. Prints the id.

    It is sent when a scheduler is there, however late.
    """
    _not_both(given["at"], given["in_"])
    warn_if_unknown(task)
    said = {name: value for name, value in given.items() if value is not None}
    said["at"] = _instant(routines, given["at"])
    key = routines.once(task, **said)
    if as_json:
        print_json({"id": str(key)})
    else:
        say(str(key))


@click.command(
    epilog=examples("reschedule 0f4c…  --in 2h", "reschedule 'mail 42' --at 2026-12-01T09:00Z")
)
@click.argument("key", metavar="ID")
@_at
@_in
@note
@as_json_option
@passes_routines
def reschedule(
    routines: Any,
    key: str,
    at: When | None,
    in_: timedelta | None,
    note: str | None,
    *,
    as_json: bool,
) -> None:
    """Have a one-off run at another time, by its ID or name: until it has been claimed."""
    _not_both(at, in_)
    if at is None and in_ is None:
        raise click.UsageError("give --at or --in")
    instant = _instant(routines, at)

    def work(connection: Connection) -> tuple[UUID, datetime]:
        found = _key(routines, connection, key)
        then = routines.reschedule(found, at=instant, in_=in_, note=note, connection=connection)
        return found, then

    found, then = together(routines, work)
    if as_json:
        print_json({"id": str(found), "at": then.isoformat()})
    else:
        say(f"{key} runs at {stamp(then)}")


@click.command(epilog=examples("cancel 0f4c…", "cancel 'mail 42' 'mail 43' --note 'sent by hand'"))
@click.argument("keys", nargs=-1, required=True, metavar="ID…")
@note
@as_json_option
@passes_routines
def cancel(
    routines: Any,
    keys: tuple[str, ...],
    note: str | None,
    *,
    as_json: bool,
) -> None:
    """Have one-offs not run, by their IDs or names.

    One whose message has been sent is stopped until it begins, if its task is built on the kit's.
    Exit code 1 if it is too late for one of them, the others are cancelled all the same; or if
    there is none of that ID: nothing is cancelled then.
    """

    def work(connection: Connection) -> dict[str, bool]:
        return {
            key: routines.cancel(_key(routines, connection, key), note=note, connection=connection)
            for key in dict.fromkeys(keys)
        }

    done = together(routines, work)
    if as_json:
        too_late = [key for key, cancelled in done.items() if not cancelled]
        print_json({"cancelled": [key for key in done if done[key]], "too_late": too_late})
    else:
        for key, cancelled in done.items():
            say(f"cancelled {key}" if cancelled else f"too late: {key} has begun, or is over")
    click.get_current_context().exit(0 if all(done.values()) else NO)


def _key(routines: Any, connection: Connection, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        pass
    try:
        found = routines.get(text, connection=connection)
    except NotFoundError:
        raise NotFoundError(
            f"there is no one-off {text!r}: it never was, or has been claimed, and is known by its "
            "id since"
        ) from None
    if found.origin != Origin.ONCE.value:
        raise NotFoundError(f"there is no one-off {text!r}: that is a routine; disable it instead")
    key: UUID = found.id
    return key


def _instant(routines: Any, at: When | None) -> datetime | None:
    return None if at is None else at.at(present(routines))


def _not_both(at: When | None, in_: timedelta | None) -> None:
    if at is not None and in_ is not None:
        raise click.UsageError("--at and --in exclude each other")
