"""What is published of a claimed run, and what becomes of it when it cannot be."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import pytest
from celery import Celery, signals
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule
from kombu.transport import memory
from proxy import Proxy, address_of
from servers import free_port, wait_for

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.broker import BROKER_SECONDS
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.dispatch import Publisher
from celery_sqlalchemy_kit.link import PROBE_SECONDS
from celery_sqlalchemy_kit.routines import HEADER, Cause, Routine, Run
from celery_sqlalchemy_kit.storage.values import Claimed

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
CLAIMED_AT = NOON + timedelta(milliseconds=7)
PATIENCE = timedelta(seconds=5)


def add(x=0, y=0):
    return x + y


class Published(NamedTuple):
    """What became of a batch; what is in neither stays claimed."""

    sent: tuple
    faults: tuple


class Beat(Scheduler):
    """A beat's scheduler, as far as publishing goes."""

    def __init__(self, app, clock):
        super().__init__(app, lazy=True)
        self.publisher = Publisher(
            app, lambda *args, **kwargs: self.apply_entry(*args, **kwargs), clock, patience=PATIENCE
        )

    def apply_async(self, entry, producer=None, **kwargs):
        return self.publisher.send(entry, producer)

    def publish(self, claimed, since):
        sent = []
        faults = self.publisher.publish(claimed, since, sent)
        return Published(tuple(sent), tuple(faults))


@pytest.fixture
def clock():
    return SettableClock(NOON)


@pytest.fixture
def beat(clock):
    """Makes the beat of an app that has one task; it is left without a broker in the end."""
    made = []

    def make(broker="memory://", **conf):
        app = Celery(broker=broker, set_as_current=False)
        app.conf.update(conf)
        app.task(add, name="add", shared=False)
        made.append(Beat(app, clock))
        return made[-1]

    yield make
    for each in made:
        each.publisher.close()
        each.app.close()
    memory.Channel.queues.clear()


@pytest.fixture
def received(beat):
    """The messages in an in-memory queue: properties, headers, body."""

    def receive(app, queue="celery"):
        found = []
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            app.amqp.queues[queue](channel).declare()
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                found.append((message.properties, message.headers, message.decode()))
        return found

    return receive


def held(task="add", every=15, claimed_at=CLAIMED_AT, **fields):
    """A claimed run and the routine that it came from."""
    routine = Routine(uuid4(), "report", task, schedules.parse(every))
    run = Run(uuid4(), routine.id, routine.name, task, NOON, Cause.SCHEDULE, **fields)
    return Claimed(run, claimed_at, routine)


def test_the_message_of_a_run_says_whose_it_is_and_carries_what_the_run_does(beat, received, clock):
    sending = beat()
    known = held(args=(1,), kwargs={"y": 2}, options={"priority": 3})
    unknown = held("elsewhere", args=(3,), options={"headers": {"x-team": "us"}, "expires": 60})

    published = sending.publish([known, unknown], clock.monotonic())

    assert (known.run.id, unknown.run.id) == published.sent
    assert () == published.faults
    (first, first_headers, first_body), (_, headers, body) = received(sending.app)
    assert [(1,), {"y": 2}] == [tuple(first_body[0]), first_body[1]]
    assert [[3], {}] == body[:2]
    assert 3 == first["priority"]
    assert str(known.run.id) == first_headers["id"] == first["correlation_id"]
    assert ("add", "elsewhere") == (first_headers["task"], headers["task"])
    assert {CLAIMED_AT.isoformat()} == {first_headers[HEADER], headers[HEADER]}
    assert CLAIMED_AT == datetime.fromisoformat(headers[HEADER])
    assert (True, "us") == (headers["celery_beat_task"], headers["x-team"])
    assert headers["expires"] is not None


def test_options_send_a_run_to_another_queue_and_routes_are_followed(beat, received, clock):
    sending = beat(task_routes={"elsewhere": {"queue": "routed"}})

    sending.publish([held(options={"queue": "other"}), held("elsewhere")], clock.monotonic())

    assert 1 == len(received(sending.app, "other"))
    assert 1 == len(received(sending.app, "routed"))


