"""Documents: what is written is read again, the same way each time; all that is wrong is told."""

from __future__ import annotations

import contextlib
import json
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from strategies import few, listed, properties
from strategies import json_values as values

from celery_sqlalchemy_kit import After, schedules
from celery_sqlalchemy_kit.errors import DocumentError
from celery_sqlalchemy_kit.exchange import Definition, Format, dump, load
from celery_sqlalchemy_kit.exchange.keys import LEVELS, READERS
from celery_sqlalchemy_kit.routines import CatchUp, Origin, Overlap

PAGE = (Path(__file__).parents[1] / "docs" / "moving.md").read_text(encoding="utf-8")
FORMATS = pytest.mark.parametrize("form", Format)
POLL = {"name": "poll", "task": "proj.poll", "schedule": {"timedelta": 15}}
FULL = Definition(
    name="nightly",
    task="reports.build",
    schedule=schedules.parse({"timezone": "Europe/Berlin", "hour": 2, "minute": 0}),
    args=(1, "on", None),
    kwargs={"since": "2026-01-01", "full": True},
    options={"queue": "slow", "expires": 30},
    active=False,
    catch_up=CatchUp.ALL,
    overlap=Overlap.QUEUE,
    jitter_seconds=5.0,
    starts_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    ends_at=datetime(2027, 1, 1, 9, 30, 0, 5, tzinfo=timezone(timedelta(hours=1))),
    max_runs=10,
    description="Builds the reports.\nAsk Ann.",
    origin=Origin.CODE,
)


def document(*routines, **keys):
    return json.dumps({"version": 1, "routines": list(routines), **keys})


def faults(text, form="json", **keys):
    with pytest.raises(DocumentError) as error:
        load(text, form, **keys)
    return error.value.faults


# -- there and back ----------------------------------------------------------------------------


@FORMATS
@few
@given(given=listed)
def test_what_is_written_is_read_again(form, given):
    expected = sorted(given, key=lambda each: each.name)
    text = dump(given, form)

    assert expected == load(text, form)
    assert text == dump(load(text, form), form)
    # It can be encoded, and its lines end in one way.
    assert b"\r" not in text.encode()


@few
@given(given=listed)
def test_other_readers_of_yaml_read_in_it_what_json_says(given):
    """PyYAML itself reads YAML 1.1: no text of ours is a number, a date or a truth value to it."""
    text = dump(given, Format.YAML)

    assert json.loads(dump(given, Format.JSON)) == yaml.safe_load(text)


def test_a_document_in_yaml():
    expected = """\
version: 1
routines:
- name: nightly
  task: reports.build
  schedule: {minute: 0, hour: 2, timezone: Europe/Berlin}
  args: [1, 'on', null]
  kwargs: {full: true, since: '2026-01-01'}
  options: {expires: 30, queue: slow}
  active: false
  catch_up: all
  overlap: queue
  jitter: 5
  starts_at: '2026-01-01T00:00:00Z'
  ends_at: '2027-01-01T08:30:00.000005Z'
  max_runs: 10
  description: |-
    Builds the reports.
    Ask Ann.
  origin: code
- name: poll
  task: proj.poll
  schedule: {timedelta: 15}
"""
    given = [Definition("poll", "proj.poll", schedules.parse(15)), FULL]

    assert expected == dump(given, Format.YAML)
    assert [FULL, given[0]] == load(expected, Format.YAML)


def test_a_document_in_json():
    expected = """\
{
  "version": 1,
  "routines": [
    {
      "name": "größe",
      "task": "proj.poll",
      "schedule": {
        "after": 5
      }
    }
  ]
}
"""

    assert expected == dump([Definition("größe", "proj.poll", After(5))], Format.JSON)


@FORMATS
def test_a_document_without_routines(form):
    assert [] == load(dump([], form), form)


def test_the_order_in_which_keys_were_stored_does_not_matter():
    """MySQL keeps the keys of JSON in an order of its own."""
    one = Definition("a", "t", schedules.parse({"minute": 0, "hour": 9}), kwargs={"a": 1, "b": 2})
    other = Definition("a", "t", schedules.parse({"hour": 9, "minute": 0}), kwargs={"b": 2, "a": 1})

    assert dump([one], Format.JSON) == dump([other], Format.JSON)


@pytest.mark.parametrize("key", READERS)
def test_each_key_is_told_on_the_page_about_moving(key):
    assert f"| `{key}` |" in PAGE


