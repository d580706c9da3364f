"""The entries of RedBeat as definitions: pure, and from a Redis."""

from __future__ import annotations

import builtins
import json
from datetime import datetime, timedelta, timezone

import pytest
from dateutil import rrule
from hypothesis import given
from hypothesis import strategies as st
from strategies import json_values, properties

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.errors import SourceError
from celery_sqlalchemy_kit.exchange import Definition
from celery_sqlalchemy_kit.exchange.redbeat import read as read_entries
from celery_sqlalchemy_kit.routines import Origin
from celery_sqlalchemy_kit.store.redbeat import read

#: The definitions as celery-redbeat 2.4.2 writes them, and what they come to: a definition, or a
#: reason why not.
ENTRIES = {
    "interval": (
        '{"name": "interval", "task": "proj.interval", "args": [1, "zwei", null], "kwargs": {"full": true, "gr\\u00f6\\u00dfe": 1.5}, "options": {}, "schedule": {"__type__": "interval", "every": 10.0, "relative": false}, "enabled": true}',
        Definition(
            "interval",
            "proj.interval",
            schedules.parse(10),
            args=(1, "zwei", None),
            kwargs={"full": True, "größe": 1.5},
        ),
    ),
    "relative": (
        '{"name": "relative", "task": "proj.relative", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "interval", "every": 3600.0, "relative": true}, "enabled": true}',
        "relative cannot be kept; use a crontab such as crontab(minute=0)",
    ),
    "tiny": (
        '{"name": "tiny", "task": "proj.tiny", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "interval", "every": 0.001, "relative": false}, "enabled": true}',
        'schedule {"timedelta": 0.001}: the interval is out of bounds',
    ),
    "crontab": (
        '{"name": "crontab", "task": "proj.crontab", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "crontab", "minute": "*/15", "hour": "8-18", "day_of_week": "mon-fri", "day_of_month": "*", "month_of_year": "*"}, "enabled": true}',
        Definition(
            "crontab",
            "proj.crontab",
            schedules.parse({"minute": "*/15", "hour": "8-18", "day_of_week": "mon-fri"}),
        ),
    ),
    "crontab lists": (
        '{"name": "crontab lists", "task": "proj.crontab", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "crontab", "minute": [0, 30], "hour": 9, "day_of_week": "*", "day_of_month": "1,15", "month_of_year": "*/3"}, "enabled": true}',
        Definition(
            "crontab lists",
            "proj.crontab",
            schedules.parse(
                {"minute": [0, 30], "hour": 9, "day_of_month": "1,15", "month_of_year": "*/3"}
            ),
        ),
    ),
    "options": (
        '{"name": "options", "task": "proj.options", "args": null, "kwargs": {}, "options": {"queue": "slow", "priority": 3, "expires": 30, "headers": {"tenant": "a"}}, "schedule": {"__type__": "interval", "every": 60.0, "relative": false}, "enabled": true}',
        Definition(
            "options",
            "proj.options",
            schedules.parse(60),
            options={"queue": "slow", "priority": 3, "expires": 30, "headers": {"tenant": "a"}},
        ),
    ),
    "expires": (
        '{"name": "expires", "task": "proj.expires", "args": null, "kwargs": {}, "options": {"expires": {"__type__": "datetime", "year": 2027, "month": 1, "day": 1, "hour": 12, "minute": 0, "second": 0, "microsecond": 0, "timezone": 0.0}}, "schedule": {"__type__": "interval", "every": 60.0, "relative": false}, "enabled": true}',
        Definition(
            "expires",
            "proj.expires",
            schedules.parse(60),
            ends_at=datetime(2027, 1, 1, 12, tzinfo=timezone.utc),
        ),
    ),
    "expires berlin": (
        '{"name": "expires berlin", "task": "proj.expires", "args": null, "kwargs": {}, "options": {"expires": {"__type__": "datetime", "year": 2027, "month": 1, "day": 1, "hour": 12, "minute": 0, "second": 0, "microsecond": 0, "timezone": "Europe/Berlin"}}, "schedule": {"__type__": "interval", "every": 60.0, "relative": false}, "enabled": true}',
        Definition(
            "expires berlin",
            "proj.expires",
            schedules.parse(60),
            ends_at=datetime(2027, 1, 1, 11, tzinfo=timezone.utc),
        ),
    ),
    "expires offset": (
        '{"name": "expires offset", "task": "proj.expires", "args": null, "kwargs": {}, "options": {"expires": {"__type__": "datetime", "year": 2027, "month": 1, "day": 1, "hour": 12, "minute": 0, "second": 0, "microsecond": 0, "timezone": 19800.0}}, "schedule": {"__type__": "interval", "every": 60.0, "relative": false}, "enabled": true}',
        Definition(
            "expires offset",
            "proj.expires",
            schedules.parse(60),
            ends_at=datetime(2027, 1, 1, 6, 30, tzinfo=timezone.utc),
        ),
    ),
    "args datetime": (
        '{"name": "args datetime", "task": "proj.args", "args": [{"__type__": "datetime", "year": 2027, "month": 1, "day": 1, "hour": 12, "minute": 5, "second": 6, "microsecond": 7, "timezone": "UTC"}], "kwargs": {}, "options": {}, "schedule": {"__type__": "interval", "every": 60.0, "relative": false}, "enabled": true}',
        "args hold a value of type datetime, which JSON has no form for; send it as text",
    ),
    "disabled": (
        '{"name": "disabled", "task": "proj.disabled", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "interval", "every": 60.0, "relative": false}, "enabled": false}',
        Definition("disabled", "proj.disabled", schedules.parse(60), active=False),
    ),
    "from-code": (
        '{"name": "from-code", "task": "proj.code", "args": [1, 2], "kwargs": {}, "options": {"queue": "q"}, "schedule": {"__type__": "interval", "every": 90.0, "relative": false}, "enabled": true}',
        Definition(
            "from-code",
            "proj.code",
            schedules.parse(90),
            args=(1, 2),
            options={"queue": "q"},
            origin=Origin.CODE,
        ),
    ),
    "rrule monthly": (
        '{"name": "rrule monthly", "task": "proj.rrule", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "rrule", "freq": 1, "interval": 1, "wkst": null, "count": null, "bysetpos": -1, "bymonth": null, "bymonthday": null, "byyearday": null, "byeaster": null, "byweekno": null, "byweekday": {"__type__": "weekday", "wkday": 4}, "byhour": null, "byminute": null, "bysecond": null, "dtstart": 1767258000, "dtstart_tz": 0}, "enabled": true}',
        Definition(
            "rrule monthly",
            "proj.rrule",
            schedules.parse(
                "DTSTART:20260101T090000Z\nRRULE:FREQ=MONTHLY;BYSETPOS=-1;BYDAY=FR"
            ),
        ),
    ),
    "rrule weekly berlin": (
        '{"name": "rrule weekly berlin", "task": "proj.rrule", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "rrule", "freq": 2, "interval": 2, "wkst": 0, "count": 10, "bysetpos": null, "bymonth": null, "bymonthday": null, "byyearday": null, "byeaster": null, "byweekno": null, "byweekday": [0, 2], "byhour": null, "byminute": null, "bysecond": null, "dtstart": 1767600000, "dtstart_tz": 60.0}, "enabled": true}',
        Definition(
            "rrule weekly berlin",
            "proj.rrule",
            schedules.parse(
                "DTSTART;TZID=Etc/GMT-1:20260105T090000\n"
                "RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=10;BYDAY=MO,WE;WKST=MO"
            ),
        ),
    ),
    "rrule weekly naive": (
        '{"name": "rrule weekly naive", "task": "proj.rrule", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "rrule", "freq": 2, "interval": 1, "wkst": null, "count": null, "bysetpos": null, "bymonth": null, "bymonthday": null, "byyearday": null, "byeaster": null, "byweekno": null, "byweekday": [{"__type__": "weekday", "wkday": 0}, {"__type__": "weekday", "wkday": 4}], "byhour": [9, 17], "byminute": 0, "bysecond": 0, "dtstart": 1767603600, "dtstart_tz": 0}, "enabled": true}',
        Definition(
            "rrule weekly naive",
            "proj.rrule",
            schedules.parse(
                "DTSTART:20260105T090000Z\n"
                "RRULE:FREQ=WEEKLY;BYHOUR=9,17;BYMINUTE=0;BYSECOND=0;BYDAY=MO,FR"
            ),
        ),
    ),
    "rrule until": (
        '{"name": "rrule until", "task": "proj.rrule", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "rrule", "freq": 3, "interval": 1, "wkst": null, "count": null, "bysetpos": null, "bymonth": null, "bymonthday": null, "byyearday": null, "byeaster": null, "byweekno": null, "byweekday": null, "byhour": null, "byminute": null, "bysecond": null, "dtstart": 1767583800, "dtstart_tz": 330.0, "until": 1799119800, "until_tz": 330.0}, "enabled": true}',
        Definition(
            "rrule until",
            "proj.rrule",
            schedules.parse(
                "DTSTART:20260105T033000Z\nRRULE:FREQ=DAILY;UNTIL=20270105T033000Z"
            ),
        ),
    ),
    "rrule kolkata": (
        '{"name": "rrule kolkata", "task": "proj.rrule", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "rrule", "freq": 1, "interval": 1, "wkst": null, "count": null, "bysetpos": null, "bymonth": null, "bymonthday": null, "byyearday": null, "byeaster": null, "byweekno": null, "byweekday": null, "byhour": null, "byminute": null, "bysecond": null, "dtstart": 1767583800, "dtstart_tz": 330.0}, "enabled": true}',
        "rrule: its start is 330 minutes from UTC, which no time zone is",
    ),
    "rrule easter": (
        '{"name": "rrule easter", "task": "proj.rrule", "args": null, "kwargs": {}, "options": {}, "schedule": {"__type__": "rrule", "freq": 0, "interval": 1, "wkst": null, "count": null, "bysetpos": null, "bymonth": null, "bymonthday": null, "byyearday": null, "byeaster": 0, "byweekno": null, "byweekday": null, "byhour": null, "byminute": null, "bysecond": null, "dtstart": 1767603600, "dtstart_tz": 0}, "enabled": true}',
        "rrule: byeaster = 0 cannot be kept",
    ),
    "celery.backend_cleanup": (
        '{"name": "celery.backend_cleanup", "task": "celery.backend_cleanup", "args": null, "kwargs": {}, "options": {"expires": 43200}, "schedule": {"__type__": "crontab", "minute": "0", "hour": "4", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*"}, "enabled": true}',
        None,
    ),
}  # fmt: skip
META = '{"last_run_at": {"__type__": "datetime", "year": 2026, "month": 11, "day": 28, "hour": 21, "minute": 51, "second": 16, "microsecond": 255626, "timezone": "UTC"}, "total_run_count": 1}'
FOUND = sorted(
    (is_ for _, is_ in ENTRIES.values() if isinstance(is_, Definition)), key=lambda each: each.name
)
REASONS = {name: is_ for name, (_, is_) in sorted(ENTRIES.items()) if isinstance(is_, str)}
RULE = dict.fromkeys(
    ["count", "bysetpos", "bymonth", "bymonthday", "byyearday", "byweekno", "byweekday", "byhour", "byminute", "bysecond", "wkst"]
)  # fmt: skip


