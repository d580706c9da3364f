"""The tables: made anew, upgraded from the earlier package's nine columns, or left alone."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from definitions import Environment, apply, made
from sqlalchemy.orm import registry

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.errors import SchemaError
from celery_sqlalchemy_kit.migrations import earlier, hashes
from celery_sqlalchemy_kit.mixins import RoutineMixin, RoutineRunMixin
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import metadata, routines
from celery_sqlalchemy_kit.testing import ManualBeat
from celery_sqlalchemy_kit.wakeups import Notifications

#: The earlier package's table, as SQLAlchemy made it on each database.
EARLIER = {
    "postgresql": """CREATE TABLE routines (
        id UUID NOT NULL, name VARCHAR(50) NOT NULL, task VARCHAR(50) NOT NULL,
        schedule JSON NOT NULL, last_run_at TIMESTAMP WITHOUT TIME ZONE, total_run_count INTEGER,
        active BOOLEAN NOT NULL, kwargs JSON, options JSON, PRIMARY KEY (id))""",
    "mysql": """CREATE TABLE routines (
        id CHAR(32) NOT NULL, name VARCHAR(50) NOT NULL, task VARCHAR(50) NOT NULL,
        schedule JSON NOT NULL, last_run_at DATETIME, total_run_count INTEGER,
        active BOOL NOT NULL, kwargs JSON, options JSON, PRIMARY KEY (id))""",
    "sqlite": """CREATE TABLE routines (
        id CHAR(32) NOT NULL, name VARCHAR(50) NOT NULL, task VARCHAR(50) NOT NULL,
        schedule JSON NOT NULL, last_run_at DATETIME, total_run_count INTEGER,
        active BOOLEAN NOT NULL, kwargs JSON, options JSON, PRIMARY KEY (id))""",
}
INDEXES = (
    "CREATE INDEX ix_routines_name ON routines (name)",
    "CREATE INDEX ix_routines_last_run_at ON routines (last_run_at)",
)
ROWS = [
    (UUID(int=1), "report", "report", '{"minute": 0, "hour": 9}', 12, True, '{"a": 1}', None),
    (UUID(int=2), "poll", "poll", '{"timedelta": 15}', None, False, "{}", '{"queue": "slow"}'),
    (UUID(int=3), "Poll", "poll", '{"timedelta": 15}', 0, True, None, "{}"),
]
RAN = datetime(2025, 7, 1, 12, 30, 15)


@pytest.fixture
def engine(database):
    engine = make_engine(database)
    yield engine
    engine.dispose()


def fill(engine, rows=ROWS, create=None):
    dialect = engine.dialect.name
    with engine.begin() as connection:
        connection.exec_driver_sql(create or EARLIER[dialect])
        for statement in INDEXES if create is None else ():
            connection.exec_driver_sql(statement)
        for id_, name, task, schedule, count, active, kwargs, options in rows:
            connection.execute(
                sa.text(
                    "INSERT INTO routines (id, name, task, schedule, last_run_at, total_run_count,"
                    " active, kwargs, options) VALUES (:id, :name, :task, :schedule, :ran, :count,"
                    " :active, :kwargs, :options)"
                ),
                {
                    "id": str(id_) if create or dialect == "postgresql" else id_.hex,
                    "name": name,
                    "task": task,
                    "schedule": schedule,
                    "ran": RAN if dialect != "sqlite" else str(RAN),
                    "count": count,
                    "active": active,
                    "kwargs": kwargs,
                    "options": options,
                },
            )


def table(engine):
    with engine.connect().execution_options(reading=True) as connection:
        rows = connection.execute(sa.select(routines).order_by(routines.c.id))
        return [dict(row) for row in rows.mappings()]


def columns(engine):
    found = sa.inspect(engine).get_columns("routines")
    return {column["name"]: str(column["type"]) for column in found}


def test_a_start_on_an_empty_database_creates_every_table_once(engine):
    assert "created the tables" == migrations.migrate(engine)
    assert migrations.migrate(engine) is None

    migrations.verify(engine)
    assert {table.name for table in metadata.sorted_tables} <= set(
        sa.inspect(engine).get_table_names()
    )


def test_schedulers_that_start_at_once_create_the_tables_once(database):
    done, faults = [], []

    def start():
        engine = make_engine(database)
        try:
            done.append(migrations.migrate(engine))
        except Exception as fault:  # noqa: BLE001  told by the assertion below
            faults.append(fault)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == faults
    assert ["created the tables"] == [what for what in done if what]


def test_the_earlier_packages_table_is_upgraded_and_keeps_every_row_and_value(engine):
    fill(engine)

    assert "upgraded the table routines" == migrations.migrate(engine)

    rows = table(engine)
    assert [id_ for id_, *_ in ROWS] == [row["id"] for row in rows]
    assert [name for _, name, *_ in ROWS] == [row["name"] for row in rows]
    assert [12, None, 0] == [row["total_run_count"] for row in rows]
    assert [True, False, True] == [row["active"] for row in rows]
    assert {RAN.replace(tzinfo=UTC)} == {row["last_run_at"] for row in rows}
    assert {"code"} == {row["origin"] for row in rows}
    assert columns(engine).keys() == routines.c.keys() or set(columns(engine)) == set(
        routines.c.keys()
    )
    assert migrations.migrate(engine) is None


def test_an_upgraded_table_has_the_types_and_indexes_of_a_new_one(database, engine):
    fill(engine)
    migrations.migrate(engine)
    upgraded = columns(engine)
    indexes = {index["name"] for index in sa.inspect(engine).get_indexes("routines")}
    with engine.begin() as connection:
        metadata.drop_all(connection)

    migrations.migrate(engine)

    assert columns(engine) == upgraded
    assert {index["name"] for index in sa.inspect(engine).get_indexes("routines")} == indexes


def test_upgraded_routines_run_and_keep_the_phase_of_their_last_run(database, engine):
    fill(engine)
    migrations.migrate(engine)
    clock = SettableClock(datetime.now(UTC))
    beat = ManualBeat(database, clock, scheduler_removed_routines="keep")
    beat.start()
    beat.run()

    sent = beat.advance(31)

    assert {"Poll"} == {run.routine_name for run in sent} - {"report"}
    for run in sent:
        since = run.scheduled_for - RAN.replace(tzinfo=UTC)
        assert timedelta(0) == since % timedelta(seconds=15)
    beat.kill()


def test_an_upgrade_that_was_cut_short_marks_the_earlier_packages_rows_and_no_others(mariadb):
    engine = make_engine(mariadb)
    fill(engine)
    with engine.begin() as connection:
        there = {
            column["name"]: column for column in sa.inspect(connection).get_columns("routines")
        }
        earlier._mysql(connection, there)

    assert "completed the tables" == migrations.migrate(engine)

    with engine.begin() as connection:
        connection.execute(
            routines.insert().values(
                id=UUID(int=4), name="new", task="new", schedule='{"timedelta": 60}'
            )
        )
    assert ["code", "code", "code", None] == [row["origin"] for row in table(engine)]
    assert migrations.migrate(engine) is None
    engine.dispose()


def test_tables_of_somebodys_own_metadata_are_completed_and_their_rows_stay_as_they_are(engine):
    routines.create(engine)
    with engine.begin() as connection:
        connection.execute(
            routines.insert().values(name="new", task="new", schedule='{"timedelta": 60}')
        )

    assert "completed the tables" == migrations.migrate(engine)

    migrations.verify(engine)
    assert [None] == [row["origin"] for row in table(engine)]
    change(engine, next_run_at=datetime(2026, 5, 5, tzinfo=UTC))
    change(engine, schedule='{"timedelta": 30}')
    assert [None] == [row["next_run_at"] for row in table(engine)]
    assert migrations.migrate(engine) is None


def test_a_bare_insert_works_after_an_upgrade(engine):
    fill(engine)
    migrations.migrate(engine)

    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO routines (name, task, schedule) VALUES ('new', 'new', :schedule)"),
            {"schedule": '{"timedelta": 60}'},
        )

    new = next(row for row in table(engine) if row["name"] == "new")
    assert (True, 0, None) == (new["active"], new["total_run_count"], new["origin"])


def test_duplicate_names_are_listed_and_nothing_is_changed(engine):
    fill(engine, [*ROWS, (uuid4(), "poll", "poll", '{"timedelta": 1}', 1, True, None, None)])
    before = columns(engine)

    with pytest.raises(SchemaError, match=r"'poll' \(2 rows\)"):
        migrations.migrate(engine)

    assert before == columns(engine)
    assert "routine_runs" not in sa.inspect(engine).get_table_names()


def test_a_table_of_that_name_which_is_not_ours_is_refused_and_left_alone(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE routines (id INTEGER, steps INTEGER)")

    with pytest.raises(SchemaError, match="belongs to something else"):
        migrations.migrate(engine)

    assert {"id", "steps"} == set(columns(engine))


@pytest.mark.filterwarnings("ignore:Did not recognize type 'uuid'")  # SQLAlchemy 1.4
def test_ids_of_mariadbs_own_uuid_type_are_kept(mariadb):
    engine = make_engine(mariadb)
    fill(engine, create=EARLIER["mysql"].replace("CHAR(32)", "UUID"))

    migrations.migrate(engine)

    assert [id_ for id_, *_ in ROWS] == [row["id"] for row in table(engine)]
    engine.dispose()


def test_tables_that_are_missing_are_named_where_somebody_else_makes_them(engine):
    with pytest.raises(SchemaError, match="create_table"):
        migrations.verify(engine)


def test_a_newer_version_of_the_tables_is_refused(engine):
    migrations.migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE routine_schema SET version = 999"))

    with pytest.raises(SchemaError, match="999"):
        migrations.migrate(engine)


def test_what_others_have_made_on_the_table_outlives_the_upgrade_on_sqlite(sqlite):
    engine = make_engine(sqlite)
    fill(engine)
    with engine.begin() as connection:
        for statement in (
            "ALTER TABLE routines ADD COLUMN team TEXT",
            "UPDATE routines SET team = 'blue'",
            "CREATE INDEX theirs ON routines (team)",
            "CREATE VIEW blue AS SELECT name, team FROM routines WHERE team = 'blue'",
            "CREATE TABLE notes (routine CHAR(32) REFERENCES routines (id), note TEXT)",
        ):
            connection.exec_driver_sql(statement)

    migrations.migrate(engine)

    with engine.begin() as connection:
        assert 3 == connection.exec_driver_sql("SELECT count(*) FROM blue").scalar()
        connection.exec_driver_sql("INSERT INTO notes VALUES ('1', 'still there')")
    assert "theirs" in {index["name"] for index in sa.inspect(engine).get_indexes("routines")}
    engine.dispose()


def test_a_view_on_narrow_columns_is_named_and_nothing_is_changed_on_postgresql(postgresql):
    engine = make_engine(postgresql)
    fill(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW theirs AS SELECT name FROM routines")
    before = columns(engine)

    with pytest.raises(SchemaError, match="view"):
        migrations.migrate(engine)

    assert before == columns(engine)
    engine.dispose()


@pytest.fixture
def listener(postgresql):
    listening = Notifications(make_engine(postgresql))
    yield listening
    listening._engine.dispose()


def hears(listener):
    """Whether a notification has come already: it is there before the COMMIT is answered."""
    driver = listener._pooled.driver_connection
    driver.poll()
    heard = bool(driver.notifies)
    driver.notifies.clear()
    return heard


def write_faulty(engine):
    """A planned row that has an error, with all that a trigger might touch."""
    planned = datetime(2026, 5, 5, 9, tzinfo=UTC)
    with engine.begin() as connection:
        connection.execute(
            routines.insert().values(name="a", task="a", schedule='{"timedelta": 60}')
        )
        connection.execute(routines.update().values(next_run_at=planned, occurrence_at=planned))
        connection.execute(routines.update().values(error="wrong", waiting_for=uuid4()))
        connection.execute(routines.update().values(paused_at=planned, ended_at=planned))


def change(engine, **values):
    with engine.begin() as connection:
        connection.execute(routines.update().values(values))


def test_an_alert_is_no_edit(engine, request):
    """Schedulers write it: it clears nothing, moves nothing and wakes nobody."""
    migrations.migrate(engine)
    write_faulty(engine)
    (before,) = table(engine)
    assert "wrong" == before["error"]
    listener = None
    if engine.dialect.name == "postgresql":
        listener = request.getfixturevalue("listener")
        listener.listen()
    for alert in ("failed", "overdue", None):
        change(engine, alert=alert)

        assert [before | {"alert": alert}] == table(engine)
    if listener is not None:
        assert not hears(listener)

    change(engine, description="corrected")
    assert [None] == [row["error"] for row in table(engine)]
    if listener is not None:
        assert hears(listener)


def test_an_alert_is_no_edit_where_there_are_no_triggers(mariadb):
    engine = make_engine(mariadb)
    with engine.begin() as connection:
        metadata.create_all(connection)
        hashes.create(connection)
    write_faulty(engine)
    with engine.begin() as connection:
        hashes.adopt(connection, "")
    change(engine, error="wrong")
    (before,) = table(engine)

    def edited():
        with engine.connect() as connection:
            return connection.exec_driver_sql("SELECT edited FROM routines").scalar_one()

    change(engine, alert="failed")
    assert 0 == edited()
    with engine.begin() as connection:
        hashes.adopt(connection, "")
    assert [before | {"alert": "failed"}] == table(engine)

    change(engine, description="corrected")
    assert 1 == edited()
    engine.dispose()


# -- by Alembic and by text -------------------------------------------------------------------

MIGRATION = """
from alembic import op

