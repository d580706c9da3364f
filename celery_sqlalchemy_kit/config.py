"""Settings: one frozen value from ``app.conf`` and the environment, all faults told together."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from .errors import SettingsError
from .urls import Unreadable, async_database_url, database_url

Reader = Callable[[Any], Any]


def _number(low: float, high: float, *, whole: bool, what: str) -> Reader:
    def read(value: Any) -> float | int:
        if isinstance(value, timedelta) and not whole:
            value = value.total_seconds()
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise Unreadable(what) from None
        if isinstance(value, bool) or not math.isfinite(number) or not low <= number <= high:
            raise Unreadable(what)
        if whole:
            if number != int(number):
                raise Unreadable(what)
            return int(number)
        return number

    return read


def _seconds(low: float, high: float = 31_536_000) -> Reader:
    return _number(low, high, whole=False, what=f"seconds from {low:g} to {high:g}")


def _count(low: int, high: int) -> Reader:
    return _number(low, high, whole=True, what=f"a whole number from {low} to {high}")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    flag = _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise Unreadable("true or false (also 1/0, yes/no, on/off)")
    return flag


_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "t": True, "y": True}
_FLAGS |= {"false": False, "0": False, "no": False, "off": False, "f": False, "n": False}


def _one_of(*allowed: str) -> Reader:
    def read(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise Unreadable("one of " + ", ".join(allowed))
        return text

    return read


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 255:
        raise Unreadable("a string of at most 255 characters")
    return value


def schema_name(value: Any) -> str:
    """*value*, if it may name a schema of PostgreSQL."""
    if not isinstance(value, str) or not _SCHEMA.fullmatch(value):
        raise Unreadable(
            "a name of up to 63 letters (a to z), digits, _ and -, that begins with a letter or _, "
            "and not with pg_"
        )
    return value


#: What needs no escape, quoted as an identifier or as a string.
_SCHEMA = re.compile(r"(?!pg_)[A-Za-z_][A-Za-z0-9_-]{0,62}")


def _path(value: Any) -> str:
    text = str(value).strip()
    module, _, name = text.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise Unreadable("a dotted path such as package.module:factory")
    return text


def _patterns(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, Sequence) or not all(isinstance(part, str) for part in value):
        raise Unreadable("task names or patterns such as 'reports.*', as a list or comma-separated")
    return tuple(value)


def _engine_options(value: Any) -> dict[str, Any]:
    what = "a dictionary of arguments of SQLAlchemy's create_engine, in the environment as JSON"
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unreadable(what) from None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise Unreadable(what)
    return dict(value)


def _setting(
    read: Reader, *, default: Any = None, also: tuple[str, ...] = (), secret: bool = False
) -> Any:
    """A field that is a setting: its reader, further names in the environment.

    *secret*: a dictionary that may hold passwords, and is shown nowhere.
    """
    metadata = {"read": read, "also": also, "secret": secret}
    if secret:
        return field(default_factory=dict, repr=False, hash=False, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What a user may set: keys of ``app.conf``, or the same in upper case in the environment.

    ``app.conf`` wins. Durations are seconds. `load` reads and checks them.
    """

    #: Where ``routines`` lives; a synchronous SQLAlchemy URL. Required by the scheduler.
    scheduler_db_uri: URL | None = _setting(database_url, default=None)
    #: PostgreSQL: the schema in which the tables are, case-sensitive; None for where the server
    #: looks for tables by itself.
    scheduler_db_schema: str | None = _setting(schema_name)
    #: The database of `AsyncTask.session`; an asynchronous SQLAlchemy URL. None: the same as above.
    worker_async_db_uri: URL | None = _setting(async_database_url)
    #: What its engine is made with, beside or in place of what `sessions` chooses.
    worker_async_db_engine_options: dict[str, Any] = _setting(_engine_options, secret=True)
    #: The same for the engine of `SyncTask.session`.
    worker_db_engine_options: dict[str, Any] = _setting(_engine_options, secret=True)
    #: Run async tasks on uvloop's event loop, if it is installed.
    worker_async_uvloop: bool = _setting(_flag, default=False)
    #: Longest sleep between looks at the table.
    scheduler_max_interval: float = _setting(_seconds(0.01), default=300.0)
    #: Time between full checks of the table.
    scheduler_sync_every: float = _setting(_seconds(1), default=180.0)
    #: How often a failing task is retried; 0 for never.
    celery_max_retry: int = _setting(
        _count(0, 1_000_000), default=3, also=("DEFAULT_CELERY_MAX_RETRY",)
    )
    #: Time between the retries of a failing task.
    celery_retry_delay: float = _setting(
        _seconds(0), default=300.0, also=("DEFAULT_CELERY_RETRY_DELAY",)
    )
    #: Create or upgrade the tables at start; false leaves them to migrations of your own.
    create_table: bool = _setting(_flag, default=True)
    #: Runs in one claim.
    scheduler_batch_size: int = _setting(_count(1, 10_000), default=500)
    #: Lateness that is no miss: within it a backlog is run in full.
    scheduler_misfire_grace: float = _setting(_seconds(0), default=60.0)
    #: Most occurrences of one routine that are run of one backlog.
    scheduler_catch_up_limit: int = _setting(_count(1, 10_000), default=100)
    #: Age at which a claimed, unpublished run is taken over by any scheduler.
    scheduler_rescue_after: float = _setting(_seconds(0.1, 3600), default=10.0)
    #: Time without a beat of its worker after which a run is lost; workers beat three times in it.
    scheduler_lost_after: float = _setting(_seconds(1, 86_400), default=90.0)
    #: Age at which a sent run that nobody has begun is sent again, doubling; 0 for never.
    scheduler_redeliver_after: float = _setting(_seconds(0, 86_400), default=60.0)
    #: Age at which a sent run that nobody has begun is lost.
    scheduler_unstarted_after: float = _setting(_seconds(1), default=3600.0)
    #: Lateness from which a routine is overdue.
    scheduler_overdue_after: float = _setting(_seconds(1), default=60.0)
    #: How long runs are kept after their end.
    scheduler_keep_runs_for: float = _setting(_seconds(60, 315_360_000), default=604_800.0)
    #: How many ended runs of one routine are kept; 0 for all within `scheduler_keep_runs_for`.
    scheduler_keep_runs: int = _setting(_count(0, 1_000_000), default=10_000)
    #: How long it is kept who changed what by the command line or the Python API.
    scheduler_keep_changes_for: float = _setting(_seconds(60, 315_360_000), default=31_536_000.0)
    #: Keeps apps apart that share one database.
    scheduler_namespace: str = _setting(_name, default="")
    #: What becomes of a routine that is no longer declared.
    scheduler_removed_routines: str = _setting(
        _one_of("delete", "deactivate", "keep"), default="delete"
    )
    #: ``merge``: what nobody edited in the database follows a change in the code.
    scheduler_code_changes: str = _setting(_one_of("database", "merge"), default="database")
    #: PostgreSQL: hear of changes through NOTIFY; off for databases with very many commits.
    scheduler_notify: bool = _setting(_flag, default=True)
    #: Another store than the SQL one: ``package.module:factory``, see `running.StoreFactory`.
    scheduler_store: str | None = _setting(_path)
    #: The same for workers: it is given the `Settings` and ``clock``, and makes a `RunLedger`.
    worker_ledger: str | None = _setting(_path)
    #: Tasks that rows may name, as ``fnmatch`` patterns; None for any.
    scheduler_allowed_tasks: tuple[str, ...] | None = _setting(_patterns)

    @classmethod
    def load(
        cls, conf: Mapping[str, Any], environ: Mapping[str, str] = os.environ, *, scheduler: bool
    ) -> Settings:
        """Read and check every setting.

        *scheduler*: also require what only the scheduler needs (``scheduler_db_uri``,
        unless there is a ``scheduler_store``).

        Raises:
            SettingsError: names every wrong setting, where it stood, its value and what is
                allowed. A URL is shown without its password.
        """
        values: dict[str, Any] = {}
        faults: list[str] = []
        elsewhere = _find("scheduler_store", (), conf, environ) is not None
        for setting in fields(cls):
            found = _find(setting.name, setting.metadata["also"], conf, environ)
            if found is None:
                if scheduler and setting.name == "scheduler_db_uri" and not elsewhere:
                    faults.append(MISSING_URL)
                continue
            where, value = found
            try:
                values[setting.name] = setting.metadata["read"](value)
            except Unreadable as allowed:
                shown = repr(shown_url(value) if setting.name.endswith("_uri") else value)
                shown = "…" if setting.metadata["secret"] else shown
                faults.append(f"{where} = {shown}: allowed is {allowed}")
        faults += _schema_faults(values)
        if faults:
            raise SettingsError(faults)
        return cls(**values)


