"""What becomes of a run that was claimed and not published."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import properties

from celery_sqlalchemy_kit import rescue
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.rescue import (
    Patience,
    Standing,
    Stranded,
    Unbegun,
    Verdict,
    expiry,
    judge,
    judge_unbegun,
    not_before,
)
from celery_sqlalchemy_kit.routines import CatchUp, Cause, Run, State

NINE = datetime(2026, 5, 5, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
GRACE = 60 * SECOND

PUBLISH = Verdict()
INACTIVE = Verdict(State.SKIPPED, "inactive")
REMOVED = Verdict(State.SKIPPED, "removed")
EXPIRED = Verdict(State.MISSED, "expired before it could be published")
TOO_LATE = Verdict(State.MISSED, "not published within 24 hours")
OVERTAKEN = Verdict(State.MISSED, "not published before the next occurrence")
BY_HAND = [Cause.MANUAL, Cause.BACKFILL]


def stranded(**fields) -> Stranded:
    """A run of nine o'clock whose routine runs every hour and is on."""
    run = {
        "scheduled_for": NINE,
        "cause": Cause.SCHEDULE,
        "options": {},
        "publish_attempts": 1,
        "fault": None,
        "present": True,
        "active": True,
        "catch_up": CatchUp.LATEST,
        "following": NINE + HOUR,
    }
    return Stranded(**run | fields)


GONE = {"present": False, "active": False, "following": None}
OFF = {"active": False}
OVER = {"active": False, "following": None, "over": True}
SOON = {"following": NINE + SECOND}
AT_FAULT = {"fault": "no such queue", "publish_attempts": 5}


@pytest.mark.parametrize(
    ("run", "age", "verdict"),
    [
        # As ever, once the rescue time is over.
        ({}, 10, PUBLISH),
        ({}, 3599, PUBLISH),
        ({"cause": Cause.CATCH_UP}, 10, PUBLISH),
        ({"following": None}, 10, PUBLISH),
        # Switched off, or away.
        (OFF, 10, INACTIVE),
        ({**OFF, "cause": Cause.CATCH_UP}, 10, INACTIVE),
        (GONE, 10, REMOVED),
        ({**OFF, **AT_FAULT}, 10, INACTIVE),
        ({**OFF, "options": {"expires": 5}}, 10, INACTIVE),
        # Its routine is over with this very run, and turned inactive by itself.
        (OVER, 10, PUBLISH),
        ({**OVER, "cause": Cause.CATCH_UP}, 10, PUBLISH),
        # Its routine waits for its end, and was switched off.
        ({**OFF, "following": None}, 10, INACTIVE),
        ({**OVER, "options": {"expires": 5}}, 10, EXPIRED),
        # The next occurrence has come, and the grace is over.
        (SOON, 60, PUBLISH),
        (SOON, 61, OVERTAKEN),
        ({**SOON, "catch_up": CatchUp.SKIP}, 61, OVERTAKEN),
        ({**SOON, "catch_up": CatchUp.ALL}, 61, PUBLISH),
        ({}, 3600, OVERTAKEN),
        # Expired.
        ({"options": {"expires": 11}}, 10, PUBLISH),
        ({"options": {"expires": 10}}, 10, EXPIRED),
        ({"options": {"expires": 0.5}, "catch_up": CatchUp.ALL}, 10, EXPIRED),
        ({"options": {"expires": "2026-05-05T09:00:10Z"}}, 9, PUBLISH),
        ({"options": {"expires": "2026-05-05T09:00:10Z"}}, 10, EXPIRED),
        # A day has gone by.
        ({"catch_up": CatchUp.ALL}, 24 * 3600, PUBLISH),
        ({"catch_up": CatchUp.ALL}, 24 * 3600 + 1, TOO_LATE),
        ({"following": None}, 24 * 3600 + 1, TOO_LATE),
        # Its message is at fault.
        ({**AT_FAULT, "publish_attempts": 4}, 10, PUBLISH),
        (AT_FAULT, 10, Verdict(State.MISSED, "not publishable: no such queue")),
        ({"publish_attempts": 99}, 10, PUBLISH),
    ],
)
def test_a_stranded_run_is_judged(run, age, verdict):
    assert verdict == judge(stranded(**run), NINE + age * SECOND, GRACE)


@pytest.mark.parametrize("cause", BY_HAND)
@pytest.mark.parametrize(
    ("run", "age", "verdict"),
    [
        ({}, 10, PUBLISH),
        (OFF, 10, PUBLISH),
        (GONE, 10, PUBLISH),
        (SOON, 3600, PUBLISH),
        (AT_FAULT, 10, Verdict(State.MISSED, "not publishable: no such queue")),
        ({"options": {"expires": 10}}, 10, EXPIRED),
        ({}, 24 * 3600 + 1, TOO_LATE),
    ],
)
def test_an_order_by_hand_is_published_whatever_its_routine_does(cause, run, age, verdict):
    assert verdict == judge(stranded(cause=cause, **run), NINE + age * SECOND, GRACE)


