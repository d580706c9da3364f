"""The demonstration: a worker and the scheduler at work, told step by step.

Ends by itself within a minute; exit code 0 if all that it announces did happen.
"""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import sqlalchemy as sa

from example.app import app, home
from example.sql import Database, table

CELERY = "celery -A example.app"
WORKER = ("worker", "--concurrency=2", "--loglevel=INFO")
BEAT = ("beat", "--scheduler=routines", "--loglevel=INFO", "--pidfile=")


class DidNotHappen(Exception):
    """Something that the demonstration announces did not come about."""


class Demo:
    """Prints what it does, as a person would type it, and what comes of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._steps = 0

    def step(self, title: str) -> None:
        self._steps += 1
        print(f"\n── {self._steps}. {title} ".ljust(90, "─"))

    def say(self, text: str) -> None:
        print(textwrap.fill(text, 90))

    def sql(self, *lines: str) -> None:
        print("  sql> " + "\n       ".join(lines) + ";")
        names, rows = self.database.run("\n".join(lines))
        if names:
            print(textwrap.indent(table(names, rows), "  "))

    def runs(self, routine: str, *, state: str = "") -> int:
        """How many runs a routine has."""
        wanted = f" AND state = '{state}'" if state else ""
        query = f"SELECT count(*) FROM routine_runs WHERE routine_name = '{routine}'{wanted}"
        return int(self.database.value(query))

    def until(self, happened: Callable[[], bool], what: str, seconds: float = 15) -> float:
        """Wait until it has happened; returns how many seconds that took."""
        began = time.monotonic()
        while not happened():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise DidNotHappen(f"{what}: the {name} ended by itself")
            if time.monotonic() - began > seconds:
                raise DidNotHappen(f"{what}: not within {seconds:g} seconds")
            time.sleep(0.05)
        return time.monotonic() - began


def declared_in_code(demo: Demo) -> None:
    demo.step("What the code declares is in the table")
    planned = (
        "SELECT count(*) FROM routines WHERE name LIKE 'example.%' AND next_run_at IS NOT NULL"
    )

    def all_planned() -> bool:
        with contextlib.suppress(sa.exc.DBAPIError):  # there is no table yet
            return bool(demo.database.value(planned) == 4)
        return False

    demo.until(all_planned, "four routines in the table")
    demo.sql("SELECT name, schedule, active, next_run_at", "FROM routines ORDER BY name")
    demo.say("From now on the table is the source of truth. (celery.backend_cleanup is Celery's.)")


def runs_arrive(demo: Demo) -> None:
    demo.step("Runs arrive")
    wanted = {"example.pulse": 2, "example.fetch": 1, "example.tidy": 1}

    def all_ran() -> bool:
        return all(demo.runs(name, state="succeeded") >= n for name, n in wanted.items())

    demo.until(all_ran, "runs of " + ", ".join(wanted))
    demo.sql(
        "SELECT routine_name, scheduled_for, state, finished_at",
        "FROM routine_runs ORDER BY scheduled_for, routine_name",
    )
    demo.say("A run's id is the id of its Celery task: its result is where Celery keeps results.")
    finished = demo.database.value(
        "SELECT id FROM routine_runs WHERE routine_name = 'example.fetch' AND state = 'succeeded'"
    )
    run = str(UUID(str(finished)))
    result = app.AsyncResult(run).get(timeout=5)
    print(f'  >>> app.AsyncResult("{run}").get()\n  {result!r}')
    if result != "hello world":
        raise DidNotHappen("'hello world' as the result of example.fetch")


def switched_off(demo: Demo) -> None:
    demo.step("Switched off: from the commit on, nothing more is sent")
    demo.sql("UPDATE routines SET active = false WHERE name = 'example.pulse'")
    pulses, fetches = demo.runs("example.pulse"), demo.runs("example.fetch")
    demo.until(lambda: demo.runs("example.fetch") >= fetches + 2, "runs of example.fetch")
    if demo.runs("example.pulse") > pulses:
        raise DidNotHappen("no run of example.pulse while it is switched off")
    demo.say("Since then: two runs of example.fetch, none of example.pulse, though due more often.")


def rescheduled(demo: Demo) -> None:
    demo.step("Switched on with another schedule: obeyed at once")
    demo.sql(
        "UPDATE routines SET active = true, schedule = '{\"timedelta\": 0.5}'",
        "WHERE name = 'example.pulse'",
    )
    before = demo.runs("example.pulse")
    first = demo.until(lambda: demo.runs("example.pulse") > before, "a run of example.pulse", 4)
    more = demo.until(lambda: demo.runs("example.pulse") > before + 6, "six runs more", 5)
    demo.say(f"The first run after {first:.1f} s, six more within {more:.1f} s.")


def added(demo: Demo) -> None:
    demo.step("A new routine, in SQL alone")
    demo.sql(
        "INSERT INTO routines (name, task, schedule, kwargs)",
        """VALUES ('good morning', 'example.fetch', '{"timedelta": 1}',""",
        """        '{"greeting": "good morning"}')""",
    )
    demo.until(lambda: demo.runs("good morning", state="succeeded") >= 2, "runs of it")
    demo.sql(
        "SELECT routine_name, kwargs, scheduled_for, state",
        "FROM routine_runs WHERE routine_name = 'good morning' ORDER BY scheduled_for",
    )


STEPS = (declared_in_code, runs_arrive, switched_off, rescheduled, added)


def start_afresh(database: Database) -> None:
    """Clear what an earlier demonstration left; refuse a table that others use."""
    if "SCHEDULER_DB_URI" not in os.environ:
        for file in home.glob("*.db*"):
            file.unlink()
        return
    try:
        _, rows = database.run(
            "SELECT name FROM routines WHERE name NOT LIKE 'example.%'"
            " AND name NOT IN ('good morning', 'celery.backend_cleanup')"
        )
    except sa.exc.DBAPIError:  # no table: nothing to clear
        return
    if rows:
        sys.exit(f"{database.url!r} has routines of others; the demonstration wants its own.")
    database.run("DELETE FROM routines")
    database.run("DELETE FROM routine_runs")


@contextlib.contextmanager
def running(demo: Demo) -> Iterator[None]:
    """A worker and the scheduler, which are gone afterwards whatever happens."""
    demo.step("Start a worker and the scheduler")
    try:
        for name, arguments in (("worker", WORKER), ("scheduler", BEAT)):
            print(f"  $ {CELERY} {' '.join(arguments[:2])}")
            with (home / f"{name}.log").open("wb") as log:
                demo.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", *CELERY.split(), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches us alone, and we stop them in order
                )
        yield
    finally:
        for process in demo.processes.values():
            process.terminate()
        for process in demo.processes.values():
            # A worker that polls a database for messages takes Celery five seconds to stop.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def tell_how_to_go_on(demo: Demo) -> None:
    demo.step("Go on by hand")
    for command in (
        f"{CELERY} worker --loglevel=INFO",
        f"{CELERY} beat --scheduler=routines --loglevel=INFO",
        'python -m example.sql "SELECT name, active, schedule FROM routines"',
        "python -m example.sql \"UPDATE routines SET active = false WHERE name = 'example.pulse'\"",
    ):
        print(f"  $ .venv/bin/{command}")
    demo.say("The tasks are in example/tasks.py, the settings in example/app.py.")


def main() -> int:
    database = Database()
    start_afresh(database)
    demo = Demo(database)
    print("celery-sqlalchemy-kit: periodic Celery tasks in a SQL table, shown in half a minute.")
    print(f"Table: {database.url!r}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running(demo):
            for step in STEPS:
                step(demo)
    except DidNotHappen as missing:
        print(f"\nThis did not happen: {missing}. The last lines of the logs in {home}:")
        for name in demo.processes:
            lines = (home / f"{name}.log").read_text(errors="replace").splitlines()
            print(f"\n{name}:", *lines[-25:], sep="\n  ")
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    tell_how_to_go_on(demo)
    return 0


if __name__ == "__main__":
    sys.exit(main())
