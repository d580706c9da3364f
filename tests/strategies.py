"""What hypothesis draws schedules from, of every kind, and instants to ask them at."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from walls import UTC, changes, utc

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.exchange import Definition
from celery_sqlalchemy_kit.routines import REFUSED_OPTIONS, CatchUp, Origin, Overlap
from celery_sqlalchemy_kit.schedules import After, Interval, Once, Solar, parse

properties = settings(deadline=None, database=None, max_examples=100)
#: Of what takes long to draw.
few = settings(properties, max_examples=40)

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


# -- definitions ------------------------------------------------------------------------------

#: What YAML, or a version of it, or a reader of it, may take for something else than this text.
TRAPS = [
    *("", " ", "~", "null", "true", "False", "yes", "NO", "on", "Off", "y", "N", "=", "<<", "?"),
    *("0", "-1", "+1", "0777", "09", "1_000", "0b1", "0o17", "0x1F", "1.5", ".5", "5.", "1e3"),
    *("1.0e+3", ".inf", "-.INF", ".nan", "12:30", "09:00", "190:20:30", "1:30.5", "1.2.3"),
    *("2026-01-01", "2026-1-1", "2026-01-01 09:00:00", "2026-01-01T09:00:00Z", "2026-01"),
    *("*", "*/5", "&a", "!a", "@daily", "`", "%", "|", ">", "- a", "a: b", "a #b", "#", "[", "{"),
    *("---", "...", "'", '"', "\\", "\n", "\r", "a\n", "\na", " a\nb ", "a\n\n b\n", "\t", "\ta\nb"),
    *("\x00", "\x07", "\x1b", "\x7f", "\x85", "a\x85b", "\u2028", "a\n\u2029", "\ufeff", "\U0001f600", "\uffff"),
    "x" * 200,
]  # fmt: skip
texts = st.sampled_from(TRAPS) | st.text(max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
storable = texts.map(lambda text: text.replace("\0", "0"))
names = storable.filter(bool)
solars = st.builds(
    Solar, st.sampled_from(["sunset", "dawn_civil"]), st.floats(-90, 90), st.floats(-180, 180)
)
rules = st.sampled_from(
    ["FREQ=DAILY", "DTSTART;TZID=Europe/Berlin:20260101T090000\nRRULE:FREQ=WEEKLY;BYDAY=MO,FR"]
).map(parse)
moments = st.none() | st.datetimes(timezones=st.just(UTC))
definitions = st.builds(
    Definition,
    name=names,
    task=names,
    schedule=schedules | solars | rules,
    args=st.lists(json_values, max_size=3).map(tuple),
    kwargs=st.dictionaries(texts, json_values, max_size=3),
    # Hypothesis tries the texts that stand in the code as well.
    options=st.dictionaries(
        texts.filter(lambda key: key not in {"headers", *REFUSED_OPTIONS}), json_values, max_size=3
    ),
    active=st.booleans(),
    catch_up=st.sampled_from(CatchUp),
    overlap=st.sampled_from(Overlap),
    jitter_seconds=st.floats(0, 31_536_000),
    starts_at=moments,
    ends_at=moments,
    max_runs=st.none() | st.integers(0, 2**31 - 1),
    description=st.none() | names,
    origin=st.none() | st.sampled_from(Origin),
)
#: No two of one name, as in a document.
listed = st.lists(definitions, max_size=3, unique_by=lambda each: each.name)
