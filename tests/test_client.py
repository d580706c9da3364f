"""`Routines` and `AsyncRoutines`: transactions, what is passed and what comes back."""

from __future__ import annotations

import contextlib
import inspect
import sqlite3
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa
from celery import Celery
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from celery_sqlalchemy_kit import (
    AsyncRoutines,
    ConflictError,
    NotFoundError,
    RoutineError,
    Routines,
    SettingsError,
)
from celery_sqlalchemy_kit.client import OneOff
from celery_sqlalchemy_kit.routines import Declared, State
from celery_sqlalchemy_kit.schedules import parse
from celery_sqlalchemy_kit.urls import asynchronous

HOUR = timedelta(hours=1)


def verbs(cls):
    return {
        name: member
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_have_the_same_verbs_with_the_same_arguments():
    one, other = verbs(Routines), verbs(AsyncRoutines)

    def arguments(verb):
        return [
            (each.name, each.kind, each.default)
            for each in inspect.signature(verb).parameters.values()
        ]

    assert {name: arguments(verb) for name, verb in one.items()} == {
        name: arguments(verb) for name, verb in other.items()
    }
    assert len(one) >= 20
    assert all(map(inspect.iscoroutinefunction, other.values()))


@pytest.fixture
def tables(beat):
    """The tables are there."""
    return beat()


@pytest.fixture
async def async_engine(database, tables):
    url, arguments = asynchronous(database)
    engine = create_async_engine(url, connect_args=arguments)
    yield engine
    await engine.dispose()


def test_a_session_of_the_callers_takes_it_along_or_drops_it(tables, routines):
    tables.engine.dispose()
    with Session(tables.engine, future=True) as session:
        routines.create("a", "t", 60, session=session)
        key = routines.once("t", session=session)
        session.rollback()
        routines.create("b", "t", 60, session=session)
        session.commit()

    assert ["b"] == [routine.name for routine in routines.list()]
    with pytest.raises(NotFoundError):
        routines.get(key)


async def test_an_asynchronous_session_does_so_too(async_engine, app, tables, routines):
    later = AsyncRoutines(app)
    async with AsyncSession(async_engine) as session:
        dropped = await later.once("t", session=session)
        await later.create("a", "t", 60, session=session)
        assert (await later.get(dropped, session=session)).task == "t"
        await session.rollback()
        kept = await later.once("t", ["ä"], in_=5, session=session)
        await later.create("b", "t", 60, kwargs={"x": None}, session=session)
        await session.commit()
    async with async_engine.begin() as connection:
        await later.once_all([OneOff("t", in_=HOUR)] * 3, connection=connection)

    with pytest.raises(NotFoundError):
        await later.get(dropped)
    assert (await later.get(kept)).args == ["ä"]
    assert (await later.get("b")).kwargs == {"x": None}
    assert ["b"] == [routine.name for routine in await later.list()]


async def test_without_one_it_commits_by_itself(app, tables):
    routines = AsyncRoutines(app, who="bob")

    await routines.create("a", "t", 60)
    await routines.disable("a", note="off")
    run = await routines.run_now("a")

    assert (await routines.run(run)).routine_name == "a"
    assert [each.state for each in await routines.history("a")] == ["claimed"]
    assert {change.changed_by for change in await routines.changes("a")} == {"bob"}
    assert await routines.next_runs("a") == []


def test_of_the_wrong_kind_it_is_refused(sqlite, app_on, routines_on):
    class AsyncSomething:
        pass

    with pytest.raises(TypeError, match="AsyncRoutines takes it"):
        routines_on.list(session=AsyncSomething())
    with pytest.raises(TypeError, match="exclude each other"):
        routines_on.list(session=object(), connection=object())


async def test_so_it_is_in_coroutines(app_on):
    with pytest.raises(TypeError, match="Routines takes it"):
        await AsyncRoutines(app_on).list(session=Session())
    with pytest.raises(TypeError, match="exclude each other"):
        await AsyncRoutines(app_on).list(session=object(), connection=object())


@pytest.fixture
def app_on(sqlite):
    app = Celery("tests", set_as_current=False)
    app.conf.scheduler_db_uri = sqlite
    return app


@pytest.fixture
def routines_on(app_on):
    return Routines(app_on)


def test_without_a_database_one_has_to_be_passed(tables):
    routines = Routines(Celery("tests", set_as_current=False))

    with pytest.raises(SettingsError, match="scheduler_db_uri is not set"):
        routines.list()
    tables.engine.dispose()
    with tables.engine.begin() as connection:
        routines.create("a", "t", 60, connection=connection)
        assert ["a"] == [each.name for each in routines.list(connection=connection)]


def test_what_is_unknown_is_refused(routines_on):
    with pytest.raises(TypeError, match="sesion"):
        routines_on.list(sesion=None)


def test_ids_may_be_texts_as_json_has_them(tables, routines):
    key, other = str(routines.once("t")), routines.once("t", in_=60)
    (run,) = tables.run()

    assert run.id == routines.run(str(run.id)).id
    assert routines.cancel(key)
    assert routines.reschedule(str(other), in_=5) < routines.reschedule(other.hex, in_=60)
    for verb in (routines.run, routines.cancel):
        with pytest.raises(NotFoundError, match="'mail': that is no id"):
            verb("mail")


@pytest.mark.parametrize("key", [5, None, "a\0b", "\ud800", b"report"])
def test_what_is_no_name_is_nobodys(tables, routines, key):
    with pytest.raises(NotFoundError, match="neither a name nor an id"):
        routines.get(key)


@pytest.mark.parametrize("limit", [-1, 2**31, 1.5, "3"])
def test_a_limit_is_a_number_that_every_database_takes(tables, routines, limit):
    for verb in (routines.list, routines.history, routines.changes, routines.upcoming):
        with pytest.raises(RoutineError, match=r"limit = .*: allowed are 0 to 2147483647"):
            verb(limit=limit)


def test_a_run_is_told_with_its_times(tables, routines, clock):
    routines.create("a", "t", 60)
    tables.run()
    clock.set(routines.get("a").next_run_at + timedelta(seconds=2))
    (run,) = tables.run()
    tables.finish(run)

    (told,) = routines.history("a")
    assert told == routines.run(run.id)
    assert (told.lateness, told.duration) == (timedelta(seconds=2), timedelta(0))
    assert told.to_json()["lateness"] == 2.0
    assert routines.history("a", states=["failed"]) == []
    assert routines.history(states=["succeeded"], since=clock.now() - HOUR) == [told]
    assert routines.last_runs([told.routine_id]) == {told.routine_id: told}


def test_history_is_newest_first_and_no_longer_than_asked_for(tables, routines, clock):
    routines.create("a", "t", 60)
    tables.run()
    for state in [State.SUCCEEDED] * 4 + [State.FAILED, None]:
        clock.set(routines.get("a").next_run_at)
        for run in tables.run():
            if state:
                tables.finish(run, state)

    instants = [run.scheduled_for for run in routines.history("a", limit=None)]
    assert instants == sorted(instants, reverse=True)
    assert len(instants) == 6
    assert instants[:2] == [run.scheduled_for for run in routines.history("a", limit=2)]
    assert instants[:3] == [run.scheduled_for for run in routines.history(limit=3)]
    newest = routines.last_runs([routines.get("a").id])
    assert [instants[0]] == [run.scheduled_for for run in newest.values()]


def test_history_outlives_its_routine(tables, routines):
    key = routines.create("a", "t", 60).id
    routines.run_now("a")
    routines.delete("a")

    assert len(routines.history("a")) == len(routines.history(key)) == 1


def test_what_is_upcoming_is_told_in_order(tables, routines, clock):
    routines.create("minutely", "t", 60)
    routines.create("hourly", "t", 3600)
    routines.create("off", "t", 60, active=False)
    routines.create("new", "t", 1200)
    clock.advance(50)  # the database's own, by which triggers tell of edits, goes on
    tables.run()
    routines.update("new", schedule=1800)  # which no scheduler has planned yet
    routines.once("t", in_=90, name="once")

    coming = routines.upcoming(HOUR)
    assert [at for at, _ in coming] == sorted(at for at, _ in coming)
    names = Counter(routine.name for _, routine in coming)
    assert names == {"minutely": 60, "hourly": 1, "new": 2, "once": 1}
    assert coming[:5] == routines.upcoming(HOUR, limit=5)
    assert [at for at, each in coming if each.name == "minutely"][:3] == routines.next_runs(
        "minutely", 3
    )
    assert routines.next_runs("off") == []


def test_the_plan_tells_what_differs_and_a_reset_takes_the_codes(database, app, routines, beat):
    app.conf.beat_schedule = {"poll": {"task": "poll", "schedule": 15, "kwargs": {"a": 1}}}
    beat(Declared("poll", "poll", parse(15), kwargs={"a": 1}))
    routines.update("poll", schedule=30, kwargs={"a": 2})

    drift = {(each.field, each.code, each.database) for each in routines.plan().drift}
    assert drift == {
        ("schedule", '{"timedelta": 15}', '{"timedelta": 30}'),
        ("kwargs", '{"a": 1}', '{"a": 2}'),
    }
    assert routines.reset("poll", ["schedule"]).kwargs == {"a": 2}
    assert routines.reset("poll").kwargs == {"a": 1}
    assert routines.plan().drift == ()
    assert ["reset", "reset", "update"] == [each.action for each in routines.changes("poll")]
    with pytest.raises(NotFoundError, match="the code declares no routine 'other'"):
        routines.reset("other")


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_an_old_transaction_is_told_what_is_now(database, tables, routines):
    """MySQL shows a transaction what there was when it first looked, but changes what there is."""
    routines.create("alone", "t", 3600, overlap="skip")
    with Session(sa.create_engine(database, future=True)) as session:
        for table in ("routines", "routine_runs"):
            session.execute(sa.text(f"SELECT count(*) FROM {table}")).all()
        routines.create("taken", "t", 60)
        routines.create("new", "t", 60, overlap="queue")
        routines.run_now("alone")
        routines.run_now("new")
        claimed, begun = routines.once("t"), routines.once("t")
        runs = tables.run()
        tables.finish(next(run for run in runs if run.routine_id == begun))

        with pytest.raises(ConflictError, match="there is a routine 'taken'"):
            routines.create("taken", "t", 60, session=session)
        with pytest.raises(ConflictError, match="overlap = skip"):
            routines.run_now("alone", session=session)
        waiting = routines.run_now("new", session=session)
        with pytest.raises(ConflictError, match=f"{claimed} cannot be put off: its run is sent"):
            routines.reschedule(claimed, in_=60, session=session)
        assert routines.cancel(claimed, session=session)
        assert not routines.cancel(begun, session=session)
        session.commit()

    assert routines.run(waiting).state == "waiting"
    assert [run.state for run in routines.history(claimed)] == ["skipped"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_a_verb_has_read_nobody_changes_before_it_writes(database, tables, routines):
    """SQLite's driver begins a transaction with the first statement that writes."""
    key = routines.once("t", in_=60)
    engine = sa.create_engine(database, future=True)
    refused = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def somebody_writes(connection, cursor, statement, *_):
        if statement.startswith("SELECT"):
            with (
                contextlib.closing(sqlite3.connect(database.database, timeout=0)) as other,
                pytest.raises(sqlite3.OperationalError, match="locked"),
            ):
                other.execute("BEGIN IMMEDIATE")
            refused.append(statement)

    with Session(engine) as session:
        assert routines.cancel(key, session=session)
        session.commit()
    assert refused


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_looking_waits_for_nobody_who_writes(tables, app, routines):
    key = routines.create("report", "t", 60).id
    run = routines.run_now("report")
    looking = {
        "get": ("report",),
        "names": ("rep*",),
        "history": ("report",),
        "run": (run,),
        "last_runs": ([key],),
        "next_runs": ("report",),
        **dict.fromkeys(("list", "changes", "plan", "upcoming"), ()),
    }
    own = AsyncRoutines(app)
    with tables.engine.begin():  # which on SQLite keeps every other writer out
        for name, args in looking.items():
            assert getattr(routines, name)(*args) is not None
            assert await getattr(own, name)(*args) is not None


def test_an_error_of_the_database_leaves_nothing_half_done(tables, routines):
    tables.engine.dispose()
    with tables.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE routine_changes"))

    with pytest.raises(sa.exc.DBAPIError):
        routines.create("a", "t", 60)
    assert routines.list() == []
