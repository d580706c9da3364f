"""What texts of schedules, durations and instants mean on the command line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from celery_sqlalchemy_kit import ScheduleError, schedules
from celery_sqlalchemy_kit.cli.durations import duration
from celery_sqlalchemy_kit.cli.schedule_text import schedule

HOUR = {"timedelta": 3600}


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("3600", HOUR),
        (" 3600 ", HOUR),
        ("0.5", {"timedelta": 0.5}),
        ("60m", HOUR),
        ("1h", HOUR),
        ("1 hour", HOUR),
        ("every 1h", HOUR),
        ("Every 60 minutes", HOUR),
        ("every 3600", HOUR),
        ("every 59m60s", HOUR),
        ("500ms", {"timedelta": 0.5}),
        ("every 1 day", {"timedelta": 86_400}),
        ("after 10", {"after": 10}),
        ("after 1m30s", {"after": 90}),
        ("0 9 * * MON-FRI", {"cron": "0 9 * * MON-FRI"}),
        ("1 2 3 4 5", {"cron": "1 2 3 4 5"}),
        ("@daily", {"cron": "@daily"}),
        ("2026-12-01T09:00:00Z", {"once": "2026-12-01T09:00:00Z"}),
        ("2026-12-01", {"once": "2026-12-01"}),
        ("20261201T0900Z", {"once": "20261201T0900Z"}),
        ("20261201", {"timedelta": 20_261_201}),
        ("FREQ=DAILY;BYHOUR=9", {"rrule": "FREQ=DAILY;BYHOUR=9"}),
        ("RRULE:FREQ=DAILY", {"rrule": "RRULE:FREQ=DAILY"}),
        ('{"minute": "*/5"}', {"minute": "*/5"}),
        (
            ' {"solar": "sunset", "latitude": 52, "longitude": 13}',
            {"solar": "sunset", "latitude": 52, "longitude": 13},
        ),
    ],
)
def test_each_text_means_one_thing(text, means):
    assert means == schedule(text)
    assert schedules.from_json(means) == schedules.from_json(schedule(text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "allowed is a number"),
        ("soon", "allowed is a number"),
        ("every", "allowed is a number"),
        ("after", "allowed is a number"),
        ("after a while", "allowed is a number"),
        ("-5", "allowed is a number"),
        ("1e9", "allowed is a number"),
        ("nan", "allowed is a number"),
        ("9 * * *", "allowed is a number"),
        ("0 9 * * * *", "allowed is a number"),
        ("[1, 2]", "allowed is a number"),
        ("{", "not JSON"),
        ('{"a": ' * 100_000, "not JSON"),
        ("9" * 400 + "s", "allowed is a number"),
        ("٣٠s", "allowed is a number"),
        ("0 9 * * *; DROP TABLE routines", "allowed is a number"),
    ],
)
def test_what_means_nothing_is_refused_with_what_is_allowed(text, says):
    with pytest.raises(ScheduleError, match=says):
        schedule(text)


def test_a_time_zone_goes_into_the_schedule():
    berlin = "Europe/Berlin"

    assert {"cron": "@daily", "timezone": berlin} == schedule("@daily", berlin)
    assert {"minute": 5, "timezone": berlin} == schedule('{"minute": 5}', berlin)
    same = '{"minute": 5, "timezone": "Europe/Berlin"}'
    assert {"minute": 5, "timezone": berlin} == schedule(same, berlin)
    with pytest.raises(ScheduleError, match="names a time zone other than UTC"):
        schedule(same, "UTC")
    with pytest.raises(ScheduleError, match="unknown key 'timezone'"):
        schedules.from_json(schedule("every 30s", berlin))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1 hour", 3600),
        ("2 days 3 hours", 183_600),
        ("3 MINUTES", 180),
        ("1 second", 1),
        ("2weeks", 1_209_600),
    ],
)
def test_units_may_be_written_out(text, seconds):
    assert timedelta(seconds=seconds) == duration(text)
