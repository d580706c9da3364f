"""Column types: the same by whatever name a dialect goes."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateTable

from celery_sqlalchemy_kit.tables import metadata


def dialect(name):
    return make_url(f"{name}+pymysql://").get_dialect()()


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_mariadb_is_mysql_by_whatever_name_its_dialect_goes(table):
    mysql, mariadb = (
        str(CreateTable(table).compile(dialect=dialect(n))) for n in ("mysql", "mariadb")
    )

    assert mysql == mariadb
