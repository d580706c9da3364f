"""Engines: the schema of PostgreSQL that they look into."""

from __future__ import annotations

from uuid import uuid4

import pytest
import sqlalchemy as sa
from celery import Celery
from servers import wait_for
from sqlalchemy.orm import Session, registry

from celery_sqlalchemy_kit import After, migrations, sessions
from celery_sqlalchemy_kit.book import Book
from celery_sqlalchemy_kit.cli import health
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.errors import SchemaError
from celery_sqlalchemy_kit.locks import alone_at_once
from celery_sqlalchemy_kit.migrations import versions
from celery_sqlalchemy_kit.mixins import RoutineMixin
from celery_sqlalchemy_kit.models import Routine
from celery_sqlalchemy_kit.routines import Declared
from celery_sqlalchemy_kit.running import Running
from celery_sqlalchemy_kit.schedules import parse
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import metadata
from celery_sqlalchemy_kit.testing import ManualBeat
from celery_sqlalchemy_kit.wakeups import Notifications

NAMES = {table.name for table in metadata.sorted_tables}
#: One that PostgreSQL would read otherwise if it were not quoted.
SCHEMA = "My-jobs"


@pytest.fixture
def in_schema(postgresql):
    """Engines for a schema: ``in_schema(name)``."""
    made = []

    def make(schema, url=postgresql):
        made.append(make_engine(url, schema=schema))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def people(postgresql):
    """Those who look into ``public`` only."""
    engine = sa.create_engine(postgresql, future=True)
    yield engine
    engine.dispose()


def sql(engine, statement):
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return result.all() if result.returns_rows else result.rowcount


def path(engine):
    return sql(engine, "SHOW search_path")[0][0]


def test_the_tables_are_made_in_the_schema_and_nowhere_else(in_schema, people):
    engine = in_schema(SCHEMA)

    assert not migrations.is_current(engine)
    assert "created the tables" == migrations.migrate(engine)
    assert migrations.migrate(engine) is None

    migrations.verify(engine)
    assert NAMES == set(sa.inspect(people).get_table_names(SCHEMA))
    assert [] == sa.inspect(people).get_table_names("public")


def test_a_table_of_another_schema_is_not_taken_for_the_one_that_is_missing(in_schema, people):
    sql(people, "CREATE TABLE routines (steps integer)")

    with pytest.raises(SchemaError, match=r"the table .* is missing"):
        migrations.verify(in_schema(SCHEMA))
    assert "created the tables" == migrations.migrate(in_schema(SCHEMA))


def test_a_schema_may_be_made_by_somebody_else(postgresql, in_schema, people):
    user = f"u{uuid4().hex[:20]}"
    sql(people, f"CREATE USER {user}")
    engine = in_schema(SCHEMA, postgresql.set(username=user))
    try:
        with pytest.raises(
            SchemaError, match=f"no schema {SCHEMA}, and none can be made: permission"
        ):
            migrations.migrate(engine)

        sql(people, f'CREATE SCHEMA "{SCHEMA}" AUTHORIZATION {user}')
        assert "created the tables" == migrations.migrate(engine)
    finally:
        engine.dispose()
        sql(people, f"DROP OWNED BY {user}")
        sql(people, f"DROP USER {user}")


def test_an_edit_is_seen_from_wherever_it_is_made(postgresql, in_schema, people, clock):
    drain = ManualBeat(
        postgresql,
        clock,
        [Declared("a", "a", After(5)), Declared("b", "b", parse(60))],
        scheduler_db_schema=SCHEMA,
    )
    drain.start()
    drain.run()
    listener = Notifications(in_schema(SCHEMA))
    listener.listen()

    sql(
        people,
        f"""UPDATE "{SCHEMA}".routines SET schedule = '{{"timedelta": 5}}' WHERE name = 'b'""",
    )
    wait_for(lambda: hears(listener), what="a notification")
    assert [(None,)] == sql(drain.engine, "SELECT next_run_at FROM routines WHERE name = 'b'")

    waits = "SELECT waiting_for IS NULL FROM routines WHERE name = 'a'"
    assert [(False,)] == sql(drain.engine, waits)
    sql(people, f"""UPDATE "{SCHEMA}".routine_runs SET state = 'lost'""")
    assert [(True,)] == sql(drain.engine, waits)
    drain.stop()


