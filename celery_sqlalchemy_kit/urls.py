"""Database URLs as they may be set, and what they come to with the drivers that are installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from .errors import SettingsError


class Unreadable(ValueError):
    """A setting's value is not allowed; the message says what is."""


def database_url(value: Any) -> URL:
    """The synchronous URL that *value* is, with a driver for PostgreSQL, MySQL and MariaDB."""
    what = "a synchronous SQLAlchemy URL such as postgresql://user:password@host/database"
    try:
        url = value if isinstance(value, URL) else make_url(str(value).strip())
    except (ArgumentError, ValueError):
        raise Unreadable(what) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+" + _postgresql_driver())
    elif url.get_backend_name() in ("mysql", "mariadb"):
        driver = url.drivername.partition("+")[2] or _mysql_driver()
        url = url.set(drivername=f"mysql+{driver}")
    driver = url.drivername.partition("+")[2]
    if driver in _ASYNC_DRIVERS:
        raise Unreadable(f"{what}; {driver} is asynchronous")
    if url.get_backend_name() not in ("postgresql", "mysql", "sqlite"):
        raise Unreadable(f"{what}; of PostgreSQL, MySQL, MariaDB or SQLite")
    return url


_ASYNC_DRIVERS = frozenset({"asyncpg", "aiosqlite", "aiomysql", "asyncmy", "psycopg_async"})


def async_database_url(value: Any) -> URL:
    """The asynchronous URL that *value* is, of any database."""
    what = (
        "an asynchronous SQLAlchemy URL such as postgresql+asyncpg://user:password@host/database, "
        "mysql+aiomysql://user:password@host/database or sqlite+aiosqlite:///file.db"
    )
    try:
        url = value if isinstance(value, URL) else make_url(str(value).strip())
        # psycopg is both: SQLAlchemy takes what it is asked for.
        asynchronous = url.get_dialect().is_async or url.drivername == "postgresql+psycopg"
    except (ArgumentError, ValueError):
        raise Unreadable(what) from None
    if not asynchronous:
        raise Unreadable(f"{what}; {url.drivername} is synchronous")
    return url


def asynchronous(url: URL) -> tuple[URL, dict[str, Any]]:
    """*url*, a synchronous one, for an asynchronous driver; and arguments for that driver.

    Raises:
        SettingsError: no such driver is installed, or it cannot do what the URL's query asks for.
    """
    backend = url.get_backend_name()
    drivers = {"mysql": ("asyncmy", "aiomysql"), "sqlite": ("aiosqlite",)}.get(backend)
    if drivers is None:
        drivers = ("asyncpg", "psycopg")[: 1 + (url.get_driver_name() == "psycopg")]
    installed = next(filter(is_installed, drivers), None)
    if installed is None:
        raise missing_driver(url, drivers)
    derived = url.set(drivername=f"{backend}+{installed}")
    if installed == "asyncpg":
        return _for_asyncpg(derived)
    if backend == "mysql":
        _refuse(derived, set(derived.query) - _MYSQL_KNOWS)
    return derived, {}


def missing_driver(url: URL, modules: Sequence[str]) -> SettingsError:
    """For *url* one of *modules* is needed, and none is there."""
    extra, package = _EXTRAS.get(url.get_backend_name()), modules[-1]
    if extra is not None and set(modules) & _IN_EXTRAS:
        package = f'"celery-sqlalchemy-kit[{extra}]"'
    return SettingsError([f"{' or '.join(modules)} is not installed: pip install {package}"])


#: The extras of each database, and the modules that they bring along.
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
_IN_EXTRAS = {"psycopg2", "asyncpg", "pymysql", "aiomysql", "aiosqlite", "greenlet"}


def _for_asyncpg(url: URL) -> tuple[URL, dict[str, Any]]:
    """What libpq reads in a query, asyncpg reads in that of a URL of its own."""
    query = dict(url.query)
    address = {key: query.pop(key) for key in _ADDRESS if key in query}
    arguments: dict[str, Any] = {}
    if str(seconds := query.get("connect_timeout", "")).isdecimal():
        del query["connect_timeout"]
        if int(str(seconds)):  # 0 is for ever
            arguments["timeout"] = float(str(seconds))
    once = {key for key, value in query.items() if isinstance(value, str)}
    _refuse(url, set(query) - (_ASYNCPG_READS & once))
    if query:
        arguments["dsn"] = "postgresql://?" + urlencode(query, quote_via=quote)
    return url.set(query=address), arguments


_ADDRESS = ("host", "port")
#: Parameters of a server, in a URL that asyncpg reads; and settings of a session.
_ASYNCPG_READS = {
    *("dbname", "user", "password", "passfile", "krbsrvname", "gsslib", "target_session_attrs"),
    *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "application_name", "options"),
}
#: What all drivers for MySQL and MariaDB call by the same name.
_MYSQL_KNOWS = {
    *("charset", "use_unicode", "unix_socket", "connect_timeout", "client_flag", "sql_mode"),
    *("init_command", "local_infile", "read_default_file", "read_default_group"),
}


def _refuse(url: URL, names: set[str]) -> None:
    if names:
        fault = (
            "worker_async_db_uri is not set, and scheduler_db_uri has what "
            f"{url.get_driver_name()} does not know: {', '.join(sorted(names))}. Set "
            "worker_async_db_uri, and what the driver takes instead in "
            "worker_async_db_engine_options['connect_args']"
        )
        raise SettingsError([fault])


def _postgresql_driver() -> str:
    """psycopg2 if it is there, else psycopg; SQLAlchemy 2.1 alone would insist on psycopg 3."""
    return "psycopg" if is_installed("psycopg") and not is_installed("psycopg2") else "psycopg2"


def _mysql_driver() -> str:
    return "mysqldb" if is_installed("MySQLdb") else "pymysql"


def is_installed(module: str) -> bool:
    """Whether *module*, of the top level, can be imported; it is not."""
    return find_spec(module) is not None
