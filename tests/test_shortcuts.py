from __future__ import annotations

from uuid import uuid4

import pytest
import sqlalchemy as sa
from servers import free_port
from sqlalchemy.engine.default import DefaultDialect
from statements import each_statement

from celery_sqlalchemy_kit import tables
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.faults import Fault, kind_of
from celery_sqlalchemy_kit.store.shortcuts import Shortcut

NAMES = sa.Table("names", sa.MetaData(), sa.Column("id", tables.runs.c.id.type), sa.Column("name"))
ONE, OTHER = uuid4(), uuid4()
RENAME = (
    sa.update(NAMES)
    .where(NAMES.c.id == sa.bindparam("wanted", type_=NAMES.c.id.type))
    .values(name=sa.bindparam("new", type_=sa.String()))
)


@pytest.fixture
def engine(database):
    engine = make_engine(database)
    with engine.begin() as connection:
        id_type = NAMES.c.id.type.compile(dialect=engine.dialect)
        connection.exec_driver_sql(f"CREATE TABLE names (id {id_type}, name varchar(20))")
        connection.execute(NAMES.insert().values(id=ONE, name="old"))
    yield engine
    engine.dispose()


@pytest.fixture
def rename(engine):
    shortcut = Shortcut(engine, RENAME)
    return lambda wanted=ONE, new="new": shortcut.rows({"wanted": wanted, "new": new})


@pytest.fixture
def name(engine):
    def read():
        with engine.connect() as connection:
            return connection.execute(sa.select(NAMES.c.name)).scalar_one()

    return read


def test_it_is_committed_and_tells_how_many_rows_there_were(rename, name):
    assert rename() == 1
    assert name() == "new"
    assert rename(wanted=OTHER) == 0
    assert rename(new=None) == 1
    assert name() is None


def test_text_is_passed_as_it_is(rename, name):
    """Percent signs, colons and quotes mean something to one driver or another."""
    told = "100 %s :id 'a' \\ ü"
    assert rename(new=told) == 1
    assert name() == told


def test_postgresql_is_asked_once(engine, rename, monkeypatch):
    commits, statements = [], []
    commit = DefaultDialect.do_commit
    monkeypatch.setattr(
        engine.dialect, "do_commit", lambda one: (commits.append(one), commit(engine.dialect, one))
    )
    with each_statement(lambda statement, _: statements.append(statement.split()[0])):
        rename()

    assert statements == ["UPDATE"]
    assert len(commits) == (0 if engine.dialect.name == "postgresql" else 1)


def test_transactions_on_the_same_connection_are_what_they_were(engine, rename, name):
    rename()
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(RENAME, {"wanted": ONE, "new": "never"})
        transaction.rollback()
    assert name() == "new"


def test_a_connection_is_not_used_again_after_whatever_was_raised_on_it(engine, rename, name):
    connections = []
    sa.event.listen(engine, "connect", lambda connection, _: connections.append(connection))

    def interrupt(*_):
        raise KeyboardInterrupt

    with each_statement(interrupt), pytest.raises(KeyboardInterrupt):
        rename()
    assert rename() == 1
    assert name() == "new"
    assert len(connections) == 1  # beside the one that the fixture had made


def test_errors_are_sqlalchemys(engine, rename):
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE names")
    with pytest.raises(sa.exc.DBAPIError, match="names") as raised:
        rename()
    assert kind_of(raised.value) is Fault.OTHER


@pytest.mark.parametrize("driver", ["postgresql+psycopg2", "mysql+pymysql"])
def test_a_server_that_is_away_is_told_to_be_so(driver):
    engine = make_engine(sa.engine.make_url(f"{driver}://u:p@127.0.0.1:{free_port()}/d"))
    with pytest.raises(sa.exc.OperationalError) as raised:
        Shortcut(engine, RENAME).rows({"wanted": ONE, "new": "new"})
    assert kind_of(raised.value) is Fault.AWAY
