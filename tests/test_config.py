"""Settings: where they are read from, what is allowed, and that all faults are told at once."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from celery import Celery
from sqlalchemy.engine import URL, make_url

from celery_sqlalchemy_kit import config, urls
from celery_sqlalchemy_kit.config import MISSING_URL, Settings, shown_url, zone_name
from celery_sqlalchemy_kit.errors import KitError, SettingsError

SQLITE = "sqlite:///routines.db"


def load(environ=None, /, **conf) -> Settings:
    """The settings of a worker, which needs no database."""
    return Settings.load(conf, environ or {}, scheduler=False)


def faults(environ=None, /, *, scheduler=False, **conf) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(conf, environ or {}, scheduler=scheduler)
    return caught.value.faults


# -- where they stand -------------------------------------------------------------------------


def test_the_defaults():
    expected = {
        "scheduler_db_uri": None,
        "scheduler_db_schema": None,
        "scheduler_max_interval": 300.0,
        "scheduler_sync_every": 180.0,
        "celery_max_retry": 3,
        "celery_retry_delay": 300.0,
        "create_table": True,
        "scheduler_batch_size": 500,
        "scheduler_misfire_grace": 60.0,
        "scheduler_catch_up_limit": 100,
        "scheduler_rescue_after": 10.0,
        "scheduler_namespace": "",
        "scheduler_removed_routines": "delete",
        "scheduler_code_changes": "database",
        "scheduler_notify": True,
        "scheduler_allowed_tasks": None,
        "scheduler_store": None,
        "worker_ledger": None,
        "worker_async_db_uri": None,
        "worker_async_db_engine_options": {},
        "worker_db_engine_options": {},
        "worker_async_uvloop": False,
    }

    assert expected == {name: vars(load())[name] for name in expected}


#: Of every setting: what may be written, and what it comes to.
WRITTEN = {
    "scheduler_db_uri": ("sqlite:///a.db", make_url("sqlite:///a.db")),
    "scheduler_db_schema": ("My-jobs_1", "My-jobs_1"),
    "scheduler_max_interval": ("7.5", 7.5),
    "scheduler_sync_every": ("60", 60.0),
    "celery_max_retry": ("0", 0),
    "celery_retry_delay": ("0", 0.0),
    "create_table": ("false", False),
    "scheduler_batch_size": ("10", 10),
    "scheduler_misfire_grace": ("0", 0.0),
    "scheduler_catch_up_limit": ("1", 1),
    "scheduler_rescue_after": ("1", 1.0),
    "scheduler_namespace": ("shop", "shop"),
    "scheduler_removed_routines": ("keep", "keep"),
    "scheduler_code_changes": ("merge", "merge"),
    "scheduler_notify": ("off", False),
    "scheduler_allowed_tasks": ("a.*, b.*", ("a.*", "b.*")),
    "scheduler_store": (" shop.stores:make ", "shop.stores:make"),
    "worker_ledger": ("shop.stores:Ledgers.make", "shop.stores:Ledgers.make"),
    "worker_async_db_uri": ("sqlite+aiosqlite:///a.db", make_url("sqlite+aiosqlite:///a.db")),
    "worker_async_db_engine_options": ('{"pool_size": 2}', {"pool_size": 2}),
    "worker_db_engine_options": ('{"echo": true}', {"echo": True}),
    "worker_async_uvloop": ("yes", True),
}
#: Settings that other modules' tests are about.
SETTINGS = [setting.name for setting in fields(Settings) if setting.name in WRITTEN]


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_is_read_from_the_configuration_and_the_environment(key):
    text, value = WRITTEN[key]

    assert value == getattr(load(**{key: text}), key)
    assert value == getattr(load(**{key.upper(): text}), key)
    assert value == getattr(load({key.upper(): text}), key)
    assert getattr(load(), key) == getattr(load({key: text}), key)


@pytest.mark.parametrize("key", SETTINGS)
def test_the_configuration_wins_over_the_environment(key):
    text, value = WRITTEN[key]

    assert value == getattr(load({key.upper(): "wrong anyway"}, **{key: text}), key)


@pytest.mark.parametrize("nothing", [None, ""])
def test_what_is_empty_is_not_set(nothing):
    environ = {"CELERY_MAX_RETRY": "7", "SCHEDULER_BATCH_SIZE": ""}
    settings = load(environ, celery_max_retry=nothing, scheduler_batch_size=nothing)

    assert (7, 500) == (settings.celery_max_retry, settings.scheduler_batch_size)


@pytest.mark.parametrize("zero", [0, False])
def test_zero_and_false_are_not_empty(zero):
    assert not load({"CREATE_TABLE": "1"}, create_table=zero).create_table


@pytest.mark.parametrize("key", ["CELERY_MAX_RETRY", "CELERY_RETRY_DELAY"])
def test_the_names_that_begin_with_default_are_read_last(key):
    last, first = {f"DEFAULT_{key}": "8"}, {key: "9"}

    assert 8 == getattr(load(last), key.lower())
    assert 9 == getattr(load(last | first), key.lower())
    assert 7 == getattr(load(last | first, **{key.lower(): 7}), key.lower())


def test_only_two_settings_have_a_name_that_begins_with_default():
    assert load({"DEFAULT_SCHEDULER_BATCH_SIZE": "8"}) == load()


def test_the_configuration_of_a_celery_app_is_read():
    app = Celery("test", set_as_current=False)
    app.conf.scheduler_db_uri = SQLITE
    app.conf.celery_max_retry = 5
    settings = Settings.load(app.conf, {}, scheduler=True)

    assert (make_url(SQLITE), 5) == (settings.scheduler_db_uri, settings.celery_max_retry)


def test_the_environment_of_the_process_is_read_by_default(monkeypatch):
    monkeypatch.setenv("SCHEDULER_BATCH_SIZE", "17")

    assert 17 == Settings.load({}, scheduler=False).scheduler_batch_size


def test_engine_options_are_not_shown_and_settings_can_be_compared():
    settings = load(worker_db_engine_options={"connect_args": {"password": "hunter2"}})

    assert "hunter2" not in repr(settings)
    assert isinstance(hash(settings), int)
    assert settings != load()


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        load().create_table = False


# -- what is allowed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("scheduler_max_interval", timedelta(minutes=2), 120.0),
        ("scheduler_max_interval", 0.01, 0.01),
        ("scheduler_max_interval", " 5 ", 5.0),
        ("scheduler_max_interval", Decimal("1.5"), 1.5),
        ("scheduler_misfire_grace", 31_536_000, 31_536_000.0),
        ("celery_max_retry", "3.0", 3),
        ("celery_max_retry", 1_000_000, 1_000_000),
        ("scheduler_namespace", "x" * 255, "x" * 255),
        ("scheduler_removed_routines", " Keep ", "keep"),
        ("scheduler_allowed_tasks", ["a", "b.*"], ("a", "b.*")),
        ("scheduler_allowed_tasks", ("a",), ("a",)),
        ("scheduler_allowed_tasks", [], ()),
        ("worker_db_engine_options", {"pool_size": 2}, {"pool_size": 2}),
        ("worker_async_db_uri", "mysql+aiomysql://host/db", make_url("mysql+aiomysql://host/db")),
        ("worker_async_db_uri", make_url("mysql+asyncmy://host/db"), make_url("mysql+asyncmy://host/db")),
        *[("create_table", yes, True) for yes in (True, 1, "1", "true", "TRUE", "yes", "on", " t ", "y")],
        *[("create_table", no, False) for no in (False, 0, "0", "false", "No", "off", "f", "n")],
    ],
)  # fmt: skip
def test_a_value_is_read_as(key, value, read):
    found = getattr(load(**{key: value}), key)

    assert (type(read), read) == (type(found), found)


SECONDS = "seconds from 0.01 to 3.1536e+07"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("scheduler_max_interval", 0, f"0: allowed is {SECONDS}"),
        ("scheduler_max_interval", -1, f"-1: allowed is {SECONDS}"),
        ("scheduler_max_interval", "soon", f"'soon': allowed is {SECONDS}"),
        ("scheduler_max_interval", "nan", f"'nan': allowed is {SECONDS}"),
        ("scheduler_max_interval", "inf", f"'inf': allowed is {SECONDS}"),
        ("scheduler_max_interval", True, f"True: allowed is {SECONDS}"),
        ("scheduler_max_interval", [], f"[]: allowed is {SECONDS}"),
        ("scheduler_max_interval", 10**400, f"allowed is {SECONDS}"),
        ("scheduler_max_interval", timedelta.max, f"allowed is {SECONDS}"),
        ("scheduler_rescue_after", 3601, "3601: allowed is seconds from 0.1 to 3600"),
        ("scheduler_sync_every", 0.5, "0.5: allowed is seconds from 1 to"),
        ("celery_retry_delay", -0.1, "-0.1: allowed is seconds from 0 to"),
        ("celery_max_retry", -1, "-1: allowed is a whole number from 0 to 1000000"),
        ("celery_max_retry", 1.5, "1.5: allowed is a whole number from 0 to 1000000"),
        ("celery_max_retry", False, "False: allowed is a whole number from 0 to 1000000"),
        ("celery_max_retry", timedelta(seconds=3), "allowed is a whole number from 0 to 1000000"),
        ("scheduler_batch_size", 0, "0: allowed is a whole number from 1 to 10000"),
        ("scheduler_batch_size", 10_001, "10001: allowed is a whole number from 1 to 10000"),
        ("scheduler_catch_up_limit", 10_001, "10001: allowed is a whole number from 1 to 10000"),
        ("create_table", "perhaps", "'perhaps': allowed is true or false (also 1/0, yes/no, on/off)"),
        ("create_table", 2, "2: allowed is true or false"),
        ("scheduler_namespace", "x" * 256, "allowed is a string of at most 255 characters"),
        ("scheduler_namespace", 5, "5: allowed is a string of at most 255 characters"),
        ("scheduler_removed_routines", "remove", "'remove': allowed is one of delete, deactivate, keep"),
        ("scheduler_code_changes", "code", "'code': allowed is one of database, merge"),
        ("scheduler_allowed_tasks", 5, "5: allowed is task names or patterns such as 'reports.*'"),
        ("scheduler_allowed_tasks", ["a", 5], "['a', 5]: allowed is task names or patterns"),
        ("scheduler_allowed_tasks", b"a", "b'a': allowed is task names or patterns"),
        ("scheduler_db_uri", 5, "'…': allowed is a synchronous SQLAlchemy URL such as postgresql://"),
        ("scheduler_db_uri", "routines.db", "'…': allowed is a synchronous SQLAlchemy URL"),
        ("scheduler_db_uri", "oracle://host/db", "'oracle://host/db': allowed is a synchronous SQLAlchemy URL such as postgresql://user:password@host/database; of PostgreSQL, MySQL, MariaDB or SQLite"),
        ("scheduler_db_uri", "postgresql+asyncpg://host/db", "'postgresql+asyncpg://host/db': allowed is a synchronous SQLAlchemy URL such as postgresql://user:password@host/database; asyncpg is asynchronous"),
        ("scheduler_db_uri", "sqlite+aiosqlite:///a.db", "aiosqlite is asynchronous"),
        ("scheduler_db_uri", "mysql+aiomysql://host/db", "aiomysql is asynchronous"),
        ("scheduler_db_uri", "mariadb+asyncmy://host/db", "asyncmy is asynchronous"),
        ("scheduler_db_schema", 5, "5: allowed is a name of up to 63 letters (a to z), digits, _ and -, that begins with a letter or _, and not with pg_"),
        ("scheduler_db_schema", "x" * 64, "allowed is a name of up to 63 letters"),
        ("scheduler_db_schema", "pg_catalog", "'pg_catalog': allowed is a name"),
        ("scheduler_db_schema", "$user", "'$user': allowed is a name"),
        ("scheduler_db_schema", 'a", "b', "allowed is a name"),
        ("scheduler_db_schema", "a, b", "'a, b': allowed is a name"),
        ("scheduler_db_schema", "a\n", "'a\\n': allowed is a name"),
        ("worker_async_db_uri", "routines.db", "'…': allowed is an asynchronous SQLAlchemy URL such as postgresql+asyncpg://"),
        ("worker_async_db_uri", "nosql+driver://host/db", "'nosql+driver://host/db': allowed is an asynchronous SQLAlchemy URL"),
        ("worker_async_db_uri", "postgresql+psycopg2://u:hunter2@host/db", "'postgresql+psycopg2://u:***@host/db': allowed is an asynchronous"),
        ("worker_async_db_uri", "postgresql+psycopg2://host/db", "mysql+aiomysql://user:password@host/database or sqlite+aiosqlite:///file.db; postgresql+psycopg2 is synchronous"),
        ("worker_async_db_uri", "postgresql+psycopg2://host/db", "; postgresql+psycopg2 is synchronous"),
        ("worker_async_db_uri", "sqlite:///a.db", "; sqlite is synchronous"),
        ("worker_async_db_uri", "mysql+pymysql://host/db", "; mysql+pymysql is synchronous"),
        ("worker_async_db_engine_options", '{"connect_args": {"password": "hunter2"}', "= …: allowed is a dictionary of arguments of SQLAlchemy's create_engine"),
        ("worker_async_db_engine_options", "[1]", "allowed is a dictionary of arguments"),
        ("worker_db_engine_options", {1: 2}, "= …: allowed is a dictionary of arguments"),
    ],
)  # fmt: skip
def test_a_value_is_refused_with_what_is_allowed(key, value, says):
    (fault,) = faults(**{key: value})

    assert fault.startswith(f"app.conf.{key} = ")
    assert says in fault
    assert "hunter2" not in fault


def test_a_fault_says_where_the_value_stood():
    assert "environment variable CREATE_TABLE = 'x': " in faults({"CREATE_TABLE": "x"})[0]
    by_default = faults({"DEFAULT_CELERY_MAX_RETRY": "x"})
    assert "environment variable DEFAULT_CELERY_MAX_RETRY = 'x': " in by_default[0]
    assert "app.conf.CREATE_TABLE = 'x': " in faults(CREATE_TABLE="x")[0]


def test_all_that_is_wrong_is_told_in_one_error():
    wrong = {key: object() for key in SETTINGS}
    told = faults(scheduler=True, **wrong)

    assert [f"app.conf.{key}" for key in SETTINGS] == [fault.split(" = ")[0] for fault in told]


def test_the_error_lists_every_fault_on_a_line_and_survives_pickling():
    error = SettingsError(faults(create_table="x", scheduler_notify="z"))

    assert isinstance(error, KitError)
    assert ["2 settings are wrong:", "- app.conf.create_table", "- app.conf.scheduler_notify"] == [
        line.strip().split(" = ")[0] for line in str(error).splitlines()
    ]
    assert str(error) == str(pickle.loads(pickle.dumps(error)))


def test_one_fault_alone_is_the_whole_message():
    assert "only this" == str(SettingsError(["only this"]))


def test_a_scheduler_is_told_how_to_name_its_database():
    assert (MISSING_URL,) == faults(scheduler=True)
    for way in ("app.conf.scheduler_db_uri", "SCHEDULER_DB_URI", "postgresql://", "sqlite:///"):
        assert way in MISSING_URL


def test_a_missing_database_is_told_along_with_what_is_wrong():
    told = faults(scheduler=True, create_table="x")

    assert MISSING_URL in told
    assert 2 == len(told)


def test_a_wrong_database_is_not_called_missing():
    assert 1 == len(faults(scheduler=True, scheduler_db_uri="oracle://host/db"))


def test_a_worker_needs_no_database():
    assert load().scheduler_db_uri is None


@pytest.mark.parametrize("url", ["sqlite:///a.db", "mysql+pymysql://host/db", "mariadb://host/db"])
def test_a_schema_is_refused_where_there_are_none(url):
    (fault,) = faults(scheduler_db_uri=url, scheduler_db_schema="jobs")

    assert "scheduler_db_schema = 'jobs': allowed with PostgreSQL only" in fault
    assert (
        "jobs"
        == load(scheduler_db_uri="postgresql://h/d", scheduler_db_schema="jobs").scheduler_db_schema
    )


# -- URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "url", "driver"),
    [
        ({"psycopg2"}, "postgresql://host/db", "postgresql+psycopg2"),
        ({"psycopg"}, "postgresql://host/db", "postgresql+psycopg"),
        ({"psycopg", "psycopg2"}, "postgres://host/db", "postgresql+psycopg2"),
        (set(), "postgres://host/db", "postgresql+psycopg2"),
        ({"psycopg2"}, "postgresql+psycopg://host/db", "postgresql+psycopg"),
        ({"psycopg"}, "postgresql+psycopg2://host/db", "postgresql+psycopg2"),
        ({"MySQLdb", "pymysql"}, "mysql://host/db", "mysql+mysqldb"),
        ({"pymysql"}, "mysql://host/db", "mysql+pymysql"),
        ({"pymysql"}, "mariadb://host/db", "mysql+pymysql"),
        ({"MySQLdb"}, "mariadb+pymysql://host/db", "mysql+pymysql"),
        (set(), "sqlite:///a.db", "sqlite"),
        (set(), "sqlite+pysqlite:///a.db", "sqlite+pysqlite"),
        (set(), "  sqlite:///a.db\n", "sqlite"),
    ],
)
def test_a_bare_url_takes_the_driver_that_is_installed(monkeypatch, installed, url, driver):
    monkeypatch.setattr(urls, "is_installed", installed.__contains__)

    assert driver == load(scheduler_db_uri=url).scheduler_db_uri.drivername


def test_a_driver_is_installed_if_it_can_be_imported():
    assert urls.is_installed("sqlite3")
    assert not urls.is_installed("no_such_driver")


def test_nothing_else_of_a_url_changes():
    url = make_url("postgresql+psycopg2://user:p%40ss@host:5433/db?sslmode=require")

    assert url == load(scheduler_db_uri=url).scheduler_db_uri
    assert url == load(scheduler_db_uri=url.render_as_string(hide_password=False)).scheduler_db_uri


SECRETS = [
    "postgresql+asyncpg://user:hunter2@host/db",
    "oracle://user:hunter2@host/db",
    "oracle+x://:hunter2@host",
    "postgresql+asyncpg://user:@hunter2@host/db",
    "postgresql+asyncpg://user:a@hunter2@host:5432/db",
    "postgresql+asyncpg://user:a/hunter2@host/db",
    "postgresql+asyncpg://user:a?hunter2@host/db",
    "postgresql+asyncpg://user:a#hunter2@host/db",
    "postgresql+asyncpg://user:a:hunter2@host/db",
    "postgresql+asyncpg://user:a hunter2@host/db",
    "postgresql+asyncpg://us/er:hunter2@host/db",
    "postgresql+asyncpg:///user:hunter2@host/db",
    "postgresql+asyncpg://host/db?password=hunter2",
    "postgresql+asyncpg://host/db?user=me&PassWd=hunter2&sslpassword=hunter2",
    "postgresql+asyncpg://host/db?password=hunter2&password=hunter2",
    "postgresql+asyncpg://host/db?dsn=user:hunter2@other",
    "postgresql://user:hunter2@host:port/db",
    "postgresql://user:hunter2",
    "postgresql://user:hunter2@[::1/db:x",
    "postgresql//user:hunter2@host/db",
    "postgresql//user:hunter2@host/db?root=file:///x",
    "postgresql:/user:hunter2@host/db",
    "user:hunter2@host/db",
    "//user:hunter2@host/db",
    "host=a password=hunter2",
    "DATABASE_URL=postgresql://user:hunter2@host/db",
    "'postgresql://user:hunter2@host/db'",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_password_is_never_shown(url):
    (fault,) = faults(scheduler_db_uri=url)

    assert "hunter2" not in shown_url(url)
    assert "hunter2" not in fault
    assert "allowed is a synchronous SQLAlchemy URL" in fault


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (SQLITE, SQLITE),
        ("postgresql://user:hunter2@host:5432/db", "postgresql://user:***@host:5432/db"),
        (URL.create("mysql", "user", "hunter2", "host"), "mysql://user:***@host"),
        ("postgresql://user@host/db?sslmode=require", "postgresql://user@host/db?sslmode=require"),
        ("postgresql://host/db?password=hunter2", "postgresql://host/db?password=%2A%2A%2A"),
        ("postgresql://user:hunter2@host:port/db", "postgresql://…"),
        ("postgresql://user:a@hunter2@host/db", "postgresql://…"),
        ("user:hunter2@host/db", "…"),
        (None, "…"),
    ],
)
def test_a_url_is_shown_as(url, shown):
    assert shown == shown_url(url)


# -- the zone ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "tz", "localtime", "zone"),
    [
        ({"timezone": "Europe/Berlin", "enable_utc": True}, "Asia/Tokyo", "/x", "Europe/Berlin"),
        ({"timezone": "Europe/Berlin", "enable_utc": False}, "Asia/Tokyo", "/x", "Europe/Berlin"),
        ({"timezone": None, "enable_utc": True}, "Asia/Tokyo", "/x", "UTC"),
        ({"timezone": None, "enable_utc": False}, "Asia/Tokyo", "/x", "Asia/Tokyo"),
        ({"timezone": None, "enable_utc": False}, ":Asia/Tokyo", "/x", "Asia/Tokyo"),
        ({"timezone": None, "enable_utc": False}, "", "/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ({"timezone": None, "enable_utc": False}, ":/etc/localtime", "/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ({"timezone": None, "enable_utc": False}, "", "/etc/localtime", "UTC"),
    ],
)  # fmt: skip
def test_crontabs_that_name_no_zone_follow(monkeypatch, conf, tz, localtime, zone):
    monkeypatch.setenv("TZ", tz)
    monkeypatch.setattr(config.os.path, "realpath", lambda _: localtime)

    assert zone == zone_name(SimpleNamespace(conf=SimpleNamespace(**conf)))
