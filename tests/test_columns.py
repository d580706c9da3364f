"""Column types: the same by whatever name a dialect goes."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
import sqlalchemy as sa
from servers import wait_for
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateTable

from celery_sqlalchemy_kit.columns import new_id
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import metadata


def dialect(name):
    return make_url(f"{name}+pymysql://").get_dialect()()


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_mariadb_is_mysql_by_whatever_name_its_dialect_goes(table):
    mysql, mariadb = (
        str(CreateTable(table).compile(dialect=dialect(n))) for n in ("mysql", "mariadb")
    )

    assert mysql == mariadb


def test_ids_that_postgresql_makes_later_sort_later(postgresql):
    engine = make_engine(postgresql)
    clock = sa.text("SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint)")
    made, instants = [], []
    with engine.connect() as connection:
        for _ in range(5):
            instants.append(connection.execute(clock).scalar_one())
            made.append(UUID(str(connection.execute(sa.select(new_id())).scalar_one())))
            wait_for(lambda: connection.execute(clock).scalar_one() > made[-1].int >> 80)
    engine.dispose()

    assert sorted(made) == made
    assert {(7, RFC_4122)} == {(each.version, each.variant) for each in made}
    assert all(
        0 <= (each.int >> 80) - at <= 60_000 for each, at in zip(made, instants, strict=True)
    )
