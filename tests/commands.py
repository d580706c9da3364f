"""``celery routines …`` called within this process, by apps of a test."""

from __future__ import annotations

import inspect
import json
from functools import cached_property

from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from celery_sqlalchemy_kit import Routines, migrations
from celery_sqlalchemy_kit.cli import routines
from celery_sqlalchemy_kit.store.connections import make_engine

#: Before click 8.2 standard output and standard error were one, unless somebody said so.
_APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


def _nothing():
    """What tasks of tests do."""


class Commands:
    """Calls commands on an app with this database; *declared* is its ``beat_schedule``, *tasks* are
    the tasks that it knows."""

    def __init__(self, url, declared=None, tasks=("t", "u"), **conf):
        self.url = None if url is None else make_url(url)
        self.app = Celery("proj", broker="memory://", set_as_current=False)
        self.app.conf.update(scheduler_db_uri=url, beat_schedule=declared or {}, **conf)
        for name in tasks:
            self.app.task(name=name)(_nothing)

    @cached_property
    def routines(self):
        """The same database by the Python API."""
        return Routines(self.app, who="somebody")

    def migrated(self):
        """The same, its tables made."""
        engine = make_engine(self.url)
        migrations.migrate(engine)
        engine.dispose()
        return self

    def call(self, *args, said=None):
        """The result of one command; *said* is what somebody types."""
        context = CLIContext(self.app, no_color=True, workdir=None)
        return CliRunner(**_APART).invoke(
            routines, args, obj=context, input=said, catch_exceptions=False
        )

    def __call__(self, *args, said=None, code=0):
        """What a command prints, its exit code being *code*."""
        result = self.call(*args, said=said)

        assert code == result.exit_code, result.output
        return result.stdout

    def refused(self, *args, code=1):
        """What a command that fails with *code* prints on standard error."""
        result = self.call(*args)

        assert code == result.exit_code, result.output
        assert "Traceback" not in result.output
        return result.stderr

    def json(self, *args, code=0):
        """The value of the document that a command prints with ``--json``."""
        return json.loads(self(*args, "--json", code=code))

    def notes(self, name=None):
        """What was done to routines, newest first: the action, its fields, the note."""
        return [
            (each.action, dict(each.changes), each.note) for each in self.routines.changes(name)
        ]
