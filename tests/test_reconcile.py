"""What has to change in the table so that it fits the code."""

from __future__ import annotations

import json

import pytest

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.reconcile import FIELDS, Drift, Plan, Stored, canonical, in_json, plan
from celery_sqlalchemy_kit.routines import Declared


def code(name="poll", schedule=15, **fields) -> Declared:
    """A routine as the code declares it."""
    task = fields.pop("task", f"tasks.{name}")
    return Declared(name, task, schedules.parse(schedule), **fields)


def stored(name="poll", **fields) -> Stored:
    """A row; what is JSON may be given as a value. By default as `code` would have inserted it."""
    row = {
        "task": f"tasks.{name}",
        "origin": "code",
        "active": True,
        "ran": False,
        "schedule": {"timedelta": 15},
        "args": [],
        "kwargs": {},
        "options": {},
    }
    row["declared"] = {field: row[field] for field in FIELDS}
    row |= fields
    texts = {field: as_text(row.pop(field)) for field in FIELDS}
    declared = as_text(row.pop("declared"))
    return Stored(key=f"key of {name}", name=name, fields=texts, declared=declared, **row)


def as_text(value):
    return value if value is None or isinstance(value, str) else json.dumps(value)


POLL = stored()
OTHER = code("other")
REMOVED = Plan(remove=(POLL,))


# -- what is in one, in the other, in both ----------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "rows", "known", "expected"),
    [
        ([], [], {}, Plan()),
        # Declared, not stored.
        ([code()], [], {}, Plan(insert=(code(),))),
        ([code()], [], {"removed": {"poll"}}, Plan(restore=(code(),))),
        ([code(), OTHER], [], {"removed": {"poll"}}, Plan(insert=(OTHER,), restore=(code(),))),
        ([code(builtin=True)], [], {}, Plan(insert=(code(builtin=True),))),
        # Declared and stored.
        ([code()], [POLL], {}, Plan()),
        ([code()], [stored(active=False)], {}, Plan()),
        ([code()], [stored(origin="db")], {}, Plan()),
        ([code()], [stored(origin=None, declared=None)], {}, Plan()),
        ([code()], [POLL], {"removed": {"poll"}, "elsewhere": {"poll"}}, Plan()),
        ([code(task="moved")], [POLL], {}, Plan(retask=((POLL, "moved"),))),
        ([code(task="moved")], [stored(origin="db")], {}, Plan(retask=((stored(origin="db"), "moved"),))),
        # Stored, no longer declared.
        ([OTHER], [stored("other"), POLL], {}, REMOVED),
        ([OTHER], [stored("other"), stored(active=False)], {}, Plan(remove=(stored(active=False),))),
        ([OTHER], [stored("other"), stored(ran=True)], {"known_tasks": {"tasks.poll"}}, Plan(remove=(stored(ran=True),))),
        # ... but by another scheduler.
        ([OTHER], [stored("other"), POLL], {"elsewhere": {"poll"}}, Plan(held=("poll",))),
        # Made in the database.
        ([OTHER], [stored("other"), stored(origin="db")], {}, Plan()),
        # Made by bare SQL: kept if its task is known here or it has ever run, else a leftover.
        ([OTHER], [stored("other"), stored(origin=None)], {"known_tasks": {"tasks.poll"}}, Plan()),
        ([OTHER], [stored("other"), stored(origin=None, ran=True)], {}, Plan()),
        ([OTHER], [stored("other"), stored(origin=None)], {}, Plan(remove=(stored(origin=None),))),
        ([OTHER], [stored("other"), stored(origin=None)], {"elsewhere": {"poll"}}, Plan(held=("poll",))),
    ],
)  # fmt: skip
def test_a_plan(declared, rows, known, expected):
    assert expected == plan(declared, rows, **known)


@pytest.mark.parametrize(
    "edited",
    [
        {"schedule": {"timedelta": 60}},
        {"schedule": {"minute": 0, "hour": 9}},
        {"args": [1]},
        {"kwargs": {"a": 1}},
        {"options": {"queue": "slow"}},
        {"active": False},
    ],
)
def test_what_was_edited_in_the_database_stays(edited):
    planned = plan([code()], [stored(**edited)])

    assert Plan() == Plan(**{**vars(planned), "drift": ()})


def test_what_was_removed_before_is_restored_and_not_inserted():
    planned = plan([code()], [], removed={"poll", "unrelated"})

    assert ((), (code(),)) == (planned.insert, planned.restore)


