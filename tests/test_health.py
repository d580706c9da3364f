"""Whether routines are sent: the verdict, and what it is judged by on real databases."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import migrations, tables
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.health import COUNTED, SHOWN, Beat, Bounds, Overdue, Seen, Verdict, judge
from celery_sqlalchemy_kit.storage.values import Presence
from celery_sqlalchemy_kit.store import health as stored
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.health import Unanswered
from celery_sqlalchemy_kit.store.store import Store

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BOUNDS = Bounds(silence=30 * SECOND, lateness=60 * SECOND, overdue=60 * SECOND)
BEAT_ONLY = Bounds(silence=30 * SECOND, lateness=None, overdue=None, host="web-1")


def beat(ago=3.0, late=0.0, host="web-1", pid=17):
    return Beat(host, pid, NOW - ago * SECOND, late * SECOND)


def seen(*beats, overdue=()):
    return Seen(NOW, beats, tuple(overdue))


def overdue(number):
    return [Overdue(f"report {n}", NOW - 75 * SECOND) for n in range(number)]


# The verdict.


@pytest.mark.parametrize(
    ("found", "bounds", "problems"),
    [
        (seen(beat()), BOUNDS, []),
        (seen(beat(ago=30, late=60)), BOUNDS, []),
        # The database's clock was set back.
        (seen(beat(ago=-5)), BOUNDS, []),
        # One that lives is enough.
        (seen(beat(), beat(ago=400, late=400, pid=18)), BOUNDS, []),
        (seen(), BOUNDS, ["no scheduler runs"]),
        (seen(), BEAT_ONLY, ["no scheduler runs on web-1"]),
        (seen(beat(ago=30.1)), BOUNDS, ["no scheduler has beaten for 30.1 s; allowed are 30.0 s"]),
        (
            seen(beat(ago=31), beat(ago=3600)),
            BEAT_ONLY,
            ["no scheduler on web-1 has beaten for 31.0 s; allowed are 30.0 s"],
        ),
        (
            seen(beat(late=60.1), beat(late=1, pid=18)),
            BOUNDS,
            ["scheduler web-1[17] was 60.1 s late; allowed are 60.0 s"],
        ),
        (
            seen(beat(), overdue=overdue(1)),
            BOUNDS,
            ["routine 'report 0' is overdue: due at 2026-12-01 11:58:45 UTC, 75.0 s ago"],
        ),
        # Where only the beat counts.
        (seen(beat(late=3600), overdue=overdue(1)), BEAT_ONLY, []),
    ],
)
def test_the_verdict(found, bounds, problems):
    verdict = judge(found, bounds)

    assert problems == list(verdict.problems)
    assert verdict.healthy is not bool(problems)


def test_all_that_is_wrong_is_told_at_once():
    verdict = judge(seen(beat(ago=99), overdue=overdue(2)), BOUNDS)

    assert 3 == len(verdict.problems)
    assert [
        "scheduler web-1[17]: last beat 99.0 s ago, counts no longer",
        "unhealthy: no scheduler has beaten for 99.0 s; allowed are 30.0 s",
        "unhealthy: routine 'report 0' is overdue: due at 2026-12-01 11:58:45 UTC, 75.0 s ago",
        "unhealthy: routine 'report 1' is overdue: due at 2026-12-01 11:58:45 UTC, 75.0 s ago",
    ] == verdict.lines()


def test_what_is_told_of_the_healthy():
    verdict = judge(seen(beat(late=0.25), beat(ago=44, pid=18)), BOUNDS)

    assert [
        "scheduler web-1[17]: last beat 3.0 s ago, at most 0.2 s late",
        "scheduler web-1[18]: last beat 44.0 s ago, counts no longer",
        "healthy",
    ] == verdict.lines()
    assert {
        "healthy": True,
        "problems": [],
        "now": "2026-12-01T12:00:00+00:00",
        "schedulers": [
            {
                "host": "web-1",
                "pid": 17,
                "alive": True,
                "seen_at": "2026-12-01T11:59:57+00:00",
                "lateness_seconds": 0.25,
            },
            {
                "host": "web-1",
                "pid": 18,
                "alive": False,
                "seen_at": "2026-12-01T11:59:16+00:00",
                "lateness_seconds": 0.0,
            },
        ],
        "overdue": [],
    } == json.loads(json.dumps(verdict.to_json()))


@pytest.mark.parametrize(
    ("number", "last"),
    [
        (
            10,
            "unhealthy: routine 'report 9' is overdue: due at 2026-12-01 11:58:45 UTC, 75.0 s ago",
        ),
        (11, "unhealthy: and 1 more routines are overdue"),
        (COUNTED, f"unhealthy: and at least {COUNTED - 10} more routines are overdue"),
    ],
)
def test_of_many_that_are_overdue_ten_are_named(number, last):
    verdict = judge(seen(beat(), overdue=overdue(number)), BOUNDS)

    assert last == verdict.lines()[-1]
    assert sum("'report" in line for line in verdict.lines()) == 10
    assert 10 == len(verdict.to_json()["overdue"])
    assert {"name": "report 0", "due_at": "2026-12-01T11:58:45+00:00"} == verdict.to_json()[
        "overdue"
    ][0]


def test_of_many_schedulers_ten_are_told_and_all_are_judged():
    many = [beat(late=99, pid=pid) for pid in range(12)]
    verdict = judge(seen(*many), BOUNDS)

    assert 2 * (SHOWN + 1) == len(verdict.lines())
    assert "and 2 more schedulers" in verdict.lines()
    assert "unhealthy: and 2 more schedulers were late" == verdict.lines()[-1]
    assert 10 == len(verdict.to_json()["schedulers"])


def test_a_name_cannot_make_lines_of_its_own():
    found = seen(beat(), overdue=[Overdue("a\nhealthy\x1b[2J", NOW - 75 * SECOND)])

    assert all("\n" not in line and "\x1b" not in line for line in judge(found, BOUNDS).lines())


def test_nothing_is_known_where_the_database_did_not_answer():
    verdict = Verdict(healthy=True, problems=("the database cannot be reached",))

    assert ["healthy: the database cannot be reached"] == verdict.lines()
    assert verdict.to_json()["now"] is None


# What is read from the tables.


@pytest.fixture
def engine(database):
    engine = make_engine(database)
    migrations.migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def start(engine, clock):
    """Announces a scheduler; returns its store."""

    def announce(host="web-1", pid=17, namespace=""):
        store = Store(engine, Presence(uuid4(), namespace, host, pid), clock=clock)
        store.reconcile([], known_tasks=[], removal="keep", merge=False)
        return store

    return announce


@pytest.fixture
def insert(engine, clock):
    """Inserts a routine that was due so many seconds ago, or never is."""

    def routine(name, due_ago, **values):
        due_at = None if due_ago is None else clock.now() - due_ago * SECOND
        values = {"task": "t", "schedule": '{"timedelta": 60}', "next_run_at": due_at} | values
        with engine.begin() as connection:
            connection.execute(tables.routines.insert().values(name=name, **values))

    return routine


@pytest.fixture
def look(engine, clock):
    return lambda bounds=BOUNDS, namespace="": stored.look(engine, namespace, bounds, clock)


def test_a_scheduler_is_seen_as_it_beats(look, start, clock):
    store = start()
    began = clock.now()
    assert Seen(began, (Beat("web-1", 17, began, timedelta(0)),)) == look()

    clock.advance(10)
    store.beat(timedelta(seconds=1.5))
    clock.advance(31)
    assert (Beat("web-1", 17, began + 10 * SECOND, 1.5 * SECOND),) == look().beats
    assert not judge(look(), BOUNDS).healthy

    store.beat(timedelta(0))
    assert judge(look(), BOUNDS).healthy

    store.leave()
    assert Seen(clock.now()) == look()


def test_the_present_is_the_databases_unless_a_clock_says_otherwise(engine):
    before = datetime.now(UTC)
    now = stored.look(engine, "", BOUNDS).now

    assert before - SECOND <= now <= datetime.now(UTC) + SECOND


def test_the_latest_beat_comes_first(look, start, clock):
    stores = [start(pid=pid) for pid in range(3)]
    clock.advance(5)
    stores[1].beat(timedelta(0))
    clock.advance(5)
    stores[2].beat(timedelta(0))

    assert [2, 1, 0] == [beat.pid for beat in look().beats]


def test_a_host_and_a_namespace_see_their_own(look, start, insert):
    start(host="web-1")
    start(host="web-2", pid=2)
    start(host="web-1", pid=3, namespace="other")
    insert("theirs", 75, namespace="other")

    assert [2] == [beat.pid for beat in look(Bounds(SECOND, None, None, "web-2")).beats]
    assert () == look(Bounds(SECOND, None, None, "web-3")).beats
    assert {2, 17} == {beat.pid for beat in look().beats}
    assert () == look().overdue
    assert [3] == [beat.pid for beat in look(namespace="other").beats]
    assert ["theirs"] == [routine.name for routine in look(namespace="other").overdue]


def test_overdue_is_what_somebody_should_have_sent(look, insert, clock):
    insert("late", 60)
    insert("later", 600)
    insert("nearly", 59.9)
    insert("to come", -60)
    insert("off", 600, active=False)
    insert("wrong", 600, error="not a schedule")
    insert("not planned", None)

    assert (
        Overdue("later", clock.now() - 600 * SECOND),
        Overdue("late", clock.now() - 60 * SECOND),
    ) == look().overdue
    assert () == look(Bounds(SECOND, SECOND, None)).overdue


def test_what_is_no_instant_hides_nothing(engine, look, insert):
    text = {"sqlite": "2000", "postgresql": "-infinity"}.get(engine.dialect.name, "0001-01-01")
    insert("late", 75)
    insert("odd", None)
    with engine.begin() as connection:
        odd = "UPDATE routines SET next_run_at = :text WHERE name = 'odd'"
        connection.execute(sa.text(odd), {"text": text})

    assert "late" in [routine.name for routine in look().overdue]


def test_it_takes_two_statements_and_so_many_rows(engine, look, start, insert, monkeypatch):
    monkeypatch.setattr(stored, "COUNTED", 3)
    for number in range(5):
        start(pid=number)
        insert(f"late {number}", 75)
    statements = []
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda conn, cursor, statement, parameters, context, executemany: statements.append(statement),
    )  # fmt: skip
    found = look()

    assert 2 == len([statement for statement in statements if "SELECT" in statement])
    assert (3, 3) == (len(found.beats), len(found.overdue))
    statements.clear()
    look(BEAT_ONLY)
    assert 1 == len([statement for statement in statements if "SELECT" in statement])


def test_tables_that_are_missing_are_told(database):
    engine = make_engine(database)
    engine.connect().close()  # so that there is a file
    engine.dispose()
    answer = stored.ask(stored.engine_to_look(database, None, 5), "", BOUNDS)

    assert not answer.away
    assert "the table routine_schedulers is missing" in answer.words


def test_tables_that_are_not_ours_are_told(engine, database):
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE routine_schedulers RENAME COLUMN seen_at TO seen")
    answer = stored.ask(stored.engine_to_look(database, None, 5), "", BOUNDS)

    assert not answer.away
    assert answer.words.startswith("the tables cannot be read: ")
    assert "seen_at" in answer.words
    assert "\n" not in answer.words


def test_a_database_that_is_not_there_is_away(database):
    url = database.set(database=f"{database.database}_gone")
    answer = stored.ask(stored.engine_to_look(url, None, 5), "", BOUNDS)

    assert answer.away
    assert answer.words.startswith("the database cannot be reached: ")
    assert "\n" not in answer.words


@pytest.mark.parametrize("name", ["routines.db", "odd? name#1%20.db"])
def test_a_file_of_sqlite_is_found_whatever_its_name_and_never_made(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for path in (name, str(tmp_path / name)):
        url = sa.engine.URL.create("sqlite", database=path)
        (tmp_path / name).unlink(missing_ok=True)
        answer = stored.ask(stored.engine_to_look(url, None, 5), "", BOUNDS)

        assert (
            Unanswered("the database cannot be reached: unable to open database file", away=True)
            == answer
        )
        assert [] == list(tmp_path.iterdir())

        engine = make_engine(url)
        migrations.migrate(engine)
        engine.dispose()
        assert isinstance(stored.ask(stored.engine_to_look(url, None, 5), "", BOUNDS), Seen)
