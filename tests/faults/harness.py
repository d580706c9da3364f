"""Many schedulers and workers, killed and cut off at random for as long as you like.

    python tests/faults/harness.py --minutes 60 --seed 1 --schedulers 3 --workers 2 --routines 300

exits with 0 if every promise held; see README.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

HERE = Path(__file__).parent
for _each in (HERE, HERE.parent, HERE.parent.parent):
    if str(_each) not in sys.path:
        sys.path.insert(0, str(_each))

import sqlalchemy as sa  # noqa: E402
from population import Planned, population  # noqa: E402
from servers import wait_for  # noqa: E402
from verdict import UNFINISHED, Effect, Trial, Verdict, judge  # noqa: E402
from world import CONCURRENCY, World  # noqa: E402

from celery_sqlalchemy_kit import migrations  # noqa: E402
from celery_sqlalchemy_kit.tables import routines, runs  # noqa: E402

#: In the output of a process: nobody foresaw this.
UNEXPECTED = ("CRITICAL", "a turn failed", "a chore failed", "raised unexpected", "Unrecoverable")

#: Which part of all pool processes long runs may occupy. Workers that are killed, stopped and cut
#: off are away for about a third of the time, and what has waited has to be made up for.
BUSY = 0.35


@dataclass(frozen=True)
class Plan:
    """*seconds* of faults, one every *pause* seconds on average. *rate*: runs a second."""

    seconds: float
    seed: int
    schedulers: int = 3
    workers: int = 2
    routines: int = 300
    rate: float = 25.0
    pause: float = 4.0
    keeps: bool = True
    #: The longest in which nothing more may come to rest, of what is still to.
    settle: float = 90.0


class Faults:
    """What is done to a `World`, and what is undone later."""

    def __init__(self, world: World, random: Random) -> None:
        self._world, self._random = world, random
        self.done: Counter[str] = Counter()
        self._undo: list[tuple[float, Callable[[], None]]] = []
        kills: dict[str, Callable[[], None]] = {
            "kill scheduler": lambda: world.kill("beat"),
            "kill worker": lambda: world.kill("worker"),
            "kill worker's main process": world.kill_main,
            "kill pool process": world.kill_pool_process,
            "stop scheduler": lambda: world.terminate("beat"),
            "stop worker": lambda: world.terminate("worker"),
        }
        lasting: dict[str, Callable[[], None]] = {
            "pause scheduler": lambda: self._pause("beat"),
            "pause worker": lambda: self._pause("worker"),
            "crash PostgreSQL": world.postgres.crash,
            "crash Redis": world.redis.crash,
            "drop the answer of a COMMIT": self._drop,
            **{f"network: {what}": self._network(what) for what in ("cut", "hang", "refuse")},
            "network: slow": self._network("delay", 0.1),
        }
        self._deeds = {**kills, **lasting}
        self._weights = [4, 3, 1, 4, 1, 1, 2, 2, 1, 1, 3, 1, 1, 1, 1]

    def happen(self) -> None:
        """One more; and what was killed before comes back, sooner or later."""
        self.mend(time.monotonic())
        if self._random.random() < 0.7:
            self._world.start()
        name = self._random.choices(list(self._deeds), self._weights)[0]
        self.done[name] += 1
        self._deeds[name]()

    def mend(self, now: float) -> None:
        """Undo what has lasted until *now*."""
        due = [undo for until, undo in self._undo if until <= now]
        self._undo = [(until, undo) for until, undo in self._undo if until > now]
        for undo in due:
            undo()

    def end(self) -> None:
        """All is well again."""
        self.mend(float("inf"))
        for proxy in self._world.proxies.values():
            proxy.resume()
            proxy.delay(0)
        self._world.start()

    def _later(self, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + self._random.choice([0.5, 2, 4, 9]), undo))

    def _pause(self, kind: str) -> None:
        process = self._world.pause(kind)
        self._later(lambda: self._world.resume(process))

    def _drop(self) -> None:
        kind = self._random.choice(["beat", "worker"])
        self._world.proxies[kind, "database"].drop_commit()

    def _network(self, what: str, *arguments: float) -> Callable[[], None]:
        def fail() -> None:
            proxy = self._random.choice(list(self._world.proxies.values()))
            getattr(proxy, what)(*arguments)
            dead = "dead" if what == "hang" and self._random.random() < 0.3 else ""
            self._later(lambda: proxy.delay(0) if what == "delay" else proxy.resume(dead))

        return fail


def try_out(plan: Plan, home: Path, say: Callable[[str], None] = print) -> Verdict:
    """One trial, from the first routine to the verdict."""
    random = Random(plan.seed)
    crowd = World(home, random, schedulers=plan.schedulers, workers=plan.workers, keeps=plan.keeps)
    with crowd as world:
        planned, since = _populate(world, random, plan)
        world.start()
        say(f"seed {plan.seed}: {plan.seconds:.0f} s of faults, {len(planned)} routines; {home}")
        faults = Faults(world, random)
        end = time.monotonic() + plan.seconds
        while (now := time.monotonic()) < end:
            time.sleep(min(random.expovariate(1 / plan.pause), end - now))
            faults.happen()
        faults.end()
        say(f"faults: {sum(faults.done.values())}, {dict(faults.done)}")
        trial = _settle(world, plan, planned, since)
        verdict = judge(trial)
        for process in world.started:
            for line in process.output().splitlines():
                if any(each in line for each in UNEXPECTED):
                    say(f"{process.name}: {line}")
        return verdict


def _populate(world: World, random: Random, plan: Plan) -> tuple[list[Planned], dict[UUID, object]]:
    migrations.migrate(world.engine)
    with world.engine.begin() as connection:
        at = connection.execute(sa.select(sa.func.now())).scalar_one() + timedelta(
            seconds=plan.seconds / 2
        )
        busy = plan.workers * CONCURRENCY * BUSY
        planned = population(random, plan.routines, at.isoformat(), rate=plan.rate, busy=busy)
        connection.execute(routines.insert(), _alike([each.row() for each in planned]))
    with world.engine.connect() as connection:
        return planned, dict(
            connection.execute(sa.select(routines.c.id, routines.c.edited_at)).all()
        )


def _alike(rows: list[dict]) -> list[dict]:
    defaults = {"catch_up": "latest", "overlap": "allow", "jitter": 0}
    return [{**defaults, **row} for row in rows]


def _settle(world: World, plan: Plan, planned: list[Planned], since: dict) -> Trial:
    """Let what is late be dealt with, switch everything off, and wait until all has ended."""
    late = sa.select(sa.func.count()).where(
        routines.c.active, routines.c.next_run_at < sa.func.now() - timedelta(seconds=1)
    )

    def is_on_time() -> bool:
        world.start()
        with world.engine.connect() as connection:
            return connection.execute(late).scalar_one() == 0

    wait_for(is_on_time, plan.settle, 0.2, what="dispatch on time after the faults")
    unfinished = sa.select(sa.func.count()).where(runs.c.state.in_(UNFINISHED))
    with world.engine.begin() as connection:
        until = connection.execute(sa.select(sa.func.now())).scalar_one() - timedelta(seconds=1)
        connection.execute(routines.update().values(active=False))

    _await_rest(world, unfinished, plan.settle)  # the verdict names what is stuck
    time.sleep(2)  # what is begun once more would be so by then
    with world.engine.connect() as connection:
        rows = connection.execute(sa.select(runs)).all()
        counts = dict(
            connection.execute(sa.select(routines.c.id, routines.c.total_run_count)).all()
        )
    return Trial(planned, rows, counts, _effects(world), _lost(world), since, until)


def _await_rest(world: World, unfinished: sa.Select, patience: float) -> None:
    """Until no run is unfinished, or for *patience* seconds none more has been finished: workers
    that have fallen behind on a slow machine are not stuck."""
    fewest, since = None, time.monotonic()
    while time.monotonic() - since < patience:
        world.start()
        with world.engine.connect() as connection:
            left = connection.execute(unfinished).scalar_one()
        if not left:
            return
        if fewest is None or left < fewest:
            fewest, since = left, time.monotonic()
        time.sleep(0.2)


def _lost(world: World) -> set[UUID]:
    """Of a worker that was silent for too long, and ends its run after all, the log alone tells."""
    logs = "".join(
        log.read_text(errors="replace") for log in world.effects.parent.glob("beat-*.log")
    )
    return set(map(UUID, re.findall(r"\[([0-9a-f-]{36})\] is lost: ", logs)))


def _effects(world: World) -> list[Effect]:
    lines = world.effects.read_text().splitlines() if world.effects.exists() else []
    told = [Effect(**json.loads(line)) for line in lines]
    return [replace(effect, run=UUID(str(effect.run))) for effect in told]


def report(verdict: Verdict) -> str:
    """The verdict in words."""
    lines = [
        f"runs: {dict(verdict.states)}; completed work: {verdict.effects}",
        *(f"  {number:6} {reason}" for reason, number in verdict.reasons.most_common(25)),
        f"{len(verdict.limits)} runs of workers that could not reach the database began twice:",
        *(f"  {each}" for each in verdict.limits[:5]),
        *(f"WRONG: {each}" for each in verdict.wrong),
        f"{len(verdict.wrong)} promises broken",
    ]
    return "\n".join(lines)


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--minutes", type=float, default=1.0)
    reader.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    reader.add_argument("--schedulers", type=int, default=3)
    reader.add_argument("--workers", type=int, default=2)
    reader.add_argument("--routines", type=int, default=300)
    reader.add_argument("--rate", type=float, default=25.0, help="runs a second")
    reader.add_argument("--pause", type=float, default=4.0, help="seconds between faults")
    reader.add_argument("--keep", action="store_true", help="keep the output of the processes")
    reader.add_argument("--forgetful", action="store_true", help="a Redis that keeps nothing")
    given = vars(reader.parse_args())
    keeps, seconds = not given.pop("forgetful"), given.pop("minutes") * 60
    kept = given.pop("keep")
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    verdict = try_out(Plan(seconds, keeps=keeps, **given), home, say)
    say(report(verdict))
    if verdict.wrong or kept:
        say(f"the processes' output is kept in {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if verdict.wrong else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
