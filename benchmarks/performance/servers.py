"""The servers of a benchmark: PostgreSQL as durable as it comes, and Redis."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
from pathlib import Path

import redis
import sqlalchemy as sa

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import servers  # noqa: E402

#: One database, made anew for each measurement.
NAME = "benchmark"
INSTALLED = Path("/usr/lib/postgresql")
#: The defaults, fsync and all, but for the zone that celery-sqlalchemy-scheduler takes for granted.
SETTINGS = "timezone = 'UTC'\n"
STATEMENTS = "shared_preload_libraries = 'pg_stat_statements'\n"


class Servers:
    """Both, with what is asked of them."""

    def __init__(self, database, broker, *, counts_statements):
        self._admin = sa.create_engine(
            sa.engine.make_url(database).set(database="postgres"), isolation_level="AUTOCOMMIT"
        )
        self._redis = redis.Redis.from_url(broker)
        self._counts_statements = counts_statements
        self.broker = broker
        self.database = self._admin.url.set(database=NAME).render_as_string(hide_password=False)
        if counts_statements:
            self._run("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def empty(self):
        self._run(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        self._run(f"CREATE DATABASE {NAME}")
        self._redis.flushall()

    def settle(self):
        """What would begin by itself a minute after many rows were stored."""
        engine = sa.create_engine(self.database, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))
            connection.execute(sa.text("CHECKPOINT"))
        engine.dispose()

    def waiting(self, queue):
        return self._redis.llen(queue)

    def commands(self):
        """How many Redis has carried out."""
        return self._redis.info("stats")["total_commands_processed"]

    def statements(self):
        """How many the database has carried out, BEGIN and COMMIT included; None: not known."""
        if not self._counts_statements:
            return None
        count = """
            SELECT coalesce(sum(calls), 0) FROM pg_stat_statements AS s
            JOIN pg_database AS d ON d.oid = s.dbid WHERE d.datname = :name
        """
        with self._admin.connect() as connection:
            return int(connection.execute(sa.text(count), {"name": NAME}).scalar())

    def versions(self):
        with self._admin.connect() as connection:
            version = connection.execute(sa.text("SHOW server_version")).scalar()
            fsync = connection.execute(sa.text("SHOW fsync")).scalar()
        return {
            "PostgreSQL": version.split()[0],
            "fsync": fsync,
            "Redis": self._redis.info("server")["redis_version"],
        }

    def _run(self, statement):
        with self._admin.connect() as connection:
            connection.execute(sa.text(statement))

    def close(self):
        self._admin.dispose()
        self._redis.close()


@contextlib.contextmanager
def started():
    """An installed PostgreSQL, which counts statements, or the one that tests have; and Redis."""
    binaries = _newest()
    database = _installed(binaries) if binaries else servers.postgresql(SETTINGS)
    with database as url, servers.redis() as broker:
        both = Servers(url, broker, counts_statements=binaries is not None)
        try:
            yield both
        finally:
            both.close()


def _newest():
    """The programs of the newest that is installed the way Debian does, with pg_stat_statements."""
    versions = sorted(INSTALLED.glob("*"), key=lambda path: float(path.name), reverse=True)
    for version in versions:
        if (version / "lib" / "pg_stat_statements.so").exists():
            return version / "bin"
    return None


@contextlib.contextmanager
def _installed(binaries):
    # It refuses to be run by root.
    user = "postgres" if os.geteuid() == 0 else None
    with servers._directory() as home:  # noqa: SLF001
        port = servers.free_port()
        if user:
            os.chown(home, pwd.getpwnam(user).pw_uid, -1)
        data = home / "data"
        initdb = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [*initdb, "--no-locale"], check=True, user=user, cwd=home, stdout=subprocess.DEVNULL
        )
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(f"{SETTINGS}{STATEMENTS}port = {port}\nunix_socket_directories = '{home}'\n")
        # Interrupts are for the benchmark, which then stops it in order.
        postgres = subprocess.Popen(
            [binaries / "postgres", "-D", data],
            user=user,
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            url = f"postgresql+psycopg2://postgres@127.0.0.1:{port}/"
            servers.wait_for(lambda: _answers(url), servers.START_TIMEOUT, what="PostgreSQL")
            yield url
        finally:
            subprocess.run(
                [binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"],
                check=False,
                user=user,
                cwd=home,
                stdout=subprocess.DEVNULL,
            )
            postgres.wait()


def _answers(url):
    engine = sa.create_engine(sa.engine.make_url(url).set(database="postgres"))
    try:
        engine.connect().close()
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()
    return True
