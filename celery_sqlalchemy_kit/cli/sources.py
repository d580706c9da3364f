"""Where ``celery routines import`` reads definitions."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from ..config import zone_name
from ..exchange import Definition, Format, beat_schedule, load
from .code import app, imported
from .desk import NO, fail

F = TypeVar("F", bound=Callable[..., Any])
DOCUMENT, BEAT_SCHEDULE, DJANGO, REDBEAT = (
    *("document", "beat_schedule", "django-celery-beat", "redbeat"),
)


@dataclass(frozen=True)
class Source:
    """A document by its *file*, or another scheduler's store by its *url*."""

    kind: str
    file: str | None
    url: str | None
    form: str | None


def source_options(command: F) -> F:
    """The argument FILE and the options ``--from``, ``--url`` and ``--format``, as one *source*."""

    @functools.wraps(command)
    def run(*args: Any, kind: str, file: str, url: str, form: str, **kwargs: Any) -> Any:
        return command(*args, source=_checked(Source(kind, file, url, form)), **kwargs)

    kinds = click.Choice([DOCUMENT, BEAT_SCHEDULE, DJANGO, REDBEAT])
    text = "What defines them; beat_schedule is that of the app."
    options = (
        click.argument("file", required=False),
        click.option("--from", "kind", type=kinds, default=DOCUMENT, show_default=True, help=text),
        click.option("--url", help="The database of django-celery-beat, or the Redis of RedBeat."),
        click.option(
            "--format",
            "form",
            type=click.Choice([each.value for each in Format]),
            help="Of the document; default: json if it begins with a brace, else yaml.",
        ),
    )
    decorated: Any = run
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def read(source: Source) -> tuple[Sequence[Definition], Sequence[str]]:
    """The definitions, and what cannot be taken over.

    Raises:
        DocumentError: all that is wrong with a document.
        SourceError: another scheduler's store cannot be read.
    """
    if source.kind == BEAT_SCHEDULE:
        code = imported()
        return beat_schedule.read(code.conf.beat_schedule, zone_name(code))
    zone = zone_name(app())
    if source.kind == DOCUMENT:
        text = _text(source.file or "-")
        guessed = Format.JSON if text.lstrip("\ufeff \t\r\n").startswith("{") else Format.YAML
        form = guessed if source.form is None else Format(source.form)
        return load(text, form, timezone=zone), ()
    if source.kind == DJANGO:
        from ..store import django_celery_beat

        return django_celery_beat.read(source.url or "", zone)
    from ..store import redbeat

    prefix = app().conf.get("redbeat_key_prefix") or redbeat.PREFIX
    return redbeat.read(source.url or "", zone, prefix=prefix)


def _checked(source: Source) -> Source:
    if source.kind == DOCUMENT and (source.file is None or source.url is not None):
        raise click.UsageError("a document is given as FILE, - for standard input")
    if source.kind != DOCUMENT and source.file is not None:
        raise click.UsageError(f"FILE is for --from document, and not for {source.kind}")
    if source.kind in (DJANGO, REDBEAT) and source.url is None:
        raise click.UsageError(f"--from {source.kind} needs --url")
    return source


def _text(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.buffer.read().decode("utf-8")
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", NO)
    except UnicodeDecodeError as error:
        fail(f"{file} is not in UTF-8: {error.reason} at byte {error.start}", NO)
