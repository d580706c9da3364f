"""What becomes of a run that was claimed and not published."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest

from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.rescue import Stranded, Verdict, expiry, judge
from celery_sqlalchemy_kit.routines import CatchUp, Cause, State

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