from celery_sqlalchemy_kit import migrations

revision, down_revision = "1", None


def upgrade():
    migrations.upgrade(op, version=1)


def downgrade():
    migrations.downgrade(op, version=0)
"""
HOOKS = {
    "include_object": migrations.include_object,
    "render_item": migrations.render_item,
    "compare_type": True,
    # Alembic of SQLAlchemy 1.4's time takes any function for a string.
    "compare_server_default": not sa.__version__.startswith("1."),
}


def operations(connection, **options):
    return Operations(MigrationContext.configure(connection, opts=options))


def test_what_alembic_and_the_script_make_is_what_migrate_makes(engine, tmp_path):
    alembic = Environment(tmp_path, engine, MIGRATION)
    ways = {}

    alembic.upgrade()
    ways["alembic upgrade head"] = made(engine)
    alembic.downgrade()
    assert set() == made(engine)

    apply(engine, alembic.upgrade_script())
    ways["alembic upgrade head --sql"] = made(engine)
    apply(engine, alembic.downgrade_script())
    assert set() == made(engine)

    apply(engine, migrations.sql(engine.url))
    ways["sql()"] = made(engine)
    with engine.begin() as connection:
        migrations.downgrade(operations(connection), version=0)
    assert set() == made(engine)

    migrations.migrate(engine)
    expected = made(engine)
    assert expected
    for way, found in ways.items():
        assert (way, set()) == (way, expected ^ found)


@pytest.mark.parametrize("name", ["mysql", "mariadb"])
def test_mysql_and_mariadb_have_one_script(name):
    assert migrations.sql("mysql+pymysql://user:hunter2@host/d") == migrations.sql(name)


def test_an_alembic_upgrade_keeps_the_earlier_packages_rows_and_is_done_once(engine, tmp_path):
    fill(engine)

    Environment(tmp_path, engine, MIGRATION).upgrade()

    assert ["code"] * 3 == [row["origin"] for row in table(engine)]
    assert migrations.migrate(engine) is None
    before = made(engine)
    with engine.begin() as connection:
        migrations.upgrade(operations(connection))
    assert before == made(engine)


def test_an_upgrade_on_sqlite_does_not_delete_what_refers_to_the_table(sqlite):
    engine = make_engine(sqlite)
    fill(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        with pytest.raises(SchemaError, match="foreign_keys"):
            migrations.upgrade(operations(connection))
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("BEGIN")
    assert 9 == len(columns(engine))
    engine.dispose()


def test_mariadb_may_go_by_its_own_name(mariadb):
    engine = sa.create_engine(mariadb.set(drivername="mariadb+pymysql"), future=True)
    with engine.begin() as connection:
        migrations.upgrade(operations(connection), version=1)
    engine.dispose()

    kits = make_engine(mariadb)
    assert migrations.migrate(kits) is None
    found = made(kits)
    with kits.begin() as connection:
        metadata.drop_all(connection)
    migrations.migrate(kits)
    assert set() == found ^ made(kits)
    kits.dispose()


def test_a_schema_is_made_and_what_comes_after_is_not_in_it(postgresql, tmp_path):
    engine = make_engine(postgresql)
    migration = MIGRATION.replace("version=", "schema='My-jobs', version=")
    alembic = Environment(tmp_path, engine, migration)
    ways = {}

    def tables(schema):
        return sa.inspect(engine).get_table_names(schema)

    alembic.upgrade()
    ways["online"] = made(engine, "My-jobs")
    assert ["alembic_version"] == tables("public")
    alembic.downgrade()
    assert [] == tables("My-jobs")

    apply(engine, alembic.upgrade_script())
    ways["offline"] = made(engine, "My-jobs")
    assert ["alembic_version"] == tables("public")
    apply(engine, alembic.downgrade_script())
    assert [] == tables("My-jobs")

    apply(engine, migrations.sql("postgresql", schema="My-jobs"))
    ways["sql()"] = made(engine, "My-jobs")
    with engine.begin() as connection:
        migrations.downgrade(operations(connection), version=0, schema="My-jobs")
        assert '"$user", public' == connection.exec_driver_sql("SHOW search_path").scalar()
    assert [] == tables("My-jobs")

    in_schema = make_engine(postgresql, schema="My-jobs")
    migrations.migrate(in_schema)
    expected = made(engine, "My-jobs")
    assert expected
    for way, found in ways.items():
        assert (way, set()) == (way, expected ^ found)
    engine.dispose()
    in_schema.dispose()


def own_base():
    base = registry().generate_base()

    class Routine(RoutineMixin, base):
        team = sa.Column(sa.String(40))

    class RoutineRun(RoutineRunMixin, base):
        pass

    return base


def proposed(engine, target, **options):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={**HOOKS, **options})
        return compare_metadata(context, target)


def test_autogenerate_leaves_the_tables_alone(engine):
    migrations.migrate(engine)
    theirs = sa.MetaData()
    sa.Table("theirs", theirs, sa.Column("id", sa.Integer, primary_key=True))

    assert ["add_table"] == [change[0] for change in proposed(engine, theirs)]
    assert {"add_table", "remove_table", "remove_index"} == {
        change[0] for change in proposed(engine, theirs, include_object=None)
    }

    def mine(*args):
        return migrations.include_object(*args) and args[1] != "theirs"

    assert [] == proposed(engine, theirs, include_object=mine)
    assert [] == proposed(engine, sa.MetaData())


def test_autogenerate_finds_in_a_base_with_the_mixins_what_there_is(engine):
    migrations.migrate(engine)

    options = {}
    if engine.dialect.name == "mysql":
        # Alembic reads no default there that is worked out, and takes 1 for another than true.
        options["compare_server_default"] = False
    (added,) = proposed(engine, own_base().metadata, **options)

    assert ("add_column", "team") == (added[0], added[3].name)


def test_autogenerate_leaves_the_triggers_stand_in_alone(mariadb):
    engine = make_engine(mariadb)
    migrations.migrate(engine)
    with engine.begin() as connection:
        hashes.create(connection)

    found = proposed(engine, own_base().metadata, compare_server_default=False)

    assert ["add_column"] == [change[0] for change in found]
    engine.dispose()


def test_a_base_with_the_mixins_is_made_by_migrations_that_alembic_writes(engine, tmp_path):
    ours = own_base().metadata
    alembic = Environment(tmp_path, engine, target_metadata=ours, **HOOKS)
    written = alembic.autogenerate()
    own = "without=('routines', 'routine_runs'))"
    begin = "# ### commands auto generated by Alembic - please adjust! ###\n"
    up, down = written.read_text().split("def downgrade()")
    up = up.replace("# ### end", f"migrations.upgrade(op, version=1, {own}\n    # ### end")
    down = down.replace(begin, f"{begin}    migrations.downgrade(op, version=0, {own}\n")
    imported = "from celery_sqlalchemy_kit import migrations\n"
    written.write_text(f"{imported}{up}def downgrade(){down}")

    alembic.upgrade()
    online = made(engine)
    assert [] == proposed(engine, ours, compare_server_default=False)
    assert migrations.migrate(engine) is None
    alembic.downgrade()
    assert set() == made(engine)

    apply(engine, alembic.upgrade_script())
    assert set() == online ^ made(engine)
    apply(engine, alembic.downgrade_script())
    assert set() == made(engine)

    ours.create_all(engine)
    migrations.migrate(engine)
    expected = made(engine)
    if engine.dialect.name == "sqlite":  # which keeps the very text
        online, expected = ({name for name, *_ in found} for found in (online, expected))
    assert set() == expected ^ online


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"version": 2}, "version = 2: allowed is 1"),
        ({"version": 0}, "version = 0: allowed is 1"),
        ({"schema": "jobs"}, "schema = 'jobs': allowed with PostgreSQL only"),
        ({"schema": "pg_jobs"}, "schema = 'pg_jobs': allowed is a name"),
        ({"without": ["teams"]}, "without = .'teams'.: allowed are names out of .*routines"),
        ({"without": "routines"}, "without = 'routines': allowed are names"),
    ],
)
def test_what_alembic_may_not_ask_for(arguments, says):
    context = MigrationContext.configure(dialect_name="sqlite", opts={"as_sql": True})

    with pytest.raises(SchemaError, match=says):
        migrations.upgrade(Operations(context), **arguments)
    with pytest.raises(SchemaError, match="version = 1: allowed is 0"):
        migrations.downgrade(Operations(context), version=1)


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ("oracle", "'oracle': allowed is one of postgresql, mysql, mariadb, sqlite, or a synch"),
        ("oracle://user:hunter2@host/d", r"'oracle://user:\*\*\*@host/d': allowed is one of"),
        ("user:hunter2@host", "'…': allowed is one of"),
        ("postgresql+asyncpg://host/d", "asyncpg is asynchronous"),
    ],
)
def test_databases_without_such_tables_are_refused(database, says):
    with pytest.raises(SchemaError, match=says):
        migrations.sql(database)


def test_the_script_for_a_schema_is_postgresqls():
    with pytest.raises(SchemaError, match="schema = 'jobs': allowed with PostgreSQL only"):
        migrations.sql("sqlite", schema="jobs")