def entry(**fields):
    schedule = {"__type__": "interval", "every": 60.0, "relative": False}
    return json.dumps({"name": "a", "task": "t", "schedule": schedule, **fields})


def rule(**fields):
    return {"__type__": "rrule", "freq": 3, "interval": 1, **RULE, "dtstart_tz": 0, **fields}


def fill(url, prefix="redbeat:"):
    """What RedBeat leaves in a Redis."""
    import redis

    with redis.Redis.from_url(url) as client:
        for name, (text, _) in ENTRIES.items():
            client.hset(f"{prefix}{name}", mapping={"definition": text, "meta": META})
            client.zadd(f"{prefix}:schedule", {f"{prefix}{name}": 1795902676.0})
        client.sadd(f"{prefix}:statics", "from-code")


# -- what an entry means -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry(name):
    text, expected = ENTRIES[name]
    found = read_entries([("redbeat:x", text)], {"from-code"})

    if isinstance(expected, str):
        assert [] == found.definitions
        assert found.problems[0].startswith(f"'redbeat:x': {expected}")
    else:
        assert ([expected] if expected else [], []) == found


def test_a_crontab_follows_the_zone_that_is_given():
    found = read_entries([("redbeat:x", ENTRIES["crontab"][0])], default_zone="Europe/Berlin")

    assert "Europe/Berlin" == found.definitions[0].schedule.zone


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "it has no definition"),
        ("", 'definition = "" is no JSON'),
        pytest.param("[" * 100_000, "is no JSON", id="deep"),
        ("[]", 'definition = "[]": allowed is an object'),
        ('{"__type__": "datetime"}', "allowed is an object"),
        (entry(name=None), "name = null: allowed is a text"),
        (entry(name=["a"]), 'name = ["a"]: allowed is a text'),
        (entry(schedule=None), "schedule null: is no schedule"),
        (entry(schedule={"__type__": "solar", "event": "sunset"}), "is no schedule|unknown key"),
        (entry(schedule={"__type__": "weekday", "wkday": 1}), "schedule: a weekday is none"),
        (entry(schedule={"__type__": "interval"}), 'schedule {"timedelta": null}'),
        (entry(schedule={"__type__": "crontab", "minute": None}), "minute null"),
        (entry(kwargs={"a": {"b": [{"__type__": "interval", "every": 1}]}}), "kwargs hold a value of type interval"),
        (entry(options={"eta": {"__type__": "datetime"}}), "options hold a value of type datetime"),
        (entry(options={"expires": {"__type__": "datetime", "year": 2026}}), '{"year": 2026} is no'),
        (entry(options={"expires": {"__type__": "datetime", "year": 2026, "month": 1, "day": 1, "timezone": "Nowhere"}}), "is no instant"),
        (entry(options={"expires": {"__type__": "datetime", "year": 2026, "month": 1, "day": 1, "timezone": 1e9}}), "is no instant"),
        (entry(schedule=rule(dtstart=None)), "dtstart = null: allowed are seconds since 1970"),
        (entry(schedule=rule(dtstart=1e30)), "dtstart = 1e"),
        (entry(schedule=rule(dtstart=0, dtstart_tz="x")), 'dtstart_tz = "x": allowed are minutes'),
        (entry(schedule=rule(dtstart=0, dtstart_tz=10**400)), "allowed are minutes of a day"),
        (entry(schedule=rule(dtstart=0, freq=7)), "freq = 7: allowed are 0 to 6"),
        (entry(schedule=rule(dtstart=0, freq="DAILY")), 'freq = "DAILY": allowed are whole numbers'),
        (entry(schedule=rule(dtstart=0, byhour=[True])), "byhour = true: allowed are whole numbers"),
        (entry(schedule=rule(dtstart=0, byweekday=7)), "byweekday = 7: allowed are 0 to 6"),
        (entry(schedule=rule(dtstart=0, byhour=25)), "BYHOUR"),
        (entry(schedule=rule(dtstart=0, until=0, count=3)), "COUNT"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_told_and_the_rest_is_taken(text, problem):
    found = read_entries([("redbeat:x", text), ("redbeat:a", entry())])

    assert [Definition("a", "t", schedules.parse(60))] == found.definitions
    (told,) = found.problems
    assert told.startswith("'redbeat:x': ")
    assert any(each in told for each in problem.split("|"))


STARTS = st.datetimes(datetime(1995, 1, 1), datetime(2035, 1, 1)).map(
    lambda at: int(at.replace(tzinfo=timezone.utc).timestamp())
)


@properties
@given(
    start=STARTS,
    minutes=st.sampled_from([0, 60, 60.0, -300.0, 330.0, 345.0, 720, -720, 840]),
    fields=st.fixed_dictionaries(
        {"freq": st.integers(0, 5), "interval": st.integers(1, 3)},
        optional={
            "byhour": st.lists(st.integers(0, 23), min_size=1, max_size=3, unique=True),
            "byminute": st.integers(0, 59),
            "byweekday": st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True),
            "bymonth": st.integers(1, 12),
            "bymonthday": st.sampled_from([1, 15, -1]),
            "wkst": st.sampled_from([0, 6]),
        },
    ),
)
def test_a_rule_is_due_when_redbeat_would_run_it(start, minutes, fields):
    """RedBeat asks python-dateutil, by the offset that it has stored."""
    said = rule(**fields, dtstart=start, dtstart_tz=minutes)
    found = read_entries([("redbeat:a", entry(schedule=said))])
    if not found.definitions:
        # No zone has such an offset; or nothing ever matches, or another part is refused.
        assert minutes % 60 or "rrule" in found.problems[0]
        return
    zone = timezone(timedelta(minutes=minutes))
    begin = datetime.fromtimestamp(start, zone)
    theirs = rrule.rrule(dtstart=begin, **fields, until=begin + timedelta(days=1500))
    expected = [at for at, _ in zip(theirs, range(20), strict=False)]

    schedule = found.definitions[0].schedule
    before = begin - timedelta(microseconds=1)
    assert expected == schedule.upcoming(before, len(expected))