def test_the_documents_of_that_page_are_read():
    blocks = [block.split("```")[0] for block in PAGE.split("```yaml\n")[1:]]

    assert blocks
    for block in blocks:
        assert load(block, Format.YAML)


@FORMATS
def test_what_cannot_be_written_is_named(form):
    deep = []
    for _ in range(LEVELS + 1):
        deep = [deep]
    given = [
        Definition("a", "t", After(1), kwargs={"x": float("nan")}),
        Definition("b", "t", After(1), args=(deep,)),
        Definition("c", "t", After(1), options={"eta": datetime(2026, 1, 1)}),
    ]

    with pytest.raises(DocumentError) as error:
        dump(given, form)

    assert ["'a'", "'b'", "'c'"] == [fault[:3] for fault in error.value.faults]


@FORMATS
def test_as_many_levels_are_written_and_read_as_are_allowed(form):
    deep = []
    for _ in range(LEVELS - 2):
        deep = [deep]
    given = [Definition("a", "t", After(1), args=(deep,))]

    assert given == load(dump(given, form), form)


# -- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-01T09:00:00Z", datetime(2026, 12, 1, 9)),
        ("2026-12-01T09:00:00.25+01:00", datetime(2026, 12, 1, 8, 0, 0, 250_000)),
        ("2026-12-01T09:00", datetime(2026, 12, 1, 9)),
        ("2026-12-01 09:00:00", datetime(2026, 12, 1, 9)),
        ("2026-12-01", datetime(2026, 12, 1)),
        ("20261201T090000Z", datetime(2026, 12, 1, 9)),
    ],
)
@pytest.mark.parametrize("quote", ["", "'"])
def test_an_instant_in_yaml_needs_no_quotes(text, quote, expected):
    said = f"""
version: 1
routines:
- {{name: a, task: t, schedule: {{once: {quote}{text}{quote}}}, starts_at: {quote}{text}{quote}}}
"""
    (definition,) = load(said, Format.YAML)

    assert expected.replace(tzinfo=timezone.utc) == definition.starts_at
    assert schedules.Once(expected.replace(tzinfo=timezone.utc)) == definition.schedule


@pytest.mark.parametrize(
    "key",
    ["args", "kwargs", "options", "starts_at", "ends_at", "max_runs", "description", "origin"],
)
def test_null_is_what_a_key_is_by_default(key):
    assert load(document(POLL), "json") == load(document({**POLL, key: None}), "json")


def test_a_schedule_that_names_no_zone_follows_the_one_that_is_given():
    said = document({**POLL, "schedule": {"cron": "0 9 * * *"}})
    (definition,) = load(said, "json", timezone="Europe/Berlin")

    assert "Europe/Berlin" == definition.schedule.zone


