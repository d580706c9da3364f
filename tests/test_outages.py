"""Databases and brokers that go away, hang and come back, under beats that are real processes."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time

import celery.beat
import pytest
import sqlalchemy as sa
from proxy import Proxy, address_of
from servers import wait_for
from test_scheduler import (
    NO_WORKER,
    PERIOD,
    POLLING,
    STOP_SECONDS,
    Project,
    steps,
    stop,
)

from celery_sqlalchemy_kit import tables

#: Seconds within which dispatch goes on after a server's return.
BACK_SECONDS = 2
AWAY = "cannot be reached, nothing is"
BACK = "is back after"


class Far(Project):
    """A project whose beats come to one of its servers through a proxy."""

    def __init__(self, processes, database, broker, *, far):
        super().__init__(processes, database, broker)
        self.proxy = Proxy(address_of(database if far == "database" else broker))
        if far == "database":
            self.url = self.proxy.through(database).render_as_string(hide_password=False)
        else:
            self.broker = self.proxy.through(broker)
        #: Another server that is the same, for a fail-over.
        self.other = None
        self.write(POLLING)

    def polling_beat(self, **env):
        beat = self.ready_beat(env)
        self.wait_for_run("poll", count=3)
        return beat

    def seconds_until_back(self):
        """Seconds from now until a run is sent that was claimed after now."""
        now = self.now()
        runs = tables.runs.c
        first = sa.select(sa.func.min(runs.sent_at)).where(runs.claimed_at > now)

        def sent_at():
            with self.engine.connect().execution_options(reading=True) as connection:
                return connection.execute(first).scalar()

        return (wait_for(sent_at, timeout=30, what="a run that is sent") - now).total_seconds()

    def close(self):
        self.proxy.close()
        if self.other is not None:
            self.other.close()
        self.engine.dispose()


@pytest.fixture
def far(processes):
    with contextlib.ExitStack() as made:

        def make(*args, **kwargs):
            project = Far(processes, *args, **kwargs)
            made.callback(project.close)
            return project

        yield make


@pytest.fixture(params=["postgresql", "mariadb"])
def far_database(request, far):
    return far(request.getfixturevalue(request.param), NO_WORKER, far="database")


@pytest.fixture
def far_broker(postgresql, redis_url, far):
    return far(postgresql, redis_url, far="broker")


def outages(beat):
    """How often it has said that a server is away, and that it is back."""
    return beat.output().count(AWAY), beat.output().count(BACK)


def refused(project, beat):
    project.proxy.refuse()
    beat.expect(AWAY)
    away_at = project.now()
    time.sleep(1)
    assert [] == project.runs("poll", after=away_at), "nothing is claimed meanwhile"
    project.proxy.resume()


def hung_and_goes_on(project, beat):
    project.proxy.hang()
    beat.expect(AWAY)
    time.sleep(1)
    project.proxy.resume()


def hung_and_forgot(project, beat):
    """The answers of what is under way never come; nobody hears of the connections' end."""
    project.proxy.hang("answers")
    beat.expect(AWAY)
    time.sleep(1)
    project.proxy.resume("dead")


def hung_for_a_moment_and_forgot(project, beat):
    project.proxy.hang()
    wait_for(lambda: project.proxy.kept, what="something that is kept back")
    time.sleep(1)
    project.proxy.resume("dead")


def failed_over(project, beat):
    project.other = Proxy(project.proxy.target)
    project.proxy.to(("127.0.0.1", project.other.port))


OUTAGES = [refused, hung_and_goes_on, hung_and_forgot, hung_for_a_moment_and_forgot, failed_over]


@pytest.mark.parametrize("outage", OUTAGES)
def test_dispatch_goes_on_within_two_seconds_of_a_databases_return(far_database, outage):
    beat = far_database.polling_beat()

    outage(far_database, beat)

    assert far_database.seconds_until_back() < BACK_SECONDS
    beat.expect(BACK)
    assert (1, 1) == outages(beat)
    assert {PERIOD} == set(steps(far_database.runs("poll"))), "nothing is missed or sent twice"
    assert "Traceback" not in beat.output()


@pytest.mark.parametrize("outage", OUTAGES[:-1])
def test_dispatch_goes_on_within_two_seconds_of_a_brokers_return(far_broker, outage):
    beat = far_broker.polling_beat(SCHEDULER_RESCUE_AFTER="5")

    outage(far_broker, beat)

    assert far_broker.seconds_until_back() < BACK_SECONDS
    beat.expect(BACK)
    assert (1, 1) == outages(beat)
    far_broker.wait_for_run("poll", after=far_broker.now(), count=3)
    runs = far_broker.runs("poll")
    assert {PERIOD} == set(steps(runs))
    wait_for(
        lambda: {"sent"} == {run.state for run in far_broker.runs("poll")[: len(runs)]},
        what="the sending of what was claimed before",
    )
    assert "Traceback" not in beat.output()


