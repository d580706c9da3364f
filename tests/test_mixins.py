"""The tables on a `Base` of one's own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, registry
from sqlalchemy.schema import CreateIndex, CreateTable

from celery_sqlalchemy_kit import mixins, tables
from celery_sqlalchemy_kit.errors import DeclarationError
from celery_sqlalchemy_kit.mixins import RoutineMixin, RoutineRunMixin

URLS = ("postgresql://", "mysql://", "mariadb://", "sqlite://")


def base(**metadata):
    return registry(metadata=sa.MetaData(**metadata)).generate_base()


def own(base, **members):
    """Both tables, the one of routines with *members* besides."""
    routine = type("Routine", (RoutineMixin, base), {"__module__": __name__, **members})
    run = type("RoutineRun", (RoutineRunMixin, base), {"__module__": __name__})
    return routine, run


def ddl(table, dialect):
    """MySQL and MariaDB make a DOUBLE of a FLOAT(53)."""
    indexes = sorted(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes)
    created = str(CreateTable(table).compile(dialect=dialect))
    return [created.replace("DOUBLE", "FLOAT(53)"), *indexes]


@pytest.mark.parametrize("url", URLS)
def test_the_mixins_make_the_tables_of_the_kit(url):
    dialect = make_url(url).get_dialect()()
    routine, run = own(base())

    assert ddl(tables.routines, dialect) == ddl(routine.__table__, dialect)
    assert ddl(tables.runs, dialect) == ddl(run.__table__, dialect)


@pytest.mark.parametrize(
    ("name", "table"), [("RoutineMixin", tables.routines), ("RoutineRunMixin", tables.runs)]
)
def test_type_checkers_know_every_column(name, table):
    (mixin,) = (
        each
        for each in ast.parse(Path(mixins.__file__).read_text()).body
        if isinstance(each, ast.ClassDef) and each.name == name
    )
    annotated = [each.target.id for each in ast.walk(mixin) if isinstance(each, ast.AnnAssign)]

    assert table.c.keys() == annotated


def test_each_base_has_tables_of_its_own():
    one, two = own(base()), own(base(schema="jobs"))

    assert one[0].__table__ is not two[0].__table__
    assert ("routines", "jobs.routines") == (str(one[0].__table__), str(two[0].__table__))
    assert tables.routines.c.keys() == two[0].__table__.c.keys()


def test_columns_indexes_and_options_of_ones_own_stand_beside_the_kits():
    routine, _ = own(
        base(),
        team=sa.Column(sa.String(40)),
        __table_args__=(sa.Index("by_team", "team"), {"schema": "jobs", "comment": "ours"}),
    )
    made = routine.__table__

    assert [*tables.routines.c.keys(), "team"] == made.c.keys()
    assert {index.name for index in tables.routines.indexes} | {"by_team"} == {
        index.name for index in made.indexes
    }
    assert ("jobs", "ours") == (made.schema, made.comment)


def test_a_base_that_makes_its_tables_itself_still_does():
    class Making:
        @classmethod
        def __table_cls__(cls, *args, **kw):
            return sa.Table(*args, comment="ours", **kw)

    routine, _ = own(registry().generate_base(cls=Making))

    assert "ours" == routine.__table__.comment
    assert len(tables.routines.indexes) == len(routine.__table__.indexes)


def test_a_table_of_another_name_is_refused():
    with pytest.raises(DeclarationError, match=r"'tasks'.*'routines'"):
        own(base(), __tablename__="tasks")


def test_the_kit_works_with_tables_that_have_columns_of_others(beat, database):
    ours = base()
    routine, run = own(ours, team=sa.Column(sa.String(40), server_default="blue"))
    engine = sa.create_engine(database, future=True)
    ours.metadata.create_all(engine)
    with Session(engine, future=True) as session:
        session.add(routine(name="a", task="a", schedule={"timedelta": 60}, origin="db"))
        session.commit()

    started = beat()
    sent = [sent.id for sent in started.advance(90)]

    with Session(engine, future=True) as session:
        assert sent == [found.id for found in session.execute(sa.select(run)).scalars()]
        assert ["blue"] == session.execute(sa.select(routine.team)).scalars().all()
    engine.dispose()