@pytest.mark.parametrize("cause", [*BY_HAND, Cause.CATCH_UP])
@pytest.mark.parametrize(
    ("options", "waited", "verdict"),
    [
        ({}, 10, PUBLISH),
        ({}, 24 * 3600, PUBLISH),
        ({}, 24 * 3600 + 1, TOO_LATE),
        ({"expires": 60}, 10, PUBLISH),
        ({"expires": 60}, 60, EXPIRED),
    ],
)
def test_what_was_late_when_it_was_claimed_waits_since_then(cause, options, waited, verdict):
    claimed_at = NINE + 72 * HOUR
    run = stranded(
        cause=cause,
        options=options,
        claimed_at=claimed_at,
        catch_up=CatchUp.ALL,
        following=claimed_at,
    )

    assert verdict == judge(run, claimed_at + waited * SECOND, GRACE)


def test_a_scheduled_run_waits_since_its_occurrence_however_often_it_was_claimed():
    run = stranded(catch_up=CatchUp.ALL, claimed_at=NINE + 24 * HOUR)

    assert TOO_LATE == judge(run, NINE + 24 * HOUR + 10 * SECOND, GRACE)


@pytest.mark.parametrize(
    ("options", "instant"),
    [
        ({}, None),
        ({"expires": None}, None),
        ({"expires": True}, None),
        ({"expires": [60]}, None),
        ({"expires": "soon"}, None),
        ({"expires": 60}, NINE + 60 * SECOND),
        ({"expires": 0}, NINE),
        ({"expires": 0.5}, NINE + SECOND / 2),
        ({"expires": "2026-05-05T10:00:00"}, NINE + HOUR),
        ({"expires": "2026-05-05T10:00:00Z"}, NINE + HOUR),
        ({"expires": "2026-05-05T10:00:00+02:00"}, NINE - HOUR),
        # What one row says must not stop the rescue of the others.
        ({"expires": 1_777_971_600_000}, None),
        ({"expires": 10**400}, None),
        ({"expires": math.inf}, None),
        ({"expires": math.nan}, None),
    ],
)
def test_the_option_expires_means(options, instant):
    assert instant == expiry(NINE, options)


@pytest.mark.parametrize(
    ("options", "instant"),
    [
        ({}, None),
        ({"countdown": 0}, None),
        ({"countdown": 60}, NINE + 60 * SECOND),
        ({"eta": "2026-05-05T10:00:00Z"}, NINE + HOUR),
        ({"eta": "soon"}, None),
        ({"countdown": "60"}, None),
        # As Celery has it.
        ({"countdown": 60, "eta": "2026-05-05T10:00:00Z"}, NINE + 60 * SECOND),
    ],
)
def test_a_message_may_be_put_off(options, instant):
    assert instant == not_before(NINE, options)


# --- sent, and begun by nobody ----------------------------------------------------------------

PATIENCE = Patience(60 * SECOND, HOUR)
NEVER_AGAIN = Patience(timedelta(0), HOUR)
AGAIN = Verdict()
UNKNOWN = {"redelivers": False}


def lost(age):
    return Verdict(State.LOST, f"nobody began it for {age} s")


def unbegun(**fields) -> Unbegun:
    """A run that was claimed and sent at nine o'clock."""
    run = {"since": NINE, "claimed_at": NINE, "options": {}, "publish_attempts": 1}
    return Unbegun(**run | fields)


EXPIRED_UNBEGUN = Verdict(State.LOST, "expired before it was begun")


