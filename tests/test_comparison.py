"""What an import would do to the routines that there are."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from strategies import definitions, few, listed

from celery_sqlalchemy_kit import After, schedules
from celery_sqlalchemy_kit.exchange import (
    Changes,
    Definition,
    Difference,
    Format,
    Update,
    changes,
    dump,
    load,
)
from celery_sqlalchemy_kit.exchange.keys import READERS
from celery_sqlalchemy_kit.routines import CatchUp, Origin, Overlap

POLL = Definition("poll", "proj.poll", schedules.parse(15))
OTHER = Definition("other", "proj.other", After(5))
OTHERWISE = {
    "task": ("proj.poll", "moved"),
    "schedule": ({"timedelta": 15}, {"cron": "0 9 * * *"}),
    "args": ([], [1]),
    "kwargs": ({}, {"a": 1}),
    "options": ({}, {"queue": "slow"}),
    "active": (True, False),
    "catch_up": ("latest", "skip"),
    "overlap": ("allow", "queue"),
    "jitter": (0, 2.5),
    "starts_at": (None, "2026-01-01T00:00:00Z"),
    "ends_at": (None, "2026-01-01T00:00:00Z"),
    "max_runs": (None, 3),
    "description": (None, "Polls."),
    "origin": (None, "code"),
}
CHANGED = replace(
    POLL,
    task="moved",
    schedule=schedules.parse("0 9 * * *"),
    args=(1,),
    kwargs={"a": 1},
    options={"queue": "slow"},
    active=False,
    catch_up=CatchUp.SKIP,
    overlap=Overlap.QUEUE,
    jitter_seconds=2.5,
    starts_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    ends_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    max_runs=3,
    description="Polls.",
    origin=Origin.CODE,
)


def test_what_is_not_there_is_created_what_is_the_same_is_not_touched():
    assert Changes(create=(OTHER,), unchanged=(POLL,)) == changes([OTHER, POLL], [POLL])
    assert Changes() == changes([], [POLL])


@pytest.mark.parametrize(
    "attribute", [each.name for each in fields(Definition) if each.name != "name"]
)
def test_each_key_that_differs_is_told(attribute):
    after = replace(POLL, **{attribute: getattr(CHANGED, attribute)})
    key = "jitter" if attribute == "jitter_seconds" else attribute

    expected = Update(POLL, after, (Difference(key, *OTHERWISE[key]),))
    assert Changes(update=(expected,)) == changes([after], [POLL])


def test_differences_are_in_the_order_of_a_document():
    (update,) = changes([CHANGED], [POLL]).update

    assert [key for key in READERS if key != "name"] == [each.key for each in update.differences]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"minute": 0, "hour": 9}, {"hour": "9", "minute": ["0"]}),
        ({"timedelta": 60}, {"every": 1, "period": "minutes"}),
    ],
)
def test_schedules_that_mean_the_same_do_not_differ(before, after):
    existing = replace(POLL, schedule=schedules.parse(before, timezone="Europe/Berlin"))
    given = replace(POLL, schedule=schedules.parse(after))

    assert Changes(unchanged=(given,)) == changes([given], [existing])


def test_an_origin_that_is_not_said_changes_none():
    for origin in Origin:
        assert Changes(unchanged=(POLL,)) == changes([POLL], [replace(POLL, origin=origin)])


def test_true_is_not_one_and_one_is_not_a_text():
    for one, other in ((True, 1), (1, "1"), (None, False), ([], {})):
        before, after = replace(POLL, kwargs={"a": one}), replace(POLL, kwargs={"a": other})

        assert len(changes([after], [before]).update) == 1


def test_the_order_of_keys_is_no_difference():
    before, after = replace(POLL, kwargs={"a": 1, "b": 2}), replace(POLL, kwargs={"b": 2, "a": 1})

    assert Changes(unchanged=(after,)) == changes([after], [before])


def test_what_is_there_and_cannot_be_read_is_not_created_a_second_time():
    assert Changes(create=(POLL,), repair=(OTHER,)) == changes([POLL, OTHER], [], {"other", "gone"})


def test_names_that_differ_in_case_are_two():
    assert (POLL,) == changes([POLL], [replace(POLL, name="Poll")]).create


@few
@given(given=listed)
def test_what_was_exported_changes_nothing_where_it_came_from(given):
    found = changes(load(dump(given, Format.YAML), Format.YAML), given)

    assert (Changes(unchanged=found.unchanged), len(given)) == (found, len(found.unchanged))


@few
@given(before=definitions, after=definitions)
def test_what_is_carried_out_leaves_nothing_to_do(before, after):
    before = replace(before, name=after.name)
    carried_out = replace(after, origin=after.origin or before.origin)

    assert Changes(unchanged=(after,)) == changes([after], [carried_out])
