"""``celery routines export`` and ``import``: routines written down, and made of that."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from celery.schedules import crontab
from commands import Commands

from celery_sqlalchemy_kit.cli import consent
from celery_sqlalchemy_kit.exchange import Format, dump, load
from celery_sqlalchemy_kit.store.connections import make_engine

DOCUMENT = """\
version: 1
routines:
- name: nightly
  task: t
  schedule: {minute: 0, hour: 2, timezone: Europe/Berlin}
  kwargs: {full: true}
- name: poll
  task: u
  schedule: {timedelta: 15}
  active: false
  overlap: skip
  jitter: 1.5
  max_runs: 3
  starts_at: 2026-12-01T09:00:00Z
  description: why
"""


@pytest.fixture
def cli(sqlite):
    return Commands(sqlite).migrated()


@pytest.fixture
def document(tmp_path):
    """Writes a document; returns the name of its file."""

    def write(text=DOCUMENT, name="routines.yaml"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path / name)

    return write


def names(cli):
    return [routine.name for routine in cli.routines.list()]


def execute(url, statement, **values):
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()


def test_a_document_becomes_routines_and_the_same_document_again(database, document):
    cli = Commands(database).migrated()
    told = cli("import", document(), "--note", "as agreed").splitlines()

    assert "create nightly: t, at 02:00, Europe/Berlin" == told[0]
    assert "create poll: u, every 15 s" == told[1]
    assert "imported: 2 created, 0 changed" == told[2]
    poll = cli.routines.get("poll")
    assert (False, "skip", 1.5, 3, "db") == (
        *(poll.active, poll.overlap, poll.jitter, poll.max_runs),
        poll.origin,
    )
    assert ("create", "as agreed") == cli.notes("nightly")[0][::2]

    again = load(cli("export"), Format.YAML)
    assert load(DOCUMENT, Format.YAML) == [each_without_origin(each) for each in again]
    assert "2 routines so already\n" == cli("import", document(cli("export"), "again.yaml"))


def each_without_origin(definition):
    return type(definition)(**{**vars(definition), "origin": None})


def test_what_differs_is_changed_or_kept_as_is_said(database, document):
    cli = Commands(database).migrated()
    cli.routines.create("poll", "u", 60, options={"queue": "q"})
    file = document()

    assert "the table says otherwise of 1 routine: say --update or --keep" in cli.refused(
        "import", file
    )
    assert ["poll"] == names(cli)
    told = cli("import", file, "--keep").splitlines()
    assert told[1].startswith('keep poll: schedule {"timedelta": 60} → {"timedelta": 15}; options ')
    assert {"timedelta": 60} == cli.routines.get("poll").schedule_json
    told = cli("import", file, "--update", "--note", "as agreed").splitlines()
    assert told[0].startswith(
        'update poll: schedule {"timedelta": 60} → {"timedelta": 15}; options '
    )
    assert "imported: 0 created, 1 changed" == told[-1]
    poll = cli.routines.get("poll")
    assert ({"timedelta": 15}, {}, False) == (poll.schedule_json, poll.options, poll.active)
    assert ("update", "as agreed") == cli.notes("poll")[0][::2]


def test_a_dry_run_imports_nothing(cli, document):
    cli.routines.create("poll", "u", 60)
    told = cli("import", document(), "--dry-run")

    assert "create nightly: " in told
    assert "\ndiffers: poll: schedule " in told
    assert ["poll"] == names(cli)


def test_programs_are_given_json(cli, document):
    cli.routines.create("poll", "u", 15)
    told = cli.json("import", document(), "--update")

    assert (True, ["nightly"], [], []) == (
        *(told["done"], told["create"], told["unchanged"]),
        told["problems"],
    )
    ((differ),) = told["differ"]
    assert ("poll", [True, False]) == (differ["name"], differ["changes"]["active"])
    assert not cli.json("import", document())["done"]


def test_a_document_comes_by_standard_input_in_either_form(cli):
    as_json = dump(load(DOCUMENT, Format.YAML), Format.JSON)

    assert "create nightly" in cli("import", "-", "--dry-run", said=DOCUMENT)
    assert "create nightly" in cli("import", "-", "--dry-run", said=as_json)
    assert "create nightly" in cli("import", "-", "--format", "yaml", said=DOCUMENT)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_it_asks(cli, document, monkeypatch, answer, code):
    monkeypatch.setattr(consent, "_is_terminal", lambda: True)
    result = cli.call("import", document(), said=answer)

    assert code == result.exit_code
    assert "Import?" in result.stderr
    assert (2 if code == 0 else 0) == len(names(cli))


def test_what_has_changed_while_it_asks_is_looked_at_again(cli, document, monkeypatch):
    def confirm(*args, **kwargs):
        cli.routines.create("poll", "u", 60)
        return True

    monkeypatch.setattr(consent, "_is_terminal", lambda: True)
    monkeypatch.setattr(consent.click, "confirm", confirm)
    assert "the table has changed meanwhile" in cli.refused("import", document())
    assert ["poll"] == names(cli)


def test_where_a_task_is_not_allowed_nothing_is_imported(sqlite, document):
    cli = Commands(sqlite, scheduler_allowed_tasks=["t"]).migrated()

    assert "'poll': task = 'u': scheduler_allowed_tasks allows t" in cli.refused(
        "import", document()
    )
    assert [] == names(cli)


def test_of_many_the_one_that_cannot_be_scheduled_is_named(cli, document):
    wrong = DOCUMENT.replace("max_runs: 3", "ends_at: 2026-01-01")
    told = "'poll': ends_at = 2026-01-01T00:00:00+00:00: allowed is no instant before starts_at"

    assert told in cli.refused("import", document(wrong))
    assert [] == names(cli)
    cli("import", document())
    assert told in cli.refused("import", document(wrong), "--update")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("import",), 2, "a document is given as FILE"),
        (("import", "f", "--url", "x"), 2, "a document is given as FILE"),
        (("import", "f", "--from", "redbeat"), 2, "FILE is for --from document"),
        (("import", "--from", "redbeat"), 2, "--from redbeat needs --url"),
        (("import", "--from", "django-celery-beat"), 2, "needs --url"),
        (("import", "--from", "elsewhere"), 2, "--from"),
        (("import", "/no/such/file"), 1, "/no/such/file cannot be read: No such file"),
        (("import", "--from", "redbeat", "--url", "redis://u:secret@127.0.0.1:1/0"), 1, "Redis"),
        (
            ("import", "--from", "django-celery-beat", "--url", "sqlite:///none.db"),
            1,
            "cannot be read",
        ),
        (("export", "nope"), 1, "there is no routine 'nope'"),
        (("export", "x*"), 1, "no routine matches 'x*'"),
        (("export", "--format", "xml"), 2, "--format"),
        (("export", "--output", "/no/such/directory/f"), 1, "cannot be written: No such file"),
    ],
)
def test_what_is_wrong_is_told(cli, args, code, says):
    told = cli.refused(*args, code=code)

    assert says in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "allowed is a mapping"),
        ("{", "it is no JSON"),
        ("version: 2\nroutines: []", "version"),
        ("version: 1\nroutines:\n- name: a\n  task: t\n  schedule: {minute: 61}\n", "61"),
        ("version: 1\nroutines:\n- {name: a, task: t, schedule: !!python/object:os.system {}}", ""),
        (b"\xff\xfe", "is not in UTF-8"),
    ],
)
def test_a_document_that_is_wrong_is_refused_as_a_whole(cli, document, text, says):
    assert says in cli.refused("import", document(text))
    assert [] == names(cli)


def test_some_are_exported_to_a_file_in_the_form_of_its_name(cli, document, tmp_path):
    cli("import", document())
    file = tmp_path / "some.json"

    assert "" == cli("export", "p*", "--output", str(file))
    assert ["poll"] == [each["name"] for each in json.loads(file.read_text())["routines"]]
    cli("export", "--output", str(file), "--format", "yaml", "nightly", "poll")
    assert 2 == len(load(file.read_text(), Format.YAML))


def test_what_cannot_be_read_is_left_out_and_told(cli, document):
    cli("import", document())
    cli.routines.once("t", in_=3600)
    execute(cli.url, "UPDATE routines SET schedule = :text WHERE name = 'poll'", text="no")
    result = cli.call("export")

    assert 1 == result.exit_code
    assert ["nightly"] == [each.name for each in load(result.stdout, Format.YAML)]
    assert result.stderr.startswith("Warning: 'poll' is left out: schedule")
    assert 1 == result.stderr.count("Warning")
    assert 0 == cli.call("export", "nightly").exit_code


def test_what_cannot_be_read_is_written_anew_if_so_asked(cli, document):
    file = document()
    cli("import", file)
    execute(cli.url, "UPDATE routines SET schedule = :text WHERE name = 'poll'", text="no")

    assert "the table says otherwise of 1 routine" in cli.refused("import", file)
    assert ["poll"] == cli.json("import", file, "--dry-run")["repair"]
    assert "update poll, which cannot be read\n" in cli("import", file, "--update")
    assert {"timedelta": 15} == cli.routines.get("poll").schedule_json
    assert "2 routines so already\n" == cli("import", file)


def test_where_routines_came_from_goes_with_them(cli, document, tmp_path):
    cli("import", document())
    execute(cli.url, "UPDATE routines SET origin = 'code' WHERE name = 'poll'")
    file = str(tmp_path / "all.yaml")
    cli("export", "--output", file)
    other = Commands(f"sqlite:///{tmp_path}/other.db").migrated()
    other.routines.create("nightly", "t", 60)

    other("import", file, "--update")
    assert ["db", "code"] == [routine.origin for routine in other.routines.list()]
    execute(other.url, "UPDATE routines SET origin = 'db'")
    assert 'update poll: origin "db" → "code"\n' in other("import", file, "--update")
    assert "code" == other.routines.get("poll").origin
    assert ("update", {"origin": ("db", "code")}, None) == other.notes("poll")[0]


def test_the_apps_own_beat_schedule_is_a_source(sqlite):
    declared = {
        "mail": {"task": "t", "schedule": crontab(minute="0", hour="9"), "options": {"queue": "q"}},
        "odd": {"task": "t", "schedule": crontab(minute="0"), "relative": True},
    }
    cli = Commands(sqlite, declared).migrated()
    result = cli.call("import", "--from", "beat_schedule")

    assert (0, ["mail"]) == (result.exit_code, names(cli))
    assert "Warning: not taken over: 'odd': relative cannot be kept" in result.stderr
    assert {"queue": "q"} == cli.routines.get("mail").options


def test_where_nothing_is_defined_that_is_said(cli, document):
    result = cli.call("import", document("version: 1\nroutines: []\n"))

    assert (0, "") == (result.exit_code, result.stdout)
    assert "Warning: no routine is defined there\n" == result.stderr


def test_what_redbeat_keeps_is_a_source(cli, redis_url):
    import redis

    entry = {"name": "mail", "task": "t", "args": [], "kwargs": {}, "options": {}, "enabled": True}
    entry["schedule"] = {"__type__": "interval", "every": 60.0, "relative": False}
    with redis.Redis.from_url(redis_url) as client:
        client.hset("shop:mail", mapping={"definition": json.dumps(entry), "meta": "{}"})
        client.zadd("shop::schedule", {"shop:mail": 1})
    cli.app.conf.redbeat_key_prefix = "shop:"

    cli("import", "--from", "redbeat", "--url", redis_url)
    assert {"timedelta": 60} == cli.routines.get("mail").schedule_json


def test_very_many_are_imported_in_one_go(cli, document):
    text = json.dumps(
        {
            "version": 1,
            "routines": [
                {"name": f"r{number:04}", "task": "t", "schedule": {"timedelta": 60}}
                for number in range(1200)
            ],
        }
    )
    told = cli("import", document(text)).splitlines()

    assert ["… and 1180 more …", "imported: 1200 created, 0 changed"] == [told[10], told[-1]]
    assert 22 == len(told)
    assert 1200 == len(names(cli)) == len(cli.routines.changes(limit=None))