def hears(listener):
    driver = listener._pooled.driver_connection
    driver.poll()
    return bool(driver.notifies)


def test_two_schemas_of_a_database_know_nothing_of_each_other(postgresql, clock):
    one, two = (
        ManualBeat(
            postgresql, clock, [Declared("poll", task, parse(60))], scheduler_db_schema=schema
        )
        for schema, task in (("one", "a"), ("two", "b"))
    )
    one.start()
    two.start()

    assert ["a"] == [run.task for run in one.advance(90)]
    assert ["b"] == [run.task for run in two.run()]
    two.declared.clear()
    two.declared.append(Declared("other", "c", parse(60)))
    two.loop.begin()

    for beat, names in ((one, ["poll"]), (two, ["other"])):
        assert names == [name for (name,) in sql(beat.engine, "SELECT name FROM routines")]
        assert [(1,)] == sql(beat.engine, "SELECT count(*) FROM routine_schedulers")
    with alone_at_once(one.engine, "prune") as here, alone_at_once(two.engine, "prune") as there:
        assert here is not None
        assert there is not None
    one.kill()
    two.kill()


def test_only_one_of_those_who_make_a_schema_at_once_does_so(in_schema):
    with alone_at_once(in_schema(SCHEMA), "routines schema") as first:
        versions.create_schema(first, SCHEMA)
        with alone_at_once(in_schema(SCHEMA), "routines schema") as second:
            assert second is None


def test_every_connection_of_the_kit_looks_into_the_schema_and_none_of_the_tasks(
    postgresql, clock, monkeypatch
):
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.scheduler_db_uri = postgresql
    app.conf.scheduler_db_schema = SCHEMA
    settings = Settings.load(app.conf, {}, scheduler=True)
    running = Running(app, settings, clock, lambda *_: None, lambda *_: None)

    own = [
        running.storage.store.engine,
        running.storage.farewell_store.engine,
        running.storage._migrating_engine,
        running.storage.wakeups._engine,
        Book(app).ask(lambda ledger: ledger._engine),
        health._database(app)[1],
        ManualBeat(postgresql, clock, scheduler_db_schema=SCHEMA).engine,
    ]

    assert {f'"{SCHEMA}"'} == {path(engine) for engine in own}
    with sessions.session(app) as session:
        assert '"$user", public' == session.execute(sa.text("SHOW search_path")).scalar()
    sessions.close()
    app.close()


def test_models_find_the_schema_by_translation_or_by_their_own(postgresql, people, clock):
    beat = ManualBeat(
        postgresql, clock, [Declared("a", "a", parse(60))], scheduler_db_schema=SCHEMA
    )
    beat.start()
    (run,) = beat.advance(90)
    beat.stop()

    class Own(RoutineMixin, registry(metadata=sa.MetaData(schema=SCHEMA)).generate_base()):
        pass

    translated = people.execution_options(schema_translate_map={None: SCHEMA})
    with Session(translated, future=True) as session:
        (routine,) = session.execute(sa.select(Routine)).scalars()
        assert [run.id] == [found.id for found in routine.runs]
        (own,) = session.execute(sa.select(Own)).scalars()
        assert routine.id == own.id


def test_without_a_schema_the_server_decides(postgresql):
    engine = make_engine(postgresql)
    sql(engine, f"ALTER DATABASE {postgresql.database} SET search_path = jobs")
    sql(engine, "CREATE SCHEMA jobs")
    engine.dispose()

    migrations.migrate(engine)

    assert NAMES == set(sa.inspect(engine).get_table_names("jobs"))
    assert "jobs" == path(engine)
    engine.dispose()