@properties
@given(
    value=st.recursive(
        json_values,
        lambda inner: st.dictionaries(
            st.sampled_from(["__type__", "every", "minute", "freq", "dtstart", "dtstart_tz", "year", "timezone", "name", "schedule", "options", "expires"]),
            inner | st.sampled_from(["datetime", "interval", "crontab", "weekday", "rrule"]),
            max_size=4,
        ),
        max_leaves=10,
    ),
    key=st.sampled_from(["name", "task", "schedule", "args", "kwargs", "options", "enabled"]),
)  # fmt: skip
def test_whatever_an_entry_holds_the_others_are_read(value, key):
    odd = [("redbeat:x", json.dumps(value)), ("redbeat:x", entry(**{key: value}))]

    found = read_entries([*odd, ("redbeat:a", entry())])

    assert "a" == found.definitions[-1].name


# -- from a Redis ------------------------------------------------------------------------------


def reasons(found, prefix="redbeat:"):
    return [
        problem.startswith(f"'{prefix}{name}': {reason}")
        for (name, reason), problem in zip(REASONS.items(), found.problems, strict=True)
    ]


@pytest.mark.parametrize("prefix", ["redbeat:", "shop-"])
def test_entries_are_read_from_a_redis(redis_url, prefix):
    fill(redis_url, prefix)

    found = read(redis_url, prefix=prefix)

    assert FOUND == found.definitions
    assert all(reasons(found, prefix))


