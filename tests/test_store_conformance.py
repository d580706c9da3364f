"""The conformance suite: the SQL store passes it, and a store that is broken does not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.due import Decision
from celery_sqlalchemy_kit.routines import State
from celery_sqlalchemy_kit.storage.values import Begun, Presence
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import Ledger
from celery_sqlalchemy_kit.store.store import Store
from celery_sqlalchemy_kit.tables import removed, routines, runs, schedulers
from celery_sqlalchemy_kit.testing import SettableClock, StoreConformance


class SqlBench:
    """SQL as `Bench` has it; *store*, *ledger*: the classes that are put to the proof."""

    def __init__(self, url, store=Store, ledger=Ledger):
        self.url, self.store_class, self.ledger_class = url, store, ledger
        self.clock = SettableClock(datetime.now(UTC))
        self.engine = make_engine(url)
        migrations.migrate(self.engine)
        with self.engine.begin() as connection:
            for table in (routines, runs, removed, schedulers):
                connection.execute(table.delete())

    def store(self, namespace=""):
        me = Presence(uuid4(), namespace, "test", 0)
        return self.store_class(make_engine(self.url), me, clock=self.clock)

    def ledger(self):
        return self.ledger_class(make_engine(self.url), self.clock)

    def edit(self, name, **fields):
        if "schedule" in fields:
            fields["schedule"] = json.dumps(fields["schedule"])
        with self.engine.begin() as connection:
            connection.execute(routines.update().where(routines.c.name == name).values(fields))

    def routines(self):
        return [name for (name,) in self._all(routines.c.name)]

    def runs(self):
        return {key: State(state) for key, state in self._all(runs.c.id, runs.c.state)}

    def _all(self, *columns):
        with self.engine.connect().execution_options(reading=True) as connection:
            return connection.execute(sa.select(*columns)).all()


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def shared(request, tmp_path_factory):
    """The URL of one database for all, on each in turn: to make one takes longer than a test."""
    if request.param == "sqlite":
        yield URL.create("sqlite", database=str(tmp_path_factory.mktemp("store") / "routines.db"))
        return
    server = request.getfixturevalue(f"_{request.param}_server")
    entry = "postgres" if request.param == "postgresql" else None
    admin = sa.create_engine(
        server.set(database=entry), isolation_level="AUTOCOMMIT", poolclass=NullPool, future=True
    )
    name = f"test_{uuid4().hex}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server.set(database=name)
    with admin.connect() as connection:
        # A session whose client has closed it may take a moment to end.
        forced = " WITH (FORCE)" if request.param == "postgresql" else ""
        connection.exec_driver_sql(f"DROP DATABASE {name}{forced}")


class TestSqlStore(StoreConformance):
    @pytest.fixture
    def bench(self, shared):
        return SqlBench(shared)


# -- it finds what is wrong -------------------------------------------------------------------


class ConfirmsNothing(Store):
    def confirm(self, published):
        pass


class RescuesAtOnce(Store):
    def rescue(self, judge, *, age, limit):
        return super().rescue(judge, age=timedelta(0), limit=limit)


class ClaimsAgain(Store):
    """What another has claimed is claimed as well."""

    claimed = ()

    def claim(self, *args, **kwargs):
        batch = super().claim(*args, **kwargs)
        before, ClaimsAgain.claimed = ClaimsAgain.claimed, batch.claimed
        return replace(batch, claimed=batch.claimed + before)


class CommitsHalf(Store):
    def claim(self, decide, **kwargs):
        raised = []

        def catching(routine, now):
            try:
                return decide(routine, now)
            except ZeroDivisionError as error:
                raised.append(error)
                return Decision((), (), routine.occurrence_at, routine.next_run_at)

        batch = super().claim(catching, **kwargs)
        if raised:
            raise raised[0]
        return batch


class PrunesAll(Store):
    def prune(self, before, changes_before, *, limit):
        with self.engine.begin() as connection:
            return connection.execute(runs.delete()).rowcount


class BeginsAnything(Ledger):
    def begin(self, *args, **kwargs):
        super().begin(*args, **kwargs)
        return Begun.BEGUN


class EndsForAnybody(Ledger):
    def end(self, run_id, attempt_id, state, **kwargs):
        with self._engine.connect().execution_options(reading=True) as connection:
            owner = sa.select(runs.c.attempt_id).where(runs.c.id == run_id)
            attempt_id = connection.execute(owner).scalar_one()
        return super().end(run_id, attempt_id, state, **kwargs)


BROKEN = [
    (ConfirmsNothing, "test_what_is_published_is_sent_however_often_it_is_confirmed"),
    (RescuesAtOnce, "test_the_claims_of_a_killed_scheduler_are_rescued_once"),
    (ClaimsAgain, "test_what_is_due_is_claimed_once_by_any_number_of_schedulers"),
    (ClaimsAgain, "test_an_id_that_is_there_is_not_claimed_again"),
    (CommitsHalf, "test_a_decision_that_raises_leaves_nothing_half_done"),
    (PrunesAll, "test_only_what_ended_is_pruned"),
    (BeginsAnything, "test_a_run_is_begun_once"),
    (EndsForAnybody, "test_a_run_is_ended_by_the_attempt_that_began_it"),
]


@pytest.mark.parametrize(("broken", "test"), BROKEN)
def test_a_broken_store_is_found_out(sqlite, broken, test):
    ClaimsAgain.claimed = ()
    side = "store" if issubclass(broken, Store) else "ledger"

    with pytest.raises(AssertionError):
        getattr(StoreConformance(), test)(SqlBench(sqlite, **{side: broken}))


def test_nobody_but_the_suite_imports_pytest():
    program = """
import sys, celery_sqlalchemy_kit.scheduler, celery_sqlalchemy_kit.cli, celery_sqlalchemy_kit.testing
assert "pytest" not in sys.modules
celery_sqlalchemy_kit.testing.StoreConformance
assert "pytest" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
