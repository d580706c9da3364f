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


def may_begin(retries: Any, *, again: bool = False) -> sa.ColumnElement[bool]:
    """Whether a message with so many retries begins the run; *again*: also one that is lost.

    `Task.retry` publishes before it raises: the next attempt may begin before the end of the last
    one is written. Its higher number proves that the last one is over; and a lower one, that the
    message is of an attempt that is.

    A CASE, into which PostgreSQL does not look for what suits its partial indexes: with AND and OR
    it planned for twice as long as all the rest takes.
    """
    unstarted = sa.or_(in_states(State.CLAIMED, State.SENT), is_lost_unstarted())
    lost_again = [(in_states(State.LOST), _c.retries <= retries)] if again else []
    next_one = in_states(State.RETRYING, State.RUNNING, State.LOST)
    return sa.case(
        (unstarted, _c.retries <= retries),
        *lost_again,
        (next_one, _c.retries < retries),
        else_=sa.false(),
    )


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
#: Begin a run; by whether one that is lost begins again.
BEGIN = {again: one(KEY, may_begin(_RETRIES, again=again)).values(BEGUN) for again in (False, True)}
_told = {
    "state": bindparam("ended", type_=sa.String()),
    "reason": bindparam("why", type_=sa.Text()),
    "error": bindparam("fault", type_=sa.Text()),
}
_mine = sa.case((in_states(State.RUNNING, State.LOST, State.SENT), sa.true()), else_=sa.false())
_ended = one(KEY, _c.attempt_id == _ATTEMPT, _mine)
#: End an attempt, by what it ends as: parameters run_id, attempt, ended, why, fault and, unless it
#: is sent again, at, which of a retry is when it is due.
END = {
    **dict.fromkeys(State, _ended.values({**_told, "finished_at": _AT})),
    State.RETRYING: _ended.values({**_told, "finished_at": None, "heartbeat_at": _AT}),
    State.SENT: _ended.values({**_told, "finished_at": None, "attempt_id": None}),
}