@pytest.mark.parametrize("decodes", [True, False])
def test_entries_are_read_by_a_client_which_is_left_open(redis_url, decodes):
    import redis

    fill(redis_url)
    with redis.Redis.from_url(redis_url, decode_responses=decodes) as client:
        assert FOUND == read(client).definitions
        assert client.ping()


def test_more_entries_than_fit_into_one_question(redis_url):
    import redis

    with redis.Redis.from_url(redis_url) as client, client.pipeline() as pipeline:
        for n in range(1234):
            pipeline.hset(f"redbeat:{n}", "definition", entry(name=str(n)))
            pipeline.zadd("redbeat::schedule", {f"redbeat:{n}": n})
        pipeline.execute()

    assert {str(n) for n in range(1234)} == {each.name for each in read(redis_url).definitions}


def test_a_redis_without_redbeat_holds_nothing(redis_url):
    assert ([], []) == read(redis_url)


def test_a_key_that_is_gone_or_no_hash_harms_itself_only(redis_url):
    import redis

    fill(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("redbeat::schedule", {"redbeat:gone": 1, "redbeat:text": 2, b"redbeat:\xff": 3})
        client.set("redbeat:text", "x")
        client.hset(b"redbeat:interval", "definition", b'{"name": "\xff"}')

    found = read(redis_url)

    assert [each for each in FOUND if each.name != "interval"] == found.definitions
    for key in ("redbeat:gone", "redbeat:text", "redbeat:\\\\xff"):
        assert f"'{key}': it has no definition" in found.problems
    assert any(problem.startswith("'redbeat:interval': ") for problem in found.problems)


def test_what_stands_in_place_of_its_keys_is_told(redis_url):
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.set("redbeat::schedule", "x")

    with pytest.raises(SourceError, match="Redis cannot be read: WRONGTYPE"):
        read(redis_url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://:secret@127.0.0.1:1/0", "Redis cannot be read: .*127.0.0.1:1"),
        (
            "redis://:secret/more@127.0.0.1/0",
            "the URL of Redis cannot be read; allowed is redis://",
        ),
        ("http://u:secret@127.0.0.1/0", "the URL of Redis cannot be read; allowed is redis://"),
    ],
)
def test_what_cannot_be_reached_is_told_without_its_password(url, fault):
    pytest.importorskip("redis")

    with pytest.raises(SourceError, match=fault) as error:
        read(url)

    assert "secret" not in str(error.value)


def test_without_the_library_it_is_told_what_to_install(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "redis":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)

    with pytest.raises(SourceError, match=r'pip install "celery-sqlalchemy-kit\[redis\]"'):
        read("redis://127.0.0.1/0")
