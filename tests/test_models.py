"""`Routine` and `RoutineRun` of the ORM, beside a scheduler on the same tables."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload

from celery_sqlalchemy_kit import models, tables
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.columns import JsonText, raw
from celery_sqlalchemy_kit.models import Routine, RoutineRun
from celery_sqlalchemy_kit.testing import ManualBeat
from celery_sqlalchemy_kit.urls import asynchronous

EVERY_MINUTE = {"timedelta": 60}


@pytest.fixture
def started(beat):
    return beat(scheduler_removed_routines="keep")


@pytest.fixture
def session(started, database):
    """On an engine of its owner's, as SQLAlchemy makes it."""
    engine = sa.create_engine(database, future=True)
    with Session(engine, future=True) as session:
        yield session
    engine.dispose()


@pytest.fixture
def routine(session):
    routine = Routine(name="a", task="t", schedule=EVERY_MINUTE, args=[1], kwargs={"x": [None]})
    session.add(routine)
    session.commit()
    return routine


def test_a_routine_of_the_orm_runs_and_its_runs_are_seen(started, session, routine):
    first, second = started.advance(150)
    started.finish(first)

    assert [second.id, first.id] == [run.id for run in routine.runs]
    newer, older = routine.runs
    assert ("sent", "succeeded") == (newer.state, older.state)
    assert (routine.id, "a", "t", [1], {"x": [None]}) == (
        older.routine_id,
        older.routine_name,
        older.task,
        older.args,
        older.kwargs,
    )
    assert older.scheduled_for == routine.last_run_at - timedelta(seconds=60)
    assert older.scheduled_for.tzinfo is UTC
    assert 2 == routine.total_run_count


def test_python_sees_values_and_the_kit_sees_text(session, routine):
    assert isinstance(routine.id, UUID)
    assert (EVERY_MINUTE, [1], {"x": [None]}, None) == (
        routine.schedule,
        routine.args,
        routine.kwargs,
        routine.options,
    )
    assert UTC is routine.created_at.tzinfo
    assert (True, "", "latest", 0.0) == (
        routine.active,
        routine.namespace,
        routine.catch_up,
        routine.jitter,
    )

    c = tables.routines.c
    assert isinstance(c.schedule.type, JsonText)
    stored = sa.select(raw(c.id), raw(c.schedule), c.options.is_(None))
    id_, schedule, has_no_options = session.execute(stored).one()
    assert (routine.id, '{"timedelta": 60}', True) == (UUID(id_), schedule, bool(has_no_options))


def test_an_edit_by_the_orm_is_an_edit(started, session, routine):
    started.run()
    assert routine.next_run_at is not None

    routine.schedule = {"timedelta": 30}
    routine.options = {"queue": "slow"}
    session.commit()
    assert routine.next_run_at is None
    session.commit()

    (sent,) = started.advance(55)
    assert {"queue": "slow"} == sent.options
    assert timedelta(seconds=30) == routine.next_run_at - sent.scheduled_for


def test_statements_take_and_give_values(session, routine):
    session.execute(
        sa.update(Routine).values(kwargs={"n": 1}, ends_at=datetime.max.replace(tzinfo=UTC))
    )
    session.commit()

    found = sa.select(Routine.kwargs, Routine.ends_at).where(
        Routine.kwargs["n"].as_integer() == 1,
        Routine.id == routine.id,
        Routine.ends_at > routine.created_at,
    )
    assert [({"n": 1}, datetime.max.replace(tzinfo=UTC))] == session.execute(found).all()

    session.execute(sa.update(Routine).values(kwargs=None))
    assert [routine] == session.execute(
        sa.select(Routine).where(Routine.kwargs.is_(None))
    ).scalars().all()


def test_what_cannot_be_decoded_is_text_and_fails_nothing_beside_it(sqlite, clock):
    beat = ManualBeat(sqlite, clock)
    beat.start()
    with Session(beat.engine, future=True) as session:
        session.add_all(Routine(name=name, task="t", schedule=EVERY_MINUTE) for name in "ab")
        session.flush()
        bad = "UPDATE routines SET id = 'one', kwargs = '{', last_run_at = 'once' WHERE name = 'a'"
        session.execute(sa.text(bad))
        session.expire_all()

        a, b = session.execute(sa.select(Routine).order_by(Routine.name)).scalars()

        assert ("one", "{", "once") == (a.id, a.kwargs, a.last_run_at)
        assert (EVERY_MINUTE, None, None) == (b.schedule, b.kwargs, b.last_run_at)
        a.kwargs = {}
        session.commit()
        assert {} == a.kwargs


def test_to_be_shown_takes_no_statement(session, routine):
    run = RoutineRun(
        id=uuid4(),
        routine_id=routine.id,
        routine_name="a",
        task="t",
        scheduled_for=datetime(2026, 5, 5, 9, tzinfo=UTC),
        cause="manual",
        state="sent",
    )
    assert "<RoutineRun routine_name=a scheduled_for=2026-05-05 09:00:00+00:00 state=sent>" == repr(
        run
    )
    assert "<Routine>" == repr(Routine())

    id_ = routine.id
    session.expire(routine)
    session.close()
    session.bind.dispose()
    assert f"<Routine id={id_}>" == repr(routine)

    found = session.get(Routine, id_)
    assert "<Routine name=a active=True>" == repr(found)
    found.error = "wrong"
    assert "<Routine name=a active=True error=wrong>" == repr(found)


def test_runs_are_read_only(session, routine):
    routine.runs.append(RoutineRun(routine_name="a", task="t", cause="manual", state="sent"))
    session.commit()

    assert [] == session.execute(sa.select(RoutineRun)).scalars().all()


def test_an_asynchronous_session_sees_the_same(started, session, routine, database, clock):
    started.advance(90)
    url, arguments = asynchronous(database)

    async def work():
        engine = create_async_engine(url, connect_args=arguments)
        async with AsyncSession(engine, expire_on_commit=False) as opened:
            one = sa.select(Routine).options(selectinload(Routine.runs))
            found = (await opened.execute(one)).scalars().one()
            found.kwargs = {"read": found.schedule}
            opened.add(Routine(name="b", task="t", schedule=EVERY_MINUTE, starts_at=clock.now()))
            await opened.commit()
        await engine.dispose()
        return found.runs

    (run,) = asyncio.run(work())
    assert ({"x": [None]}, UTC) == (run.kwargs, run.scheduled_for.tzinfo)
    session.rollback()
    a, b = session.execute(sa.select(Routine).order_by(Routine.name)).scalars()
    assert ({"read": EVERY_MINUTE}, clock.now()) == (a.kwargs, b.starts_at)


def test_the_metadata_of_the_models_is_not_the_kits():
    assert {"routines", "routine_runs"} == set(models.metadata.tables)
    assert tables.metadata.tables["routines"] is not Routine.__table__
