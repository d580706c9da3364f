"""What there is to tidy up, seen without a lock and in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..routines import State
from . import alerts, retention, sweeps


@dataclass(frozen=True)
class Since:
    """The instants from which on something is to be tidied up; *silent*, *overdue*: None, not just
    now."""

    silent: datetime | None
    unbegun: datetime
    ended: datetime
    overdue: datetime | None
    failed: datetime


@dataclass(frozen=True)
class Survey:
    """Whether there is any: runs that run without a beat, that wait to be begun, or begun again,
    that are over for long; routines whose alert may have to change."""

    silent: bool
    sent: bool
    retrying: bool
    old: bool
    alerts: bool


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
