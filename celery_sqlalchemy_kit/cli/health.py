"""``celery routines health``: for probes, timers and monitoring."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import click
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import ArgumentError

from .. import health
from ..config import Settings, shown_url
from ..errors import SettingsError
from ..health import Bounds, Seen, Verdict
from ..storage.values import SILENCE
from ..store import health as stored
from ..store.health import Unanswered

#: Seconds within which the database has to answer.
PATIENCE = 5.0
_YEAR = 31_536_000

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _duration(
    context: click.Context, parameter: click.Parameter, seconds: float | None
) -> timedelta | None:
    try:
        return None if seconds is None else timedelta(seconds=seconds)
    except ValueError:  # nan is in every range
        raise click.BadParameter(f"{seconds} is no number of seconds") from None


def _seconds(name: str, text: str, default: float | None = None) -> Decorator:
    return click.option(
        name,
        type=click.FloatRange(0, _YEAR),
        metavar="SECONDS",
        default=default,
        show_default=default is not None,
        callback=_duration,
        help=text,
    )


@click.command("health")
@click.option("--here", is_flag=True, help="Judge the beat of this host's scheduler, no more.")
@click.option("--host", metavar="NAME", help="The same for the scheduler of another host.")
@_seconds("--silence", "Time without a beat that is allowed.", SILENCE.total_seconds())
@_seconds(
    "--max-lateness",
    "Lateness of a scheduler that is allowed; 60, and not judged with --here or --host.",
)
@_seconds(
    "--max-overdue",
    "Lateness of a routine that is allowed; scheduler_overdue_after, and not judged with --here "
    "or --host.",
)
@click.option("--tolerate-outage", is_flag=True, help="Exit 0 if the database cannot be reached.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@click.pass_obj
def command(  # noqa: PLR0913  an option is an argument
    celery: Any,
    *,
    here: bool,
    host: str | None,
    silence: timedelta,
    max_lateness: timedelta | None,
    max_overdue: timedelta | None,
    tolerate_outage: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Whether routines are sent: exit 0 if so, 1 if not, 2 for wrong options or settings.

    Healthy is: a scheduler has beaten lately, none that lives is late, no routine is overdue.
    """
    if here and host is not None:
        raise click.UsageError("--here and --host exclude each other")
    settings, engine = _database(celery.app)
    if here:
        host = socket.gethostname()
    if host is None and max_lateness is None:
        max_lateness = health.MAX_LATENESS
    if host is None and max_overdue is None:
        max_overdue = timedelta(seconds=settings.scheduler_overdue_after)
    bounds = Bounds(silence, max_lateness, max_overdue, host)
    answer = _ask(engine, settings.scheduler_namespace, bounds)
    if isinstance(answer, Seen):
        verdict = health.judge(answer, bounds)
    else:
        verdict = Verdict(answer.away and tolerate_outage, (_without_password(settings, answer),))
    if not (quiet or celery.quiet):
        click.echo(json.dumps(verdict.to_json()) if as_json else "\n".join(verdict.lines()))
    click.get_current_context().exit(0 if verdict.healthy else 1)


def _database(app: Any) -> tuple[Settings, Engine]:
    try:
        settings = Settings.load(app.conf, scheduler=True)
        url = cast(URL, settings.scheduler_db_uri)  # a scheduler's settings have one
        return settings, stored.engine_to_look(url, settings.scheduler_db_schema, PATIENCE)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except (ImportError, ArgumentError) as error:
        raise click.UsageError(f"the driver of scheduler_db_uri cannot be had: {error}") from None


def _ask(engine: Engine, namespace: str, bounds: Bounds) -> Seen | Unanswered:
    """In a thread, as no driver heeds one deadline in every state, the resolver none at all."""
    answers: list[Seen | Unanswered] = []
    asking = threading.Thread(
        target=lambda: answers.append(stored.ask(engine, namespace, bounds)), daemon=True
    )
    asking.start()
    asking.join(PATIENCE)
    if answers:
        return answers[0]
    # A thread that has ended without an answer is a fault, of which it has printed the traceback.
    words = f"the database did not answer within {PATIENCE:g} s"
    return Unanswered(words, away=asking.is_alive())


def _without_password(settings: Settings, answer: Unanswered) -> str:
    """Drivers tell the host, which may be a part of a password that holds an ``@``."""
    if shown_url(settings.scheduler_db_uri).endswith("…"):
        return answer.words.partition(":")[0]
    return answer.words