def _schema_faults(values: Mapping[str, Any]) -> list[str]:
    schema, url = values.get("scheduler_db_schema"), values.get("scheduler_db_uri")
    if schema is None or url is None or url.get_backend_name() == "postgresql":
        return []
    fault = (
        f"scheduler_db_schema = {schema!r}: allowed with PostgreSQL only. A schema of MySQL or "
        "MariaDB is a database, which scheduler_db_uri names; SQLite has none"
    )
    return [fault]


MISSING_URL = (
    "scheduler_db_uri is missing: set app.conf.scheduler_db_uri or the environment variable "
    "SCHEDULER_DB_URI to a synchronous SQLAlchemy URL such as "
    "postgresql://user:password@host/database or sqlite:///routines.db"
)


def _find(
    key: str, also: tuple[str, ...], conf: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, Any] | None:
    """Where a setting stands and its value; an empty or None value counts as not set."""
    for name in (key, key.upper()):
        value = conf.get(name)
        if value is not None and value != "":
            return f"app.conf.{name}", value
    for name in (key.upper(), *also):
        if environ.get(name, "") != "":
            return f"environment variable {name}", environ[name]
    return None


def zone_name(app: Any) -> str:
    """The name of the app's time zone, which crontabs that name none follow.

    ``timezone``; else UTC, or with ``enable_utc = False`` the machine's zone where its name can
    be known (from the environment variable TZ or /etc/localtime).
    """
    if app.conf.timezone:
        return str(app.conf.timezone)
    if app.conf.enable_utc:
        return "UTC"
    named = os.environ.get("TZ", "").removeprefix(":") or "/etc/localtime"
    if not named.startswith("/"):
        return named
    return os.path.realpath(named).partition("zoneinfo/")[2] or "UTC"


def shown_url(value: Any) -> str:
    """A database URL as it may be shown: never with its password.

    Text that is no URL, or one that was read otherwise than it was meant (an ``@`` outside of
    the credentials), is cut down to its scheme, as the password could stand anywhere in it.
    """
    try:
        url = value if isinstance(value, URL) else make_url(str(value).strip())
    except (ArgumentError, ValueError):
        return _scheme(str(value))
    if "@" in f"{url.host}{url.database}{url.query}":
        return _scheme(f"{url.drivername}://")
    query = {k: "***" if "pass" in k.lower() else v for k, v in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def _scheme(text: str) -> str:
    found = re.match(r"\s*(\w[\w+]*)://", text)
    return f"{found[1]}://…" if found else "…"