@pytest.mark.parametrize(
    ("run", "age", "patience", "known", "verdict"),
    [
        ({}, 59, PATIENCE, True, None),
        ({}, 60, PATIENCE, True, AGAIN),
        ({}, 3599, PATIENCE, True, AGAIN),
        ({}, 3600, PATIENCE, True, lost(3600)),
        ({}, 60, NEVER_AGAIN, True, None),
        ({}, 3600, NEVER_AGAIN, True, lost(3600)),
        ({}, 3599, PATIENCE, False, None),
        ({}, 3600, PATIENCE, False, lost(3600)),
        # Its age has doubled.
        ({"publish_attempts": 2}, 119, PATIENCE, True, None),
        ({"publish_attempts": 2}, 120, PATIENCE, True, AGAIN),
        ({"publish_attempts": 4}, 479, PATIENCE, True, None),
        ({"publish_attempts": 4}, 480, PATIENCE, True, AGAIN),
        ({"publish_attempts": 0}, 60, PATIENCE, True, AGAIN),
        ({"publish_attempts": 10**6}, 3599, PATIENCE, True, None),
        ({"publish_attempts": 10**6}, 3600, PATIENCE, True, lost(3600)),
        # Put off.
        ({"options": {"countdown": 100}}, 159, PATIENCE, True, None),
        ({"options": {"countdown": 100}}, 160, PATIENCE, True, AGAIN),
        ({"options": {"countdown": 7200}}, 3600, PATIENCE, True, None),
        ({"options": {"countdown": 7200}}, 10_800, PATIENCE, True, lost(3600)),
        ({"since": NINE + 500 * SECOND, "options": {"countdown": 100}}, 559, PATIENCE, True, None),
        # Expired; its worker may say so first.
        ({"options": {"expires": 70}}, 69, PATIENCE, True, AGAIN),
        ({"options": {"expires": 70}}, 129, PATIENCE, True, None),
        ({"options": {"expires": 70}}, 130, PATIENCE, True, EXPIRED_UNBEGUN),
        ({"options": {"expires": 70}}, 130, PATIENCE, False, EXPIRED_UNBEGUN),
        ({"options": {"expires": 70, "countdown": 900}}, 130, PATIENCE, True, EXPIRED_UNBEGUN),
        ({"options": {"expires": 5}, "since": NINE + HOUR}, 3659, PATIENCE, True, None),
        ({"options": {"expires": 5}, "since": NINE + HOUR}, 3660, PATIENCE, True, EXPIRED_UNBEGUN),
        # A retry that is due in future.
        ({"since": NINE + HOUR}, 3600, PATIENCE, True, None),
    ],
)
def test_a_run_that_nobody_begins_is_judged(run, age, patience, known, verdict):
    now = NINE + age * SECOND

    assert verdict == judge_unbegun(unbegun(**run), now, patience, redelivers=known)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "expires": st.one_of(st.integers(-10, 9000), st.just("2026-05-05T09:30:00Z"), st.text()),
        "countdown": st.integers(-10, 9000),
        "eta": st.one_of(st.just("2026-05-05T09:20:00+00:00"), st.text()),
    },
)


@properties
@given(
    options=OPTIONS,
    attempts=st.integers(0, 40),
    since=st.integers(0, 9000),
    redeliver_after=st.integers(0, 1000),
    unstarted_after=st.integers(1, 9000),
    known=st.booleans(),
)
def test_an_unbegun_run_is_sent_again_ever_more_seldom_and_then_lost_for_good(
    options, attempts, since, redeliver_after, unstarted_after, known
):
    patience = Patience(redeliver_after * SECOND, unstarted_after * SECOND)
    sent = NINE + since * SECOND
    ages, ended = [], None
    for age in range(-100, 30_000, 50):
        run = unbegun(options=options, publish_attempts=attempts + len(ages), since=sent)
        verdict = judge_unbegun(run, sent + age * SECOND, patience, redelivers=known)
        if verdict == AGAIN:
            ages.append(age)
        elif verdict is not None:
            ended = age
            break

    off = not_before(NINE, options) or sent
    waited = [age - max(0, (off - sent).total_seconds()) for age in ages]
    assert ended is not None
    assert ended >= patience.shortest.total_seconds()
    assert known or ages == []
    assert redeliver_after or ages == []
    assert all(
        redeliver_after * 2 ** max(0, attempts + n - 1) <= age for n, age in enumerate(waited)
    )
    assert all(age < unstarted_after for age in waited)


RUN = Run(UUID(int=1), UUID(int=2), "r", "task", NINE, Cause.SCHEDULE)
STANDING = Standing(
    active=True,
    catch_up="latest",
    overlap="allow",
    occurrence_at=NINE + HOUR,
    waiting_for=None,
)


@pytest.mark.parametrize(
    ("routine", "found"),
    [
        (STANDING, {}),
        (None, GONE | {"over": True}),
        (replace(STANDING, active=False), OFF),
        (replace(STANDING, catch_up="all"), {"catch_up": CatchUp.ALL}),
        # What was queued is late because it waited.
        (replace(STANDING, overlap="queue"), {"catch_up": CatchUp.ALL, "cause": Cause.CATCH_UP}),
        (replace(STANDING, overlap="skip"), {}),
        # It runs once, or is over; or waits for the end of this very run.
        (replace(STANDING, occurrence_at=None), {"following": None, "over": True}),
        (replace(STANDING, occurrence_at=NINE), {"following": None, "over": True}),
        (replace(STANDING, occurrence_at=NINE, waiting_for=RUN.id), {"following": None}),
        # What people write into a row disturbs nobody.
        (replace(STANDING, catch_up="?", overlap="?"), {}),
    ],
)
def test_a_run_is_judged_by_how_its_routine_stands(routine, found):
    assert stranded(claimed_at=NINE, **found) == rescue.stranded(RUN, routine, claimed_at=NINE)


def test_what_put_a_run_off_the_first_time_does_not_the_second_time():
    put_off = replace(RUN, options={"countdown": 5, "eta": "2026-05-05T09:00:05Z", "queue": "q"})

    assert {"queue": "q"} == rescue.at_once(put_off).options