@pytest.mark.parametrize(
    ("removal", "expected"),
    [
        ("delete", Plan(remove=(POLL, stored("old", active=False)), held=("held",))),
        ("deactivate", Plan(deactivate=(POLL,), held=("held",))),
        ("keep", Plan()),
    ],
)
def test_what_is_no_longer_declared_is_removed_in_the_manner_of_the_setting(removal, expected):
    rows = [stored("other"), POLL, stored("old", active=False), stored("held")]

    assert expected == plan([OTHER], rows, elsewhere={"held"}, removal=removal)


@pytest.mark.parametrize("removal", ["delete", "deactivate"])
@pytest.mark.parametrize("declared", [[], [code("celery.backend_cleanup", builtin=True)]])
def test_nothing_is_removed_if_the_code_declares_nothing_of_its_own(declared, removal):
    """An import error must not wipe a schedule; what Celery adds by itself is no declaration."""
    rows = [POLL, stored("bare", origin=None), stored("made", origin="db"), stored("held")]
    planned = plan(declared, rows, elsewhere={"held"}, removal=removal)

    assert ((), ()) == (planned.remove, planned.deactivate)
    assert ("poll", "bare") == planned.spared
    assert ("held",) == planned.held


def test_nothing_is_spared_where_nothing_would_be_removed():
    assert () == plan([], [stored(origin="db")]).spared
    assert () == plan([], [POLL], removal="keep").spared


def test_one_declaration_is_enough_for_removal():
    declared = [OTHER, code("celery.backend_cleanup", builtin=True)]

    assert REMOVED.remove == plan(declared, [POLL]).remove


def test_of_two_declarations_of_one_name_the_last_counts():
    assert (code(schedule=30),) == plan([code(), code(schedule=30)], []).insert


def test_names_that_differ_in_case_are_two():
    planned = plan([code("Poll"), OTHER], [POLL])

    assert ((code("Poll"), OTHER), (POLL,)) == (planned.insert, planned.remove)


# -- drift ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "row", "field", "in_code", "in_database"),
    [
        ({"schedule": 30}, {}, "schedule", '{"timedelta": 30}', '{"timedelta": 15}'),
        ({}, {"schedule": {"hour": 9, "minute": 0}}, "schedule", '{"timedelta": 15}', '{"hour": 9, "minute": 0}'),
        ({}, {"schedule": {"minuts": 0}}, "schedule", '{"timedelta": 15}', '{"minuts": 0}'),
        ({}, {"schedule": "no JSON"}, "schedule", '{"timedelta": 15}', '"no JSON"'),
        ({}, {"schedule": "[" * 9000}, "schedule", '{"timedelta": 15}', '"' + "[" * 9000 + '"'),
        ({}, {"schedule": None}, "schedule", '{"timedelta": 15}', "null"),
        ({"args": (1, "a")}, {}, "args", '[1, "a"]', "[]"),
        ({"kwargs": {"b": 1, "a": 2}}, {"kwargs": {"b": 2}}, "kwargs", '{"a": 2, "b": 1}', '{"b": 2}'),
        ({}, {"options": {"queue": "slow"}}, "options", "{}", '{"queue": "slow"}'),
        ({"schedule": {"minute": 0, "timezone": "Asia/Tokyo"}}, {"schedule": {"minute": 0}}, "schedule", '{"minute": 0, "timezone": "Asia/Tokyo"}', '{"minute": 0}'),
    ],
)  # fmt: skip
def test_code_and_database_differ(declared, row, field, in_code, in_database):
    planned = plan([code(**declared)], [stored(**row)])

    assert (Drift("poll", field, in_code, in_database),) == planned.drift


@pytest.mark.parametrize(
    ("declared", "row"),
    [
        ({}, {"schedule": '{ "timedelta" : 15.0 }'}),
        ({"schedule": {"minute": 0}}, {"schedule": {"minute": "0"}}),
        ({"schedule": {"minute": [30, 0]}}, {"schedule": {"minute": "0,30"}}),
        ({"schedule": {"minute": 0}}, {"schedule": {"minute": 0, "day_of_week": "*"}}),
        ({"schedule": {"minute": 0, "hour": 9}}, {"schedule": {"hour": 9, "minute": 0}}),
        ({}, {"args": None, "kwargs": None, "options": None}),
        ({}, {"args": "null", "kwargs": "null", "options": "null"}),
        ({"kwargs": {"a": 1, "b": 2}}, {"kwargs": '{"b":2,"a":1}'}),
        ({"kwargs": {"a": "ü"}}, {"kwargs": '{"a": "ü"}'}),
        ({"args": ((1, 2),)}, {"args": [[1, 2]]}),
        ({"kwargs": {"a": {1: "x", "b": "y"}}}, {"kwargs": {"a": {"1": "x", "b": "y"}}}),
    ],
)
def test_the_same_value_written_otherwise_is_no_difference(declared, row):
    assert Plan() == plan([code(**declared)], [stored(**row)])


