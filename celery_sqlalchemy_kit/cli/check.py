"""``celery routines check``: whether everything is in its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import click
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from .. import broker
from ..config import Settings, shown_url
from ..errors import SettingsError
from ..scheduler import refused
from ..store import checkup
from ..store.desk import wake
from ..wakeups import POLL_SECONDS, Notifications, wakeups_for
from . import findings
from .code import app as app_of_context
from .desk import NO, fault, print_json
from .desk import as_json as as_json_option
from .engines import to_look
from .examples import examples
from .findings import Finding, Level
from .lines import say

#: Seconds within which a notification has to come.
HEARD_SECONDS = 2.0


@click.command(epilog=examples("check", "check --json"))
@as_json_option
@click.pass_context
def check(context: click.Context, *, as_json: bool) -> None:
    """Look whether everything is in its place: a line for each thing, ok, warning or error.

    Settings; the database, the version of the tables, triggers, how changes are heard of, clocks;
    the broker; tasks that active routines name and this app does not know; rows that cannot be
    scheduled. Changes nothing. Exit code 1 if there is an error.
    """
    found = []
    for each in _all(app_of_context()):
        found.append(each)
        if not as_json:
            say(each.line())
    fails = findings.worst(found) is Level.ERROR
    if as_json:
        print_json({"ok": not fails, "findings": [each.to_json() for each in found]})
    context.exit(NO if fails else 0)


def _all(app: Any) -> Iterator[Finding]:
    settings, faults = None, []
    try:
        settings = Settings.load(app.conf, scheduler=True)
        faults = refused(app, settings)
    except SettingsError as error:
        faults = list(error.faults)
    yield from findings.of_settings(faults)
    known = yield from _code(app)
    if settings is None:
        yield findings.warning("database", "not looked at while settings are wrong")
    else:
        yield from _database(settings, known)
    yield _broker(app)


def _code(app: Any) -> Generator[Finding, None, Any]:
    try:
        app.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001  whatever a module of the user's raises
        yield findings.error("code", f"cannot be imported: {type(error).__name__}: {error}")
    return app.tasks


def _database(settings: Settings, known: Any) -> Iterator[Finding]:
    url = settings.scheduler_db_uri
    if url is None:
        yield findings.warning(
            "database", "not looked at: scheduler_store keeps routines elsewhere"
        )
        return
    try:
        engine = to_look(settings)
        try:
            yield findings.ok("database", f"{checkup.server(engine)}, {shown_url(url)}")
            yield from _answering(engine, settings, known)
        finally:
            engine.dispose()
    except (SQLAlchemyError, ArgumentError, ImportError) as error:
        yield findings.error("database", fault(url, error))


def _answering(engine: Engine, settings: Settings, known: Any) -> Iterator[Finding]:
    yield findings.of_offset(checkup.offset(engine))
    yield _hearing(engine, settings)
    tables = checkup.tables(engine)
    yield from findings.of_tables(tables, create_table=settings.create_table)
    if tables.lacking is None:
        rows = checkup.rows(engine, settings.scheduler_namespace)
        yield from findings.of_rows(rows)
        yield from findings.of_tasks(rows, known)


def _hearing(engine: Engine, settings: Settings) -> Finding:
    listener = to_look(settings)
    wakeups = wakeups_for(engine, listener, notify=settings.scheduler_notify)
    if not isinstance(wakeups, Notifications):
        return findings.of_hearing(wakeups, heard=None)
    try:
        wakeups.listen()
        with engine.begin() as connection:
            wake(connection)
        # One that cannot listen polls.
        return findings.of_hearing(wakeups, heard=_seconds(wakeups.wait) < POLL_SECONDS / 2)
    finally:
        wakeups.forget()
        listener.dispose()


def _seconds(wait: Callable[[float], None]) -> float:
    began = time.monotonic()
    wait(HEARD_SECONDS)
    return time.monotonic() - began


def _broker(app: Any) -> Finding:
    shown, connection = "broker_url", None
    try:
        connection = broker.connection_of(app)
        shown = connection.as_uri()
        broker.connect(connection)
    except Exception as error:  # noqa: BLE001  transports raise what they like
        return findings.error("broker", f"{shown} cannot be reached: {error}")
    else:
        return findings.ok("broker", shown)
    finally:
        if connection is not None:
            connection.collect()
