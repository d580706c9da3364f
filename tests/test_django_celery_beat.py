"""The rows of django-celery-beat, from its tables on each database, as definitions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal

import django_celery_beat_tables as theirs
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url
from strategies import properties

from celery_sqlalchemy_kit import Once, schedules
from celery_sqlalchemy_kit.errors import SourceError
from celery_sqlalchemy_kit.exchange import Definition
from celery_sqlalchemy_kit.exchange.django_celery_beat import SCHEDULES, TASK, Tables
from celery_sqlalchemy_kit.exchange.django_celery_beat import read as read_tables
from celery_sqlalchemy_kit.store.django_celery_beat import read

TEN = schedules.parse(10)
TWO_HOURS = schedules.parse(7200)
FOUND = [
    Definition(
        "interval",
        "proj.interval",
        TEN,
        args=(1, "zwei", None),
        kwargs={"full": True, "größe": 1.5},
        description="Every ten seconds.\nIn two lines.",
    ),
    Definition(
        "hours",
        "proj.hours",
        TWO_HOURS,
        options={
            "queue": "slow",
            "exchange": "ex",
            "routing_key": "rk",
            "priority": 5,
            "headers": {"tenant": "a"},
            "expires": 3600,
        },
    ),
    Definition(
        "berlin",
        "proj.crontab",
        schedules.parse(
            {"minute": 30, "hour": 9, "day_of_week": "mon-fri", "timezone": "Europe/Berlin"}
        ),
    ),
    Definition(
        "utc",
        "proj.crontab",
        schedules.parse(
            {
                "minute": "*/15",
                "hour": "8-18",
                "day_of_month": "1,15",
                "month_of_year": "*/3",
                "timezone": "UTC",
            }
        ),
        active=False,
    ),
    Definition("each minute", "proj.crontab", schedules.parse({"minute": "*", "timezone": "UTC"})),
    Definition(
        "sunset",
        "proj.solar",
        schedules.parse({"solar": "sunset", "latitude": 52.520008, "longitude": 13.404954}),
    ),
    Definition(
        "clocked",
        "proj.clocked",
        Once(datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)),
    ),
    Definition(
        "clocked, over",
        "proj.clocked",
        Once(datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        active=False,
    ),
    Definition("once", "proj.once", TEN, max_runs=1),
    Definition("once, over", "proj.once", TEN, max_runs=1, active=False),
    Definition(
        "bounded",
        "proj.bounded",
        TWO_HOURS,
        starts_at=datetime(2026, 3, 29, 0, 30, tzinfo=timezone.utc),
        ends_at=datetime(2027, 1, 1, 12, tzinfo=timezone.utc),
    ),
    Definition("ran", "proj.ran", TEN),
    Definition("empty texts", "proj.empty", TEN),
    Definition(
        "from-code",
        "proj.code",
        schedules.parse(90),
        args=(1, 2),
        options={"queue": "q", "expires": 30},
    ),
]
PROBLEMS = [
    "'too often': schedule {\"every\": 500, \"period\": \"microseconds\"}: the interval is out of",
    "'sunday is 7': schedule {\"minute\": 0, \"hour\": 4, \"day_of_week\": 7",
    "'bad args': args = \"[1,\" is no JSON: Expecting value",
    "'args no list': args = {\"a\": 1}: allowed is a list",
    "'bad headers': options = {\"headers\": [1]}: allowed is a mapping as headers",
    "'gone': interval_id = 77: there is no such schedule",
    "'no schedule': it has no schedule; allowed is one of interval, crontab, solar, clocked",
]  # fmt: skip


@pytest.fixture
def engine(database):
    engine = sa.create_engine(database, future=True)
    yield engine
    engine.dispose()


def task(**fields):
    return {"name": "a", "task": "t", "interval_id": 1, **fields}


def found_in(*tasks, schedules=None, **keys):
    known = {"interval": {1: {"every": 10, "period": "seconds"}}, **(schedules or {})}
    return read_tables(Tables(tasks, known), **keys)


def test_rows_of_each_kind_are_taken_over_and_of_the_others_it_is_told_why(engine, database):
    theirs.make(engine)

    found = read(database)

    assert FOUND == found.definitions
    assert len(PROBLEMS) == len(found.problems)
    for expected, problem in zip(PROBLEMS, found.problems, strict=True):
        assert problem.startswith(expected)


def test_a_connection_is_read_from_and_left_open(engine):
    theirs.make(engine)

    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            # In whatever zone it is.
            connection.exec_driver_sql("SET TIME ZONE 'America/New_York'")
        assert FOUND == read(connection).definitions
        assert 1 == connection.exec_driver_sql("SELECT 1").scalar()


def test_columns_that_are_not_there_say_nothing(engine, database):
    gone = ("priority", "headers", "expire_seconds", "start_time", "one_off", "timezone")
    theirs.make(engine, without=gone)

    found = {each.name: each for each in read(database, "Europe/Berlin").definitions}

    assert {} == {k: v for k, v in found["hours"].options.items() if k in gone}
    assert (None, "Europe/Berlin") == (
        found["berlin"].schedule.timezone,
        found["berlin"].schedule.zone,
    )
    assert (None, None) == (found["bounded"].starts_at, found["once"].max_runs)


def test_nothing_is_written(engine, database):
    theirs.make(engine)
    before = read(database)

    assert before == read(database)
    there = set(sa.inspect(engine).get_table_names()) - {"sqlite_sequence"}
    assert {f"django_celery_beat_{each}" for each in theirs._TABLES} == there


def test_tables_that_are_not_there_are_named(engine, database):
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE something (id integer)")

    with pytest.raises(
        SourceError, match=r"django_celery_beat_periodictask is missing: .*migrated"
    ):
        read(database)


def test_text_that_is_no_utf_8_harms_its_own_row_only(sqlite):
    engine = sa.create_engine(sqlite, future=True)
    theirs.make(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE django_celery_beat_periodictask SET args = CAST(x'5bff5d' AS text)"
            " WHERE name = 'ran'"
        )

    found = read(sqlite)

    assert [each for each in FOUND if each.name != "ran"] == found.definitions
    assert any(problem.startswith("'ran': args = ") for problem in found.problems)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("sqlite:////nowhere/at/all.db", r"sqlite:////nowhere/at/all.db cannot be read: unable to"),
        ("sqlite+aiosqlite:///x.db", "allowed is a synchronous SQLAlchemy URL.*aiosqlite is async"),
        ("oracle://u:secret@host/x", r"oracle://u:\*\*\*@host/x: allowed is .*PostgreSQL"),
        ("no url with a secret in it", "^…: allowed is a synchronous SQLAlchemy URL"),
        ("postgresql://u:secret@127.0.0.1:1/x", r"postgresql://u:\*\*\*@127.0.0.1:1/x cannot be"),
        (
            "postgresql://u:p@secret@127.0.0.1:1/x",
            "^postgresql.*://… cannot be read: why is not told",
        ),
    ],
)
def test_what_cannot_be_reached_is_told_without_its_password(url, fault):
    with pytest.raises(SourceError, match=fault) as error:
        read(url)

    assert "secret" not in str(error.value)


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(SourceError):
        read(make_url(f"sqlite:///{tmp_path}/none.db"))

    assert [] == list(tmp_path.iterdir())


# -- what a row means --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", datetime(2026, 3, 29, 2, 30)),
        ("Europe/Berlin", datetime(2026, 3, 29, 1)),  # it does not exist: the end of the gap
        ("America/New_York", datetime(2026, 3, 29, 6, 30)),
    ],
)
@pytest.mark.parametrize("at", ["2026-03-29 02:30:00", datetime(2026, 3, 29, 2, 30)])
def test_an_instant_without_a_zone_is_one_of_the_zone_that_is_given(at, zone, expected):
    (definition,) = found_in(task(start_time=at), instants_in=zone).definitions

    assert expected.replace(tzinfo=timezone.utc) == definition.starts_at


def test_an_instant_with_a_zone_is_that_whatever_is_given():
    at = datetime(2026, 3, 29, 2, 30, tzinfo=timezone.utc)

    assert at == found_in(task(start_time=at), instants_in="Asia/Tokyo").definitions[0].starts_at


def test_a_zone_that_there_is_not_is_refused():
    with pytest.raises(SourceError, match='unknown time zone "Berlin"'):
        found_in(instants_in="Berlin")


@pytest.mark.parametrize("value", ["0000-00-00 00:00:00", "soon", 5, "9999-12-31 23:59:59"])
def test_what_is_no_instant_is_told(value):
    found = found_in(task(expires=value))

    assert [] == found.definitions
    assert found.problems[0].startswith("'a': ")


def test_of_several_schedules_the_first_counts_as_it_does_there():
    other = {"crontab": {1: {"minute": "5"}}}
    (definition,) = found_in(task(crontab_id=1), schedules=other).definitions

    assert TEN == definition.schedule


def test_a_crontab_without_a_zone_follows_the_one_that_is_given():
    crontab = {"crontab": {1: {"minute": "5", "timezone": ""}}}
    row = task(interval_id=None, crontab_id=1)
    (definition,) = found_in(row, schedules=crontab, timezone="Europe/Berlin").definitions

    assert (None, "Europe/Berlin") == (definition.schedule.timezone, definition.schedule.zone)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"one_off": True}, {"max_runs": 1}),
        ({"one_off": True, "total_run_count": 1}, {"max_runs": 1, "active": False}),
        ({"total_run_count": 1}, {}),
        ({"enabled": 0}, {"active": False}),
        ({"expire_seconds": 0, "priority": 0}, {"options": {"priority": 0}}),
        ({"queue": "", "headers": "{}", "description": ""}, {}),
    ],
)
def test_what_fields_come_to(fields, expected):
    (definition,) = found_in(task(**fields)).definitions

    assert replace(Definition("a", "t", TEN), **expected) == definition


def test_what_begins_after_its_end_is_told_and_the_others_are_taken_over():
    never = task(start_time=datetime(2027, 1, 2), expires=datetime(2027, 1, 1))

    assert (
        ["'a': start_time = 2027-01-02T00:00:00+00:00 is after expires = 2027-01-01T00:00:00+00:00: it never runs"]
        == found_in(never).problems
    )  # fmt: skip


def test_celerys_own_is_left_out_by_its_name():
    assert ([], []) == found_in(task(name="celery.backend_cleanup"))
    assert 1 == len(found_in(task(task="celery.backend_cleanup")).definitions)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.datetimes(),
    st.datetimes(timezones=st.just(timezone.utc)),
    st.decimals(),
    st.just(Decimal("1e99999")),
    st.sampled_from(["*", "[]", "{}", "[NaN]", "[" * 5000, "9" * 5000, "days", "Europe/Berlin"]),
)


@properties
@given(
    row=st.fixed_dictionaries({}, optional=dict.fromkeys(TASK, CELLS)),
    schedule=st.fixed_dictionaries(
        {}, optional=dict.fromkeys([name for names in SCHEDULES.values() for name in names], CELLS)
    ),
    kind=st.sampled_from(list(SCHEDULES)),
)
def test_whatever_a_row_holds_the_others_are_read(row, schedule, kind):
    row |= {f"{each}_id": 1 if each == kind else None for each in SCHEDULES}
    other = task(interval_id=None, solar_id=2)
    solar = {2: {"event": "sunset", "latitude": Decimal("52.5"), "longitude": Decimal("13.4")}}
    known = {"solar": solar}
    known[kind] = {**known.get(kind, {}), 1: schedule}

    found = found_in(row, other, schedules=known)

    assert "a" == found.definitions[-1].name
    assert (
        len(found.definitions) == 2 or found.problems or row.get("name") == "celery.backend_cleanup"
    )