# -- merge ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "row", "follows"),
    [
        # The code changed what nobody edited.
        ({"schedule": 30}, {}, {"schedule": '{"timedelta": 30}'}),
        ({"args": (1,), "kwargs": {"a": 1}}, {}, {"args": "[1]", "kwargs": '{"a": 1}'}),
        ({"options": {"queue": "slow"}}, {"options": None}, {"options": '{"queue": "slow"}'}),
        ({"schedule": 30}, {"schedule": '{"timedelta":15.0}'}, {"schedule": '{"timedelta": 30}'}),
        ({"schedule": 30}, {"active": False}, {"schedule": '{"timedelta": 30}'}),
        # Somebody did.
        ({"schedule": 30}, {"schedule": {"timedelta": 60}}, {}),
        ({"schedule": 30, "args": (1,)}, {"schedule": {"timedelta": 60}}, {"args": "[1]"}),
        # Both came to the same.
        ({"schedule": 30}, {"schedule": {"timedelta": 30}}, {}),
        # Nothing changed.
        ({}, {}, {}),
        ({"schedule": {"minute": "0"}}, {"schedule": {"minute": 0}, "declared": {"schedule": {"minute": 0}}}, {}),
        # What it had been taken from is not known.
        ({"schedule": 30}, {"declared": None}, {}),
        ({"schedule": 30}, {"declared": "no JSON"}, {}),
        ({"schedule": 30}, {"declared": []}, {}),
        ({"schedule": 30}, {"declared": {"args": []}}, {}),
    ],
)  # fmt: skip
def test_with_merge_what_nobody_edited_follows_the_code(declared, row, follows):
    row = stored(**row)
    planned = plan([code(**declared)], [row], merge=True)

    assert (((row, follows),) if follows else ()) == planned.follow
    assert set() == set(follows) & {drift.field for drift in planned.drift}


def test_with_merge_what_somebody_edited_is_told_as_a_difference():
    row = stored(schedule={"timedelta": 60})
    planned = plan([code(schedule=30, args=(1,))], [row], merge=True)

    assert (Drift("poll", "schedule", '{"timedelta": 30}', '{"timedelta": 60}'),) == planned.drift


def test_without_merge_nothing_follows_the_code():
    assert () == plan([code(schedule=30)], [POLL]).follow


def test_what_code_said_long_ago_and_was_never_taken_is_no_edit():
    """Taken 15; the code went to 60 and was not followed; now it is 30, and merge is on."""
    taken = {"schedule": {"timedelta": 15}}
    row = stored(declared=taken)

    assert ((row, {"schedule": '{"timedelta": 30}'}),) == plan(
        [code(schedule=30)], [row], merge=True
    ).follow


# -- JSON -------------------------------------------------------------------------------------


def test_a_declaration_in_json():
    routine = code(schedule={"minute": 0}, args=(1,), kwargs={"b": 1, "a": 2}, options={"q": None})
    expected = {
        "schedule": '{"minute": 0}',
        "args": "[1]",
        "kwargs": '{"a": 2, "b": 1}',
        "options": '{"q": null}',
    }

    assert expected == in_json(routine)


def test_keys_of_several_types_become_text_and_are_sorted_as_such():
    assert (
        '{"a": {"1": "x", "b": "y"}}' == in_json(code(kwargs={"a": {"b": "y", 1: "x"}}))["kwargs"]
    )


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 9000, '"\\ud800"', "1e999"])
def test_a_value_that_is_none_of_ours_does_not_stop_the_others(field, text):
    rows = [stored(**{field: text}), stored("other")]
    planned = plan([code(), OTHER], rows, merge=True)

    assert [field] == [drift.field for drift in planned.drift]
    assert isinstance(canonical(field, text), str)
