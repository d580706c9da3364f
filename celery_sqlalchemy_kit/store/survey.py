"""What there is to tidy up, seen without a lock and in one statement."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..routines import State
from ..storage.values import Since, Survey
from . import alerts, retention, sweeps


def survey(connection: Connection, namespace: str, since: Since) -> Survey:
    """Look for all of it."""
    quiet, late = since.silent, since.overdue
    found = connection.execute(
        sa.select(
            sa.null() if quiet is None else _any(sweeps.silent(namespace, quiet)),
            _any(sweeps.unbegun(namespace, State.SENT, since.unbegun)),
            _any(sweeps.unbegun(namespace, State.RETRYING, since.unbegun)),
            _any(retention.old(namespace, since.ended)),
            sa.null() if late is None else _any(alerts.overdue(namespace, late)),
            _any(alerts.failed(namespace, since.failed)),
            _any(alerts.alerted(namespace)),
        )
    ).one()
    silent, sent, retrying, old, *alerting = (bool(each) for each in found)
    return Survey(silent, sent, retrying, old, any(alerting))


def _any(condition: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.literal(1)).where(condition).limit(1).scalar_subquery()
