"""Database URLs: what a synchronous one comes to with the asynchronous drivers there are."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from celery_sqlalchemy_kit import urls
from celery_sqlalchemy_kit.errors import SettingsError
from celery_sqlalchemy_kit.urls import asynchronous

ALL = {"asyncpg", "psycopg", "psycopg2", "aiomysql", "asyncmy", "aiosqlite"}


@pytest.fixture
def installed(monkeypatch):
    def only(modules):
        monkeypatch.setattr(urls, "is_installed", modules.__contains__)

    only(ALL)
    return only


def derived(text):
    url, arguments = asynchronous(make_url(text))
    return url.render_as_string(hide_password=False), arguments


@pytest.mark.parametrize(
    ("modules", "url", "expected"),
    [
        (ALL, "postgresql+psycopg2://u:p@h:5/d", "postgresql+asyncpg://u:p@h:5/d"),
        (ALL, "postgresql+psycopg://h/d", "postgresql+asyncpg://h/d"),
        ({"psycopg"}, "postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        (ALL, "postgresql+psycopg2://u@/d?host=/run", "postgresql+asyncpg://u@/d?host=%2Frun"),
        (ALL, "mysql+pymysql://u:p@h/d", "mysql+asyncmy://u:p@h/d"),
        ({"aiomysql"}, "mysql+mysqldb://h/d", "mysql+aiomysql://h/d"),
        (
            ALL,
            "mysql+pymysql://h/d?charset=utf8mb4&unix_socket=x",
            "mysql+asyncmy://h/d?charset=utf8mb4&unix_socket=x",
        ),
        (ALL, "sqlite:///a.db?timeout=3", "sqlite+aiosqlite:///a.db?timeout=3"),
        (ALL, "sqlite+pysqlite:///a.db", "sqlite+aiosqlite:///a.db"),
    ],
)
def test_a_driver_is_taken_that_is_installed(installed, modules, url, expected):
    installed(modules)

    assert derived(url) == (expected, {})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "postgresql+psycopg2://h/d",
            'asyncpg is not installed: pip install "celery-sqlalchemy-kit[postgres]"',
        ),
        (
            "postgresql+psycopg://h/d",
            'asyncpg or psycopg is not installed: pip install "celery-sqlalchemy-kit[postgres]"',
        ),
        (
            "mysql+pymysql://h/d",
            'asyncmy or aiomysql is not installed: pip install "celery-sqlalchemy-kit[mysql]"',
        ),
        ("sqlite:///d", 'aiosqlite is not installed: pip install "celery-sqlalchemy-kit[sqlite]"'),
    ],
)
def test_without_a_driver_the_extra_is_named_that_brings_one(installed, url, told):
    installed(set())

    with pytest.raises(SettingsError) as raised:
        derived(url)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("mysql+aiomysql://h/d", "greenlet", '"celery-sqlalchemy-kit[mysql]"'),
        ("mysql+mysqldb://h/d", "MySQLdb", "MySQLdb"),
        ("mssql+aioodbc://h/d", "greenlet", "greenlet"),
    ],
)
def test_a_module_that_no_extra_brings_is_named_itself(url, module, package):
    fault = urls.missing_driver(make_url(url), [module])

    assert str(fault) == f"{module} is not installed: pip install {package}"


def test_what_libpq_reads_in_the_query_is_put_where_asyncpg_reads_it(installed):
    query = "host=a&port=5433&sslmode=verify-full&sslrootcert=/etc/ca%20b&connect_timeout=3"

    assert derived(f"postgresql+psycopg2://u:p@/d?{query}&options=-c%20x%3D1") == (
        "postgresql+asyncpg://u:p@/d?host=a&port=5433",
        {
            "timeout": 3.0,
            "dsn": "postgresql://?sslmode=verify-full&sslrootcert=%2Fetc%2Fca%20b&options=-c%20x%3D1",
        },
    )


def test_a_timeout_of_zero_which_is_none_is_asyncpgs_own(installed):
    assert derived("postgresql+psycopg2://h/d?connect_timeout=0")[1] == {}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "postgresql+psycopg2://h/d?keepalives=1&gssencmode=x",
            "asyncpg .*: gssencmode, keepalives",
        ),
        ("mysql+pymysql://h/d?ssl_ca=/etc/ca&charset=utf8", "asyncmy .*: ssl_ca"),
        ("postgresql+psycopg2://h/d?sslmode=require&sslmode=allow", "asyncpg .*: sslmode"),
        ("postgresql+psycopg2://h/d?connect_timeout=soon", "asyncpg .*: connect_timeout"),
    ],
)
def test_what_the_driver_does_not_know_is_told_with_the_way_out(installed, url, told):
    with pytest.raises(SettingsError, match=rf"{told}\. Set worker_async_db_uri, and .*options"):
        derived(url)