def test_sigterm_is_obeyed_at_once_whatever_a_hanging_database_has_stopped(far_database):
    in_a_statement, in_an_outage = [far_database.polling_beat() for _ in range(2)]
    proxy = far_database.proxy
    proxy.hang()
    wait_for(lambda: proxy.kept, what="a statement without an answer")

    assert stop(in_a_statement) < STOP_SECONDS

    in_an_outage.expect(AWAY)
    assert stop(in_an_outage) < STOP_SECONDS
    before = proxy.connections
    starting = far_database.beat()
    wait_for(lambda: proxy.connections > before, what="a connection that is begun")
    assert stop(starting) < STOP_SECONDS
    assert "without a farewell" in in_an_outage.output()


def test_sigterm_is_obeyed_at_once_whatever_a_hanging_broker_has_stopped(far_broker):
    in_a_publish, in_an_outage = [far_broker.polling_beat() for _ in range(2)]
    proxy = far_broker.proxy
    proxy.hang()
    wait_for(lambda: proxy.kept, what="a message without an answer")

    assert stop(in_a_publish) < STOP_SECONDS

    in_an_outage.expect(AWAY)
    starting = far_broker.ready_beat()
    assert stop(starting) < STOP_SECONDS
    assert stop(in_an_outage) < STOP_SECONDS
    assert [] == far_broker.schedulers(), "the database is there to be told"


def test_a_change_is_heard_of_after_an_outage_in_which_nobody_heard_of_the_connections_end(
    far, postgresql
):
    project = far(postgresql, NO_WORKER, far="database")
    beat = project.polling_beat()
    hung_and_forgot(project, beat)
    beat.expect(BACK)
    project.sql("UPDATE routines SET active = false WHERE name IN ('poll', 'other')")
    off_at = project.now()
    wait_for(lambda: project.now() > off_at + 5 * PERIOD, what="an idle scheduler")

    project.run_now("rare")
    ordered_at = project.now()
    (run,) = project.wait_for_run("rare")

    assert run.claimed_at - ordered_at < 5 * PERIOD


STOPPING = """
import os, signal
from celery.beat import Scheduler

original = Scheduler.apply_entry

def apply_entry(self, entry, producer=None):
    if os.environ.get("STOPS") and Path("go").exists() and not Path("stopped").exists():
        Path("stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    original(self, entry, producer=producer)

Scheduler.apply_entry = apply_entry
"""


def test_a_scheduler_that_was_stopped_in_the_middle_of_a_batch_sends_nothing_stale(
    processes, postgresql, redis_url, tmp_path
):
    import redis

    project = Project(processes, postgresql, redis_url)
    project.write(POLLING + STOPPING)
    env = {"SCHEDULER_RESCUE_AFTER": "1"}
    stopped = project.ready_beat(env | {"STOPS": "1"})
    project.wait_for_run("poll", count=3)
    (tmp_path / "go").touch()
    wait_for((tmp_path / "stopped").exists, what="a stop")
    other = project.ready_beat(env)
    claimed = {run.id for run in project.runs("poll", state="claimed")}
    wait_for(
        lambda: claimed & {run.id for run in project.runs("poll", state="sent")},
        what="the sending of what the stopped one had claimed",
    )

    stopped.send_signal(signal.SIGCONT)
    stopped.expect("publishing is slow")
    project.wait_for_run("poll", after=project.now(), count=10)
    for beat in (stopped, other):
        stop(beat)

    with redis.Redis.from_url(redis_url) as client:
        messages = [json.loads(message) for message in client.lrange("celery", 0, -1)]
    sent = [each["headers"]["id"] for each in messages]
    assert len(sent) == len(set(sent))
    assert {PERIOD} == set(steps(project.runs("poll")))
    project.engine.dispose()


if hasattr(celery.beat, "BeatPidbox"):  # since celery 5.7

    def test_a_beat_answers_a_ping_while_its_database_hangs(far, postgresql, redis_url):
        project = far(postgresql, redis_url, far="database")
        # Older than that, a tick counts as one that never ends.
        project.write(POLLING, beat_enable_remote_control=True, beat_remote_control_max_tick_age=3)
        beat = project.polling_beat()
        project.proxy.hang()
        beat.expect(AWAY)
        time.sleep(3)

        name = f"celerybeat@{socket.gethostname()}"
        ping = project.processes.celery("ping", "inspect", "ping", "-d", name, app="proj")

        assert 0 == ping.wait()
        assert f"{name}: OK" in ping.output()
