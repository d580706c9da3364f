"""The two statements of each attempt, built once: to build one takes longer than to execute it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from ..columns import Id, Instant, utcnow
from ..routines import State
from ..tables import runs
from .states import in_states

_c = runs.c
KEY = bindparam("run_id", type_=Id())
_ATTEMPT = bindparam("attempt", type_=Id())
_RETRIES = bindparam("tried", type_=sa.Integer())
#: When it happened; None: now, by the database's clock.
_AT = sa.func.coalesce(bindparam("at", type_=Instant()), utcnow())
_NOW = sa.func.coalesce(bindparam("now", type_=Instant()), utcnow())


def one(run_id: Any, *conditions: sa.ColumnElement[bool]) -> Any:
    """An UPDATE of one run, if it is so."""
    return sa.update(runs).where(_c.id == run_id, *conditions)


def may_begin(retries: Any) -> sa.ColumnElement[bool]:
    """`Task.retry` publishes before it raises: the next attempt may begin before the end of the
    last one is written. Its higher number proves that the last one is over; and a lower one, that
    the message is of an attempt that is."""
    unstarted = sa.and_(
        sa.or_(in_states(State.CLAIMED, State.SENT), is_lost_unstarted()), _c.retries <= retries
    )
    next_one = sa.and_(in_states(State.RETRYING, State.RUNNING, State.LOST), _c.retries < retries)
    return sa.or_(unstarted, next_one)


def is_lost_unstarted() -> sa.ColumnElement[bool]:
    """It was given up before anybody began it."""
    return sa.and_(in_states(State.LOST), _c.attempt_id.is_(None))


#: What a run becomes that is begun: parameters attempt, tried, by, at and now.
BEGUN = {
    "state": State.RUNNING.value,
    "attempt_id": _ATTEMPT,
    "attempts": _c.attempts + 1,
    "retries": _RETRIES,
    "worker": bindparam("by", type_=sa.String()),
    "started_at": _AT,
    "heartbeat_at": _NOW,
    "finished_at": None,
    "reason": None,
    "error": None,
}
_lost_again = sa.and_(in_states(State.LOST), _c.retries <= _RETRIES)
#: Begin a run; by whether one that is lost begins again.
BEGIN = {
    False: one(KEY, may_begin(_RETRIES)).values(BEGUN),
    True: one(KEY, sa.or_(may_begin(_RETRIES), _lost_again)).values(BEGUN),
}
_told = {
    "state": bindparam("ended", type_=sa.String()),
    "reason": bindparam("why", type_=sa.Text()),
    "error": bindparam("fault", type_=sa.Text()),
}
_ended = one(KEY, _c.attempt_id == _ATTEMPT, in_states(State.RUNNING, State.LOST, State.SENT))
_over = _ended.values({**_told, "finished_at": _AT})
_END = {
    State.RETRYING: _ended.values({**_told, "finished_at": None, "heartbeat_at": _AT}),
    State.SENT: _ended.values({**_told, "finished_at": None, "attempt_id": None}),
}


def end(state: State) -> Any:
    """End an attempt as *state*: parameters run_id, attempt, ended, why, fault and, unless it is
    sent again, at, which of a retry is when it is due."""
    return _END.get(state, _over)
