"""Crontab fields: against celery itself, and by the calendar. Changes of clocks: test_daylight_saving."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import celery
import pytest
from celery import Celery
from celery.schedules import crontab as celery_crontab
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import ZONES, fields, instants, properties, read
from walls import DAY, HOUR, UTC, utc

from celery_sqlalchemy_kit.schedules import from_json, parse

# -- celery's own crontab as the judge --------------------------------------------------------------

#: Before 5.3 celery reckons in the zone of whichever instant it is given.
JUDGED = ZONES if celery.VERSION >= (5, 3) else ["UTC"]
apps = {zone: Celery("judge", set_as_current=False) for zone in JUDGED}
for _zone, _app in apps.items():
    _app.conf.timezone = _zone


@properties
@given(fields, st.sampled_from(JUDGED), instants)
def test_away_from_changes_of_clocks_it_is_due_when_celerys_crontab_is(value, zone, at):
    """What celery does where clocks are changed is told in the documentation, with instants."""
    local = at.astimezone(ZoneInfo(zone))
    try:
        judge = celery_crontab(**value, app=apps[zone], nowfun=lambda: local)
    except ValueError:  # celery, too, refuses what never matches
        assume(False)
    schedule = read(value, zone)
    assume(schedule is not None)
    assert schedule == parse(celery_crontab(**value))
    try:
        remaining = judge.remaining_estimate(local)
    except RuntimeError:  # it gives up on days that are far between
        assume(False)
    due = schedule.next_after(at)
    days = [at + number * DAY for number in range(-1, (due - at).days + 3)]
    assume(1 == len({day.astimezone(local.tzinfo).utcoffset() for day in days}))

    assert at + remaining == due


# -- the calendar ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "after", "expected"),
    [
        ({"minute": 0, "hour": 9}, utc(2026, 5, 5, 9), utc(2026, 5, 6, 9)),
        ({"minute": 0, "hour": 9}, utc(2026, 5, 5, 8, 59, 59, 999_999), utc(2026, 5, 5, 9)),
        ({"minute": 0, "hour": 0, "day_of_month": 31}, utc(2026, 3, 31), utc(2026, 5, 31)),
        ({"minute": 0, "hour": 0, "month_of_year": 1}, utc(2026, 1, 31), utc(2027, 1, 1)),
        ({"minute": 0, "hour": 0, "day_of_week": "sun"}, utc(2026, 5, 5), utc(2026, 5, 10)),
        # All fields must match, unlike in crontab(5): Friday the 13th.
        ({"minute": 0, "hour": 0, "day_of_week": 5, "day_of_month": 13}, utc(2026, 5, 5), utc(2026, 11, 13)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, utc(2026, 1, 1), utc(2028, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, utc(2096, 2, 29), utc(2104, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2, "day_of_week": 3}, utc(2096, 2, 29), utc(2108, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2, "day_of_week": 0}, utc(2088, 2, 29), utc(2128, 2, 29)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT-3", "Europe/Berlin"])
def test_the_next_by_the_calendar(value, after, expected, zone):
    """The same walls in every zone; none of these meets a change of clocks."""
    zone = ZoneInfo(zone)
    local_after = after.replace(tzinfo=zone).astimezone(UTC)

    due = from_json(value, timezone=zone.key).next_after(local_after)

    assert expected == due.astimezone(zone).replace(tzinfo=UTC)
    assert UTC is due.tzinfo
    assert due == from_json(value, timezone=zone.key).latest(due + HOUR, after=local_after)
    assert 1 == from_json(value, timezone=zone.key).count(after=local_after, until=due)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize(
    "value", [{"minute": "*"}, {"minute": 0, "hour": 0}, {"day_of_month": 29, "month_of_year": 2}]
)
def test_at_the_edges_of_what_a_datetime_can_say_nothing_overflows(value, zone):
    schedule = from_json(value, timezone=zone)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    assert schedule.next_after(last) is None
    assert schedule.next_after(utc(9999, 1, 1)) is None
    assert utc(2, 1, 1) - DAY <= schedule.next_after(first) <= utc(4, 3, 2)
    assert schedule.next_after(first) == schedule.next_after(first + HOUR)
    newest = schedule.latest(last, after=utc(9990, 1, 1))
    assert newest > utc(9996, 1, 1)
    assert schedule.next_after(newest) is None
    assert schedule.latest(first, after=first) is None
    assert 0 == schedule.count(after=first, until=first)
    assert schedule.count(after=newest - 9000 * DAY, until=last) > 0


def test_routines_with_the_same_times_and_zone_share_the_reckoning():
    one, other = from_json({"minute": 0}), from_json({"minute": "0", "timezone": "UTC"})

    assert one.reckoning is other.reckoning
    assert one.reckoning is not from_json({"minute": 0}, timezone="Europe/Berlin").reckoning
