"""What there is to tidy up, seen without a lock and in one statement."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..columns import Instant
from ..routines import State
from ..storage.values import Since, Survey
from . import alerts, retention, sweeps


def survey(connection: Connection, namespace: str, since: Since) -> Survey:
    """Look for all of it."""
    instants = {name: instant for name, instant in vars(since).items() if instant is not None}
    found = connection.execute(_surveying(namespace, frozenset(instants)), instants).one()
    silent, sent, retrying, old, *alerting = (bool(each) for each in found)
    return Survey(silent, sent, retrying, old, any(alerting))


@lru_cache(maxsize=16)
def _surveying(namespace: str, known: frozenset[str]) -> Any:
    """The statement, which need not be built for every survey; its parameters are those of `Since`
    that are *known*."""
    silent, unbegun, ended, overdue, failed = (
        sa.bindparam(name, type_=Instant())
        for name in ("silent", "unbegun", "ended", "overdue", "failed")
    )
    return sa.select(
        _any(sweeps.silent(namespace, silent)) if "silent" in known else sa.null(),
        _any(sweeps.unbegun(namespace, State.SENT, unbegun)),
        _any(sweeps.unbegun(namespace, State.RETRYING, unbegun)),
        _any(retention.old(namespace, ended)),
        _any(alerts.overdue(namespace, overdue)) if "overdue" in known else sa.null(),
        _any(alerts.failed(namespace, failed)),
        _any(alerts.alerted(namespace)),
    )


def _any(condition: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.literal(1)).where(condition).limit(1).scalar_subquery()