@pytest.mark.parametrize(
    ("task", "fields", "said"),
    [
        ("add", {"options": {"serializer": "nonsense"}}, "nonsense"),
        ("add", {"options": {"countdown": "soon"}}, "TypeError"),
        ("add", {"kwargs": {"z": 1}}, "TypeError"),
        ("elsewhere", {"options": {"expires": "never"}}, "Error: "),
    ],
)
def test_a_message_at_fault_is_noted_and_disturbs_no_other(
    beat, received, clock, task, fields, said
):
    sending = beat()
    bad = held(task, **fields)
    good = [held(), held()]

    published = sending.publish([good[0], bad, good[1]], clock.monotonic())

    assert tuple(each.run.id for each in good) == published.sent
    ((run, fault),) = published.faults
    assert bad.run is run
    assert said in fault
    assert 2 == len(received(sending.app))


def test_a_claim_that_another_scheduler_is_about_to_take_over_is_not_published(
    beat, received, clock, caplog
):
    sending = beat()
    sending.publisher.ready()
    claimed_since = clock.monotonic()
    clock.advance(PATIENCE)
    assert 1 == len(sending.publish([held()], claimed_since).sent)

    clock.advance(0.001)
    published = sending.publish([held()], claimed_since)

    assert ((), ()) == (published.sent, published.faults)
    assert 1 == len(received(sending.app))
    assert "publishing is slow" in caplog.text


def test_each_run_gets_an_entry_of_its_own_with_a_schedule_that_hooks_can_read(
    beat, clock, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        Scheduler, "apply_entry", lambda self, entry, producer=None: seen.append((entry, producer))
    )
    sending = beat()
    options = {"queue": "other"}
    orphan = Claimed(held().run, CLAIMED_AT)

    sending.publish([held(every=15, options=options), orphan], clock.monotonic())

    (entry, producer), (other, _) = seen
    assert isinstance(entry, ScheduleEntry)
    assert producer is not None
    assert ("report", "add") == (entry.name, entry.task)
    assert schedule(15) == entry.schedule
    assert isinstance(other.schedule, schedule)
    entry.options["queue"] = "changed"
    assert {"queue": "other"} == options


def as_sentry_does(original):
    """The wrapper of `Scheduler.apply_entry` by which Sentry Crons hooks into beat."""

    def patched(*args, **kwargs):
        scheduler, entry = args
        assert scheduler.app is not None
        headers = entry.options.pop("headers", {})
        headers.update({"sentry-monitor-slug": entry.name})
        entry.options["headers"] = headers
        return original(*args, **kwargs)

    return patched


def test_a_hook_round_apply_entry_keeps_working_and_its_headers_arrive(
    beat, received, clock, monkeypatch
):
    monkeypatch.setattr(Scheduler, "apply_entry", as_sentry_does(Scheduler.apply_entry))
    sending = beat()
    run = held(options={"headers": {"x-team": "us"}})

    published = sending.publish([run], clock.monotonic())

    assert (run.run.id,) == published.sent
    ((_, headers, _),) = received(sending.app)
    assert ("report", "us") == (headers["sentry-monitor-slug"], headers["x-team"])
    assert (str(run.run.id), CLAIMED_AT.isoformat()) == (headers["id"], headers[HEADER])
    assert {"headers": {"x-team": "us"}} == run.run.options, "the run itself stays as it is"


@pytest.mark.parametrize("sends", [False, True])
def test_a_hook_that_raises_is_noted_for_its_run_and_disturbs_no_other(
    beat, received, clock, monkeypatch, sends
):
    original = Scheduler.apply_entry

    def apply_entry(self, entry, producer=None):
        if sends or entry.run is not bad.run:
            original(self, entry, producer=producer)
        if entry.run is bad.run:
            raise LookupError("no such monitor")

    monkeypatch.setattr(Scheduler, "apply_entry", apply_entry)
    sending = beat()
    bad, good = held(), held()

    published = sending.publish([bad, good], clock.monotonic())

    if sends:
        assert (bad.run.id, good.run.id) == published.sent
        assert () == published.faults
    else:
        assert (good.run.id,) == published.sent
        assert ((bad.run, "LookupError: no such monitor"),) == published.faults
    assert len(published.sent) == len(received(sending.app))


