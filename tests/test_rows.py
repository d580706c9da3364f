"""Rows as values: what the databases give is read, what is wrong is named, and harms its own row."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.errors import RoutineError, ScheduleError
from celery_sqlalchemy_kit.routines import CatchUp, Overlap, Routine
from celery_sqlalchemy_kit.store.rows import ROUTINE_COLUMNS, fetched, routine_of
from celery_sqlalchemy_kit.tables import routines

ID = UUID("0190c0de-1111-2222-3333-4444aaaabbbb")
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
INSTANTS = ("next_run_at", "occurrence_at", "last_run_at", "starts_at", "ends_at", "edited_at", "paused_at")  # fmt: skip

#: A row of three columns, as every database gives it once defaults are filled in.
BARE = dict.fromkeys(ROUTINE_COLUMNS) | {
    "id": str(ID),
    "name": "nightly",
    "task": "reports.build",
    "schedule": '{"timedelta": 60}',
    "total_run_count": "0",
    "catch_up": "latest",
    "overlap": "allow",
    "jitter": "0",
    "edited_at": "2026-05-05 12:00:00.000000",
}


def row(**columns):
    return BARE | columns


def test_a_row_of_three_columns_is_a_whole_routine():
    every_minute = schedules.parse(60)
    expected = Routine(ID, "nightly", "reports.build", every_minute, edited_at=NOON)

    assert expected == routine_of(BARE, "UTC")


def test_a_row_with_everything():
    full = row(
        schedule='{"minute": 0, "hour": 9}',
        args='[1, "two"]',
        kwargs='{"three": [4]}',
        options='{"queue": "slow", "headers": {"a": 1}}',
        next_run_at="2026-05-05 12:00:01.000000",
        occurrence_at="2026-05-05 12:00:02.000000",
        last_run_at="2026-05-05 12:00:03.000000",
        total_run_count="7",
        catch_up="all",
        jitter="1.5",
        starts_at="2026-05-05 12:00:04.000000",
        ends_at="2026-05-05 12:00:05.000000",
        max_runs="9",
        paused_at="2026-05-05 12:00:06.000001",
    )
    seconds = [NOON + timedelta(seconds=n) for n in range(7)]
    expected = Routine(
        ID,
        "nightly",
        "reports.build",
        schedules.parse({"minute": 0, "hour": 9}),
        args=(1, "two"),
        kwargs={"three": [4]},
        options={"queue": "slow", "headers": {"a": 1}},
        next_run_at=seconds[1],
        occurrence_at=seconds[2],
        last_run_at=seconds[3],
        total_run_count=7,
        catch_up=CatchUp.ALL,
        overlap=Overlap.ALLOW,
        jitter_seconds=1.5,
        starts_at=seconds[4],
        ends_at=seconds[5],
        max_runs=9,
        edited_at=NOON,
        paused_at=seconds[6] + timedelta(microseconds=1),
    )

    assert expected == routine_of(full, "UTC")


def test_no_field_is_missing_of_a_routine_that_was_read():
    columns = {"id": str(UUID(int=5)), "name": "a", "task": "t", "schedule": '{"timedelta": 5}'}
    read = routine_of(row(**columns), "UTC")

    assert vars(read).keys() == {field.name for field in fields(Routine)}


def test_every_column_that_is_read_exists_and_fills_a_field():
    renamed = {"jitter": "jitter_seconds", "origin": "one_off"}
    names = {renamed.get(name, name) for name in ROUTINE_COLUMNS}

    assert {field.name for field in fields(Routine)} - {"namespace"} == names
    assert set(ROUTINE_COLUMNS) <= {column.name for column in routines.columns}


@pytest.mark.parametrize(
    ("column", "text", "field", "value"),
    [
        # PostgreSQL, MySQL and MariaDB and SQLite, SQLite by hand.
        ("id", "0190c0de-1111-2222-3333-4444aaaabbbb", "id", ID),
        ("id", "0190c0de1111222233334444aaaabbbb", "id", ID),
        ("id", "0190C0DE-1111-2222-3333-4444AAAABBBB", "id", ID),
        *[(column, "2026-05-05 12:00:00.000000", column, NOON) for column in INSTANTS],
        *[(column, None, column, None) for column in INSTANTS],
        ("starts_at", "2026-05-05 12:00:00", "starts_at", NOON),
        ("starts_at", "2026-05-05T12:00:00", "starts_at", NOON),
        ("starts_at", "2026-05-05 12:00", "starts_at", NOON),
        ("starts_at", " 2026-05-05 12:00:00 ", "starts_at", NOON),
        ("starts_at", "2026-05-05 12:00:00.000001", "starts_at", NOON + timedelta(microseconds=1)),
        ("starts_at", "0001-01-01 00:00:00.000000", "starts_at", datetime(1, 1, 1, tzinfo=UTC)),
        ("ends_at", "9999-12-31 23:59:59.999999", "ends_at", datetime.max.replace(tzinfo=UTC)),
        ("schedule", '{"timedelta":0.5}', "schedule", schedules.parse(0.5)),
        ("schedule", ' { "minute" : "*/5" } ', "schedule", schedules.parse({"minute": "*/5"})),
        *[(column, "null", column, {}) for column in ("kwargs", "options")],
        *[(column, "{ }", column, {}) for column in ("kwargs", "options")],
        ("args", "null", "args", ()),
        ("args", "[ ]", "args", ()),
        ("args", '["\\u00fc", "ü", "\\u0000", "\\ud800"]', "args", ("ü", "ü", "\0", "\ud800")),
        ("args", "[9007199254740993, 1.0, true, null]", "args", (9007199254740993, 1.0, True, None)),
        ("options", '{"headers": null}', "options", {"headers": None}),
        ("total_run_count", None, "total_run_count", 0),
        ("max_runs", "0", "max_runs", 0),
        ("jitter", None, "jitter_seconds", 0.0),
        ("jitter", "0.0", "jitter_seconds", 0.0),
        ("jitter", "0.30000000000000004", "jitter_seconds", 0.30000000000000004),
        ("jitter", "1e-06", "jitter_seconds", 1e-06),
        ("jitter", "31536000", "jitter_seconds", 31_536_000.0),
        *[("catch_up", word, "catch_up", CatchUp(word)) for word in ("latest", "skip", "all")],
        ("overlap", "allow", "overlap", Overlap.ALLOW),
    ],
)  # fmt: skip
def test_what_a_database_gives_is_read_as(column, text, field, value):
    routine = routine_of(row(**{column: text}), "UTC")

    assert value == getattr(routine, field)
    assert type(value) is type(getattr(routine, field))


@pytest.mark.parametrize(
    ("column", "text", "says"),
    [
        ("id", "7", "id = '7' is no UUID; allowed are 32 hex digits, also with dashes"),
        ("id", None, "id = 'None' is no UUID"),
        ("name", "", "name = '': allowed are 1 to 255 characters"),
        ("task", "", "task = '': allowed are 1 to 255 characters"),
        ("task", None, "task = None: allowed are 1 to 255 characters"),
        ("schedule", None, "schedule null: is no schedule; allowed are {"),
        ("schedule", "", "schedule null: is no schedule; allowed are {"),
        ("schedule", "{", 'schedule "{": not JSON'),
        ("schedule", '{"minuts": 5}', "unknown key 'minuts'; allowed are {"),
        ("schedule", '{"day_of_month": 31, "month_of_year": 2}', "never matches"),
        ("schedule", '{"timedelta": 0.001}', "allowed are 0.01 to 3155760000 seconds"),
        *[(column, "{", f"{column} = '{{' is no JSON; allowed is an object: ") for column in ("kwargs", "options")],
        *[(column, "[1]", f"{column} = '[1]': allowed is an object, in JSON") for column in ("kwargs", "options")],
        ("args", "{", "args = '{' is no JSON; allowed is an array: "),
        ("args", '{"a": 1}', "args = '{\"a\": 1}': allowed is an array, in JSON"),
        ("args", '"text"', "args = '\"text\"': allowed is an array, in JSON"),
        ("args", "5", "args = '5': allowed is an array, in JSON"),
        ("args", "false", "args = 'false': allowed is an array, in JSON"),
        ("args", "[" * 9000, "is no JSON; allowed is an array: "),
        ("kwargs", '{"a":' * 9000, "is no JSON; allowed is an object: "),
        ("args", "[" + "1" * 9000, "is no JSON; allowed is an array: "),
        *[("options", f'{{"{refused}": 1}}', f"options: {refused} cannot be set in a row; allowed are queue") for refused in ("task_id", "producer", "connection", "publisher")],
        ("options", '{"queue": "a", "task_id": 1, "producer": 2}', "options: producer, task_id cannot be set"),
        ("options", '{"headers": [1]}', "options: headers = '[1]': allowed is an object"),
        ("options", '{"headers": "a"}', "allowed is an object"),
        *[(column, "soon", f"{column} = 'soon' is no instant; allowed is YYYY-MM-DD HH:MM:SS, in UTC") for column in INSTANTS],
        ("next_run_at", "2026-02-30 00:00:00", "next_run_at = '2026-02-30 00:00:00' is no instant"),
        ("next_run_at", "", "next_run_at = '' is no instant"),
        ("next_run_at", "20260-05-05 12:00:00.000000", "is no instant"),
        ("next_run_at", "0000-00-00 00:00:00.000000", "is no instant"),
        ("total_run_count", "-1", "total_run_count = '-1': allowed is a whole number from 0"),
        ("total_run_count", "1.5", "total_run_count = '1.5': allowed is a whole number from 0"),
        ("max_runs", "-3", "max_runs = '-3': allowed is a whole number from 0"),
        ("max_runs", "many", "max_runs = 'many': allowed is a whole number from 0"),
        ("max_runs", "1" * 9000, "allowed is a whole number from 0"),
        ("catch_up", "none", "catch_up = 'none': allowed is one of latest, skip, all"),
        ("catch_up", "Latest", "catch_up = 'Latest': allowed is one of latest, skip, all"),
        ("catch_up", None, "catch_up = 'None': allowed is one of latest, skip, all"),
        ("overlap", "wait", "overlap = 'wait': allowed is one of allow, skip, queue"),
        ("jitter", "-1", "jitter = '-1': allowed are seconds from 0 to 31536000"),
        ("jitter", "31536001", "jitter = '31536001': allowed are seconds from 0 to 31536000"),
        ("jitter", "some", "jitter = 'some': allowed are seconds from 0 to 31536000"),
        *[("jitter", text, f"jitter = '{text}': allowed are seconds from 0 to 31536000") for text in ("NaN", "nan", "Infinity", "-inf", "1e999")],
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_is_allowed(column, text, says):
    with pytest.raises((RoutineError, ScheduleError)) as caught:
        routine_of(row(**{column: text}), "UTC")

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_zone_by_default_is_the_callers():
    text = row(schedule='{"minute": 0}')

    assert "Europe/Berlin" == routine_of(text, "Europe/Berlin").schedule.zone


def test_a_good_row_is_fetched_with_its_key_as_it_stands():
    text = row(id="0190C0DE1111222233334444AAAABBBB")
    found = fetched(text, "UTC")

    assert (text["id"], text, None) == (found.key, found.text, found.fault)
    assert ID == found.routine.id


def test_a_bad_row_is_fetched_with_what_is_wrong():
    found = fetched(row(max_runs="x"), "UTC")

    assert (str(ID), None) == (found.key, found.routine)
    assert "max_runs = 'x': allowed is a whole number from 0" == found.fault


@pytest.mark.parametrize(
    "text", ['{"minute": "\\ud800"}', '{"\\ud800": 1}', '{"minute": "\\u0000"}']
)
def test_what_is_wrong_can_be_written_down_in_every_database(text):
    """JSON may spell half a surrogate pair or a NUL, and PostgreSQL's ``json`` keeps them."""
    for column in ("schedule", "args"):
        fault = fetched(row(**{column: text}), "UTC").fault

        assert fault == fault.encode().decode()
        assert "\0" not in fault


@settings(deadline=None, database=None, max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(ROUTINE_COLUMNS),
        st.none()
        | st.text(max_size=30)
        | st.sampled_from(["{}", "[]", "null", '{"timedelta": 1}', "1e400", "2026-05-05 12:00:00"]),
    )
)
def test_whatever_stands_in_a_row_it_is_a_routine_or_a_fault(columns):
    found = fetched(row(**columns), "UTC")

    assert (found.routine is None) == (found.fault is not None)
    assert found.fault is None or found.fault == found.fault.encode().decode()
    assert found.routine is None or math.isfinite(found.routine.jitter_seconds)
