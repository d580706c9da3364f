"""What a routine and a run are."""

from __future__ import annotations

import enum
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import (
    REFUSED_OPTIONS,
    RUN_NAMESPACE,
    CatchUp,
    Cause,
    Declared,
    Origin,
    Overlap,
    Routine,
    Run,
    State,
    microseconds,
    run_id,
)

ID = UUID("11111111-2222-3333-4444-555555555555")
OTHER_ID = UUID("11111111-2222-3333-4444-555555555556")
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

instants = st.datetimes(timezones=st.just(UTC))
properties = settings(deadline=None, database=None, max_examples=200)


@pytest.mark.parametrize(
    ("routine_id", "occurrence", "expected"),
    [
        (ID, NOON, "b6927639-5682-5cc8-8641-d0446f6ba092"),
        (ID, NOON + MICROSECOND, "7a28d757-da3f-5211-8920-1b66a6306e13"),
        (OTHER_ID, NOON, "8cc4183b-b8d1-58cb-a0cd-dbccac62752f"),
        (ID, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "d32ed2e5-2c49-506f-adeb-53dad7fe1f9a"),
    ],
)  # fmt: skip
def test_the_id_of_a_run_is_the_same_for_ever(routine_id, occurrence, expected):
    """Another formula would let an upgrade run again what had run before it."""
    assert UUID(expected) == run_id(routine_id, occurrence)


@properties
@given(st.uuids(), instants)
def test_the_id_of_a_run_is_a_uuid5(routine_id, occurrence):
    name = f"{routine_id}/{microseconds(occurrence)}"

    assert uuid5(RUN_NAMESPACE, name) == run_id(routine_id, occurrence)


@properties
@given(instants, instants)
def test_the_id_of_a_run_tells_occurrences_and_routines_apart(one, other):
    assert (one == other) == (run_id(ID, one) == run_id(ID, other))
    assert run_id(ID, one) != run_id(OTHER_ID, one)


@properties
@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),
    st.integers(-1439, 1439),
)
def test_the_id_of_a_run_does_not_depend_on_the_zone(instant, minutes):
    there = instant.astimezone(timezone(timedelta(minutes=minutes)))

    assert run_id(ID, instant) == run_id(ID, there)


@properties
@given(instants)
def test_microseconds_are_exact(instant):
    assert instant == datetime(1970, 1, 1, tzinfo=UTC) + microseconds(instant) * MICROSECOND


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (CatchUp, ["latest", "skip", "all"]),
        (Overlap, ["allow", "skip", "queue"]),
        (Origin, ["code", "db", "once"]),
        (Cause, ["schedule", "catch_up", "manual", "backfill", "once"]),
        (State, ["waiting", "claimed", "sent", "running", "retrying", "succeeded", "failed", "missed", "skipped", "lost"]),
    ],
)  # fmt: skip
def test_the_words_of_the_table(kind: type[enum.Enum], words):
    assert words == [word.value for word in kind]


def test_options_that_the_kit_sets_itself_are_refused():
    assert {"task_id", "producer", "connection"} <= REFUSED_OPTIONS


@pytest.mark.parametrize(
    "value",
    [
        Routine(ID, "poll", "tasks.poll", schedules.parse(15)),
        Run(ID, ID, "poll", "tasks.poll", NOON, Cause.SCHEDULE),
        Declared("poll", "tasks.poll", schedules.parse(15)),
    ],
)
def test_a_value_does_not_change_and_shares_nothing_by_default(value):
    with pytest.raises(FrozenInstanceError):
        value.task = "another"
    assert ({}, {}, ()) == (value.kwargs, value.options, value.args)
    assert value.kwargs is not value.options


def test_a_routine_has_not_run_by_default():
    assert 0 == Routine(ID, "poll", "tasks.poll", schedules.parse(15)).total_run_count