def test_what_was_sent_is_known_when_a_stop_comes_within_a_batch(
    beat, received, clock, monkeypatch
):
    original = Scheduler.apply_entry

    def apply_entry(self, entry, producer=None):
        if entry.run is last.run:
            raise SystemExit
        original(self, entry, producer=producer)

    monkeypatch.setattr(Scheduler, "apply_entry", apply_entry)
    sending = beat()
    first, last, sent = held(), held(), []

    with pytest.raises(SystemExit):
        sending.publisher.publish([first, last], clock.monotonic(), sent)

    assert [first.run.id] == sent
    assert 1 == len(received(sending.app))


def test_what_a_hook_swallows_counts_as_unsent(beat, clock, monkeypatch):
    monkeypatch.setattr(Scheduler, "apply_entry", lambda self, entry, producer=None: None)

    published = beat().publish([held()], clock.monotonic())

    assert ((), ()) == (published.sent, published.faults)


@pytest.fixture
def behind_proxy(redis_url):
    """A proxy before Redis, and Redis's URL by way of it."""
    with Proxy(address_of(redis_url)) as proxy:
        yield proxy, proxy.through(redis_url)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "celery_sqlalchemy_kit")
    return lambda: [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("celery_sqlalchemy_kit")
    ]


def back(publisher, clock):
    """Let time pass until the broker is knocked at, and wait until it has answered."""

    def ready():
        clock.advance(PROBE_SECONDS)
        return publisher.ready()

    wait_for(ready, what="a broker that is back")


def test_a_broker_that_cannot_be_reached_is_said_once_and_said_when_back(
    beat, behind_proxy, clock, said
):
    proxy, url = behind_proxy
    proxy.refuse()
    publisher = beat(url).publisher

    for _ in range(8):
        assert not publisher.ready()
        clock.advance(PROBE_SECONDS)
    proxy.resume()
    back(publisher, clock)
    assert publisher.ready()

    assert 2 == len(said())
    assert f"127.0.0.1:{proxy.port}" in said()[0]
    assert "cannot be reached, nothing is claimed" in said()[0]
    assert "the broker is back after " in said()[1]


def test_a_broker_that_goes_away_within_a_batch_is_said_once_and_no_run_is_at_fault(
    beat, behind_proxy, redis_url, clock, said
):
    import redis

    proxy, url = behind_proxy
    sending = beat(url)
    assert 1 == len(sending.publish([held()], clock.monotonic()).sent)
    proxy.refuse()

    published = sending.publish([held(), held(), held()], clock.monotonic())

    assert ((), ()) == (published.sent, published.faults)
    assert not sending.publisher.ready()
    assert 1 == len(said())
    proxy.resume()
    back(sending.publisher, clock)
    again = held()
    assert (again.run.id,) == sending.publish([again], clock.monotonic()).sent
    assert 2 == len(said())
    with redis.Redis.from_url(redis_url) as client:
        ids = [json.loads(each)["headers"]["id"] for each in client.lrange("celery", 0, -1)]
    assert str(again.run.id) == ids[0]
    assert 2 == len(ids)


@pytest.mark.parametrize("hooked", [False, True], ids=["at once", "one by one"])
def test_a_broker_that_hangs_within_a_batch_is_given_up_before_long_and_tried_once(
    beat, behind_proxy, clock, said, hooked
):
    proxy, url = behind_proxy
    # A policy of the app's must not multiply the deadline.
    sending = beat(url, task_publish_retry=True, task_publish_retry_policy={"max_retries": 9})
    with after_task_publish_is_listened_to() if hooked else nullcontext():
        assert 1 == len(sending.publish([held()], clock.monotonic()).sent)
        proxy.hang()

        began = time.monotonic()
        published = sending.publish([held(), held(), held()], clock.monotonic())

    assert BROKER_SECONDS <= time.monotonic() - began < 2 * BROKER_SECONDS
    assert ((), ()) == (published.sent, published.faults)
    assert 1 == len(said())
    proxy.resume("dead")
    back(sending.publisher, clock)
    assert 1 == len(sending.publish([held()], clock.monotonic()).sent)