def test_a_byte_order_mark_is_passed_over():
    for form in Format:
        assert [] == load("\ufeff" + dump([], form), form)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"jiter": 1}, "'poll': unknown key 'jiter'; allowed are name, task, schedule, args,"),
        ({"name": ""}, 'routine 1: name = "": allowed is a text of 1 to 255 characters'),
        ({"name": "x" * 256}, 'name = "xxx'),
        ({"name": 5}, "routine 1: name = 5: allowed is a text"),
        ({"task": "a\0b"}, "'poll': task = \"a\\u0000b\": allowed is a text of 1 to 255 characters"),
        ({"task": "\ud800"}, "'poll': task = "),
        ({"schedule": 15}, "'poll': schedule 15: is no schedule; allowed are {\"timedelta\""),
        ({"schedule": {"hour": 25}}, "'poll': schedule {\"hour\": 25}: hour 25; allowed are 0-23"),
        ({"schedule": {"minute": 0, "day": 1}}, "unknown key 'day'; allowed are minute, hour"),
        ({"args": {"a": 1}}, "'poll': args = {\"a\": 1}: allowed is a list"),
        ({"kwargs": [1]}, "'poll': kwargs = [1]: allowed is a mapping"),
        ({"options": "fast"}, "'poll': options = \"fast\": allowed is a mapping"),
        ({"options": {"task_id": "x"}}, "any option of apply_async that JSON can hold, but for connection, producer, publisher, task_id"),
        ({"options": {"headers": [1]}}, "'poll': options = {\"headers\": [1]}: allowed is a mapping as headers"),
        ({"active": "yes"}, "'poll': active = \"yes\": allowed is true or false"),
        ({"active": 1}, "'poll': active = 1: allowed is true or false"),
        ({"catch_up": "newest"}, "'poll': catch_up = \"newest\": allowed is one of latest, skip, all"),
        ({"catch_up": None}, "'poll': catch_up = null: allowed is one of"),
        ({"overlap": ["skip"]}, "'poll': overlap = [\"skip\"]: allowed is one of allow, skip, queue"),
        ({"origin": "git"}, "'poll': origin = \"git\": allowed is one of code, db"),
        ({"jitter": "5"}, "'poll': jitter = \"5\": allowed is seconds from 0 to 31536000"),
        ({"jitter": -1}, "'poll': jitter = -1: allowed is seconds"),
        ({"jitter": True}, "'poll': jitter = true: allowed is seconds"),
        ({"max_runs": 1.5}, "'poll': max_runs = 1.5: allowed is a whole number from 0 to 2147483647"),
        ({"max_runs": 2**31}, "'poll': max_runs = 2147483648: allowed is"),
        ({"starts_at": "soon"}, "'poll': starts_at = \"soon\": allowed is an instant in ISO 8601 such as 2026-12-01T09:00:00Z"),
        ({"starts_at": "2026-12"}, "'poll': starts_at = \"2026-12\": allowed is an instant"),
        ({"ends_at": "2026-02-30"}, "'poll': ends_at = \"2026-02-30\": allowed is an instant"),
        ({"ends_at": "9999-12-31T23:59:59-10:00"}, "'poll': ends_at = "),
        ({"ends_at": "10000-01-01"}, "'poll': ends_at = "),
        ({"ends_at": 1_790_000_000}, "'poll': ends_at = 1790000000: allowed is an instant"),
        ({"description": "ß" * 32_768}, "allowed is a text of at most 65535 octets in UTF-8"),
        ({"args": json.loads("[" * 150 + "]" * 150)}, "'poll': args = "),
    ],
)  # fmt: skip
def test_a_fault_names_routine_key_value_and_what_is_allowed(said, fault):
    (found,) = faults(document({**POLL, **said}))

    assert fault in found
    assert len(found) < 1000


@pytest.mark.parametrize(
    ("routine", "fault"),
    [
        (5, "routine 1: 5: allowed is a mapping with the keys name, task, schedule, args,"),
        ({"task": "t", "schedule": {"after": 5}}, "routine 1: name is missing"),
        ({"name": "a", "schedule": {"after": 5}}, "'a': task is missing"),
        ({"name": "a", "task": "t"}, "'a': schedule is missing"),
    ],
)
def test_what_a_routine_has_to_say(routine, fault):
    (found,) = faults(document(routine))

    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "[]: allowed is a mapping with the keys version and routines"),
        ("{}", "version = null: allowed is 1"),
        ('{"version": 1}', "routines = null: allowed is a list of mappings"),
        ('{"version": 2, "routines": []}', "version = 2: allowed is 1"),
        ('{"version": true, "routines": []}', "version = true: allowed is 1"),
        ('{"version": 1.0, "routines": []}', "version = 1.0: allowed is 1"),
        ('{"version": 1, "routines": {}}', "routines = {}: allowed is a list of mappings"),
        (
            '{"version": 1, "routines": [], "a": 1}',
            "unknown key 'a'; allowed are version and routines",
        ),
    ],
)
def test_a_document_says_its_version_and_its_routines(text, fault):
    assert fault in faults(text)


def test_all_faults_are_told_together():
    found = faults(
        document(
            {**POLL, "active": 1, "jitter": -1, "schedule": {"hour": 25}},
            POLL,
            {"name": "other", "schedule": {"timedelta": 0}},
            7,
            more=1,
        )
    )
    expected = [
        "unknown key 'more'",
        "name = 'poll' stands at 1, 2: allowed is once",
        "'poll': schedule",
        "'poll': active",
        "'poll': jitter",
        "'other': task is missing",
        "'other': schedule",
        "routine 4: 7",
    ]

    assert sorted(expected) == sorted(
        next(start for start in expected if each.startswith(start)) for each in found
    )


def test_an_error_says_no_more_than_people_read():
    error = DocumentError([f"fault {number}" for number in range(1000)])

    assert str(error).startswith("1000 faults:\n  - fault 0\n")
    assert str(error).endswith("\n  - fault 99\n  … and 900 more")
    assert error.faults == pickle.loads(pickle.dumps(error)).faults


@FORMATS
@properties
@given(value=values)
def test_whatever_a_document_holds_it_is_read_or_refused(form, value):
    for text in (document(value, {**POLL, "kwargs": value}), json.dumps(value), str(value)):
        with contextlib.suppress(DocumentError):
            load(text, form)
