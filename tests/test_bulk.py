"""Many rows in one statement: each value arrives as it is, whatever it is."""

from __future__ import annotations

from datetime import datetime
from operator import itemgetter
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from strategies import properties

from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.columns import Id, Instant, JsonText, raw
from celery_sqlalchemy_kit.store import writes
from celery_sqlalchemy_kit.store.bulk import insert_all
from celery_sqlalchemy_kit.store.connections import make_engine

TABLE = sa.Table(
    "many",
    sa.MetaData(),
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", sa.String(20)),
    sa.Column("text", sa.Text()),
    sa.Column("json", JsonText()),
    sa.Column("at", Instant()),
    sa.Column("number", sa.Integer()),
    sa.Column("share", sa.Float(53)),
    sa.Column("said", sa.Boolean()),
)

#: JSON as the text that it is: a driver may decode it.
READ = sa.select(*(raw(each).label("json") if each.name == "json" else each for each in TABLE.c))
key = itemgetter("id")

NASTY = [
    "",
    " ",
    "NULL",
    "null",
    '"',
    "\\",
    '\\"',
    "{",
    "}",
    "{}",
    ",",
    "a,b",
    " a ",
    "'",
    "%s",
    ":id",
    "ü\n\t",
]
texts = (
    st.none()
    | st.sampled_from(NASTY)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
)
instants = st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1)).map(
    lambda instant: instant.replace(tzinfo=UTC)
)
rows = st.fixed_dictionaries(
    {
        "id": st.uuids(),
        "name": texts,
        "text": texts,
        "json": st.none() | st.sampled_from(["[]", "{}", '["\\\\\\"", null]', '{"a": "{1,2}"}']),
        "at": st.none() | instants,
        "number": st.none() | st.integers(-(2**31), 2**31 - 1),
        "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "said": st.none() | st.booleans(),
    }
)


@pytest.fixture
def connection(postgresql):
    engine = make_engine(postgresql)
    with engine.connect() as connection:
        TABLE.create(connection)
        yield connection
    engine.dispose()


def test_each_value_arrives_as_it_is(connection):
    @properties
    @given(st.lists(rows, max_size=5, unique_by=key), st.booleans())
    def arrives(some, alike):
        if alike and some:
            some = [{**some[0], "id": row["id"]} for row in some]
        with connection.begin_nested() as nested:
            insert_all(connection, TABLE, tuple(TABLE.c.keys()), some)
            found = connection.execute(READ).mappings().all()
            nested.rollback()
        assert sorted(some, key=key) == sorted(map(dict, found), key=key)

    arrives()


def test_what_a_claim_writes_at_once_has_parameters_of_different_names():
    assert not {"key", *writes._STEP_COLUMNS}.intersection(writes._RUN_COLUMNS)


def test_what_is_too_long_for_its_column_is_refused_not_cut(connection):
    row = dict.fromkeys(TABLE.c.keys()) | {"id": uuid4(), "name": "x" * 21}
    for some in ([row], [row, row | {"id": uuid4(), "name": "y" * 21}]):
        with pytest.raises(sa.exc.DataError), connection.begin_nested():
            insert_all(connection, TABLE, tuple(TABLE.c.keys()), some)