@contextmanager
def after_task_publish_is_listened_to():
    def hear(**_):
        pass

    signals.after_task_publish.connect(hear)
    yield
    signals.after_task_publish.disconnect(hear)


def test_nobody_waits_for_a_broker_that_hangs_while_it_is_knocked_at(
    beat, behind_proxy, clock, said
):
    proxy, url = behind_proxy
    proxy.refuse()
    publisher = beat(url).publisher
    assert not publisher.ready()
    proxy.resume()
    proxy.hang()

    began = time.monotonic()
    for _ in range(8):
        clock.advance(PROBE_SECONDS)
        assert not publisher.ready()
    assert time.monotonic() - began < BROKER_SECONDS

    proxy.resume("dead")
    back(publisher, clock)


def test_an_idle_connection_that_was_cut_is_no_outage(beat, behind_proxy, clock, said):
    proxy, url = behind_proxy
    sending = beat(url)
    sending.publish([held()], clock.monotonic())

    proxy.cut()

    assert 1 == len(sending.publish([held()], clock.monotonic()).sent)
    assert [] == said()


def test_nothing_connects_to_redis_any_more_when_messages_are_to_leave(beat, redis_url, clock):
    import redis

    sending = beat(redis_url)
    assert sending.publisher.ready()
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_connections_received"]
        assert 1 == len(sending.publish([held()], clock.monotonic()).sent)
        assert before == client.info("stats")["total_connections_received"]


def test_deadlines_that_the_user_has_set_for_the_broker_stay(beat, redis_url):
    theirs = {"socket_timeout": 7.5}
    publisher = beat(redis_url, broker_transport_options=theirs).publisher
    assert publisher.ready()

    options = publisher._link._connection.transport_options
    assert (7.5, BROKER_SECONDS) == (options["socket_timeout"], options["socket_connect_timeout"])
    assert {"socket_timeout": 7.5} == theirs


@pytest.mark.parametrize("task", ["add", "elsewhere"])
def test_what_is_told_in_seconds_counts_from_the_claim_whatever_this_machine_takes_for_now(
    beat, received, clock, task
):
    sending = beat()
    long_ago = NOON - timedelta(minutes=7)
    run = held(task, claimed_at=long_ago, options={"countdown": 30, "expires": 90.5})

    sending.publish([run], clock.monotonic())

    ((properties, headers, _),) = received(sending.app)
    assert long_ago + timedelta(seconds=30) == datetime.fromisoformat(headers["eta"])
    assert long_ago + timedelta(seconds=90.5) == datetime.fromisoformat(headers["expires"])
    assert "90500" == properties["expiration"], "the broker's own deadline counts from now"


def test_a_tasks_own_expiry_counts_from_the_claim_too_and_instants_stay_as_they_are(
    beat, received, clock
):
    sending = beat()
    sending.app.tasks["add"].expires = 60
    at = "2031-02-03T04:05:06+00:00"

    sending.publish([held(), held(options={"expires": at, "eta": at})], clock.monotonic())

    (_, first, _), (_, second, _) = received(sending.app)
    assert CLAIMED_AT + timedelta(seconds=60) == datetime.fromisoformat(first["expires"])
    assert first["eta"] is None
    assert [at, at] == [second["expires"], second["eta"]]


def test_the_password_of_the_broker_is_not_shown(beat, clock, said):
    publisher = beat(f"redis://:hunter2@127.0.0.1:{free_port()}/0").publisher

    assert not publisher.ready()

    assert 1 == len(said())
    assert "hunter2" not in said()[0]


def test_closing_takes_no_answer_of_the_broker_and_may_be_repeated(beat, behind_proxy, clock):
    proxy, url = behind_proxy
    sending = beat(url)
    sending.publish([held()], clock.monotonic())
    proxy.hang()

    closing = threading.Thread(
        target=lambda: (sending.publisher.close(), sending.publisher.close())
    )
    closing.start()

    wait_for(lambda: not closing.is_alive(), timeout=10, what="the end of close()")
