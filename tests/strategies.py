"""What hypothesis draws schedules from, of every kind, and instants to ask them at."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from walls import UTC, changes, utc

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import After, Interval, Once, parse

properties = settings(deadline=None, database=None, max_examples=100)

ZONES = [
    "UTC",
    "Africa/Casablanca",
    "America/New_York",
    "America/Santiago",
    "Antarctica/Troll",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Chatham",
]
#: About these, odd things were done to clocks: days skipped, hours repeated on the day before.
ODD = [
    ("America/St_Johns", utc(2006, 10, 29)),
    ("Pacific/Apia", utc(2011, 12, 30)),
    ("Pacific/Kwajalein", utc(1969, 10, 1)),
]
zones = st.sampled_from([*ZONES, *(zone for zone, _ in ODD)])
middles = st.sampled_from(
    [*(at for zone in ZONES for at in changes(zone, 2026, 2027)), *(at for _, at in ODD)]
)
instants = st.one_of(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.builds(
        lambda middle, seconds: middle + timedelta(seconds=seconds),
        middles,
        st.integers(-200_000, 200_000),
    ),
)


# -- crontab fields ---------------------------------------------------------------------------


def _field(low, high):
    numbers = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        numbers,
        st.integers(1, high).map("*/{}".format),
        st.tuples(numbers, numbers).map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(numbers, numbers, st.integers(1, 9)).map(lambda it: "{}-{}/{}".format(*it)),
        st.lists(numbers, min_size=1, max_size=5),
    )


fields = st.fixed_dictionaries(
    {"minute": _field(0, 59)},
    optional={
        "hour": _field(0, 23),
        "day_of_week": _field(0, 6),
        "day_of_month": _field(1, 31),
        "month_of_year": _field(1, 12),
    },
)


# -- cron strings -----------------------------------------------------------------------------

WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _part(low, high, names=(), *, rounds):
    numbers = st.integers(low, high)
    texts = numbers.map(str)
    if names:
        texts |= st.sampled_from(names)

    pairs = st.tuples(numbers, numbers)
    if not rounds:
        pairs = pairs.filter(lambda pair: pair[0] < pair[1])
    spans = pairs.map(lambda pair: "{}-{}".format(*pair))
    steps = st.integers(1, high)
    whole = [st.just("*"), texts, spans]
    if names and rounds:
        whole.append(st.tuples(texts, texts).map("-".join))
    return st.one_of(
        *whole,
        st.tuples(st.one_of(st.just("*"), spans, texts), steps).map(lambda it: f"{it[0]}/{it[1]}"),
    )


def _parts(part):
    return st.lists(part, min_size=1, max_size=3).map(",".join)


def lines(*, rounds=True):
    """Cron lines. *rounds*: with ranges past the top, as ``22-3``, and of one number as well."""
    day = _part(1, 31, rounds=rounds) | st.sampled_from(["L", "LW"])
    counted = st.tuples(st.sampled_from([*WEEKDAYS, *range(8)]), st.integers(1, 5)).map(
        lambda pair: "{}#{}".format(*pair)
    )
    last = st.integers(0, 7).map("{}L".format)
    weekday = _part(0, 7, WEEKDAYS, rounds=rounds) | counted | last
    return st.tuples(
        _parts(_part(0, 59, rounds=rounds)),
        _parts(_part(0, 23, rounds=rounds)),
        st.just("*") | _parts(day),
        st.just("*") | _parts(_part(1, 12, MONTHS, rounds=rounds)),
        st.just("*") | _parts(weekday),
    ).map(" ".join)


# -- schedules --------------------------------------------------------------------------------


def read(value, zone="UTC"):
    """None: it never matches."""
    try:
        return parse(value, timezone=zone)
    except ScheduleError as error:
        if "never matches" in str(error):
            return None
        raise


def following(values, zones=zones):
    """Schedules that follow a clock on the wall, made of *values* in one of *zones*."""
    return st.builds(read, values, zones).filter(lambda schedule: schedule is not None)


crontabs = following(fields)
crons = following(lines())
intervals = st.integers(10_000, 10**15).map(lambda us: Interval(timedelta(microseconds=us)))
onces = st.datetimes(datetime(3, 1, 2), datetime(9997, 12, 30), timezones=st.just(UTC)).map(Once)
afters = st.integers(0, 10**15).map(lambda us: After(timedelta(microseconds=us)))
named = st.builds(
    lambda value, zone: {**value, "timezone": zone},
    fields | lines().map(lambda it: {"cron": it}),
    zones,
)
#: Of all kinds that the table knows.
schedules = st.one_of(crontabs, crons, following(named), intervals, onces, afters)
#: Of all kinds of which more than one occurrence is known beforehand.
series = st.one_of(crontabs, crons, intervals)
