"""What drivers are given: by SQLAlchemy, and by what goes straight to them."""

from __future__ import annotations

import contextlib

from sqlalchemy.engine.default import DefaultDialect


@contextlib.contextmanager
def each_statement(call):
    """Make ``call(statement, parameters)`` before each statement, on any engine."""
    execute = DefaultDialect.do_execute

    def do_execute(self, cursor, statement, parameters, context=None):
        call(statement, parameters)
        execute(self, cursor, statement, parameters, context)

    DefaultDialect.do_execute = do_execute
    try:
        yield
    finally:
        DefaultDialect.do_execute = execute
