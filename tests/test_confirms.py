"""To RabbitMQ many messages are published at a time; what it confirms counts, nothing else."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from amqp.exceptions import MessageNacked
from celery import Celery, signals
from celery.beat import Scheduler
from kombu import Connection, Queue
from proxy import Proxy, address_of

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.dispatch import GATHERED, Publisher
from celery_sqlalchemy_kit.routines import Cause, Routine, Run
from celery_sqlalchemy_kit.storage.values import Claimed

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Beat(Scheduler):
    def __init__(self, app):
        super().__init__(app, lazy=True)
        clock = SettableClock(NOON)
        self.publisher = Publisher(
            app, lambda *a, **k: self.apply_entry(*a, **k), clock, patience=timedelta(seconds=5)
        )

    def apply_async(self, entry, producer=None, **_):
        return self.publisher.send(entry, producer)

    def publish(self, claimed):
        """The runs that were sent, and those at fault with the names of their faults."""
        sent = []
        now = self.publisher._clock.monotonic()
        faults = self.publisher.publish(claimed, now, sent)
        return sent, {run.id: fault.partition(":")[0] for run, fault in faults}


@pytest.fixture
def queue(rabbitmq_url):
    """The name of a queue of its own, which goes in the end."""
    name = f"tests-{uuid4()}"
    yield name
    with Connection(rabbitmq_url) as connection:
        connection.default_channel.queue_delete(name)


@pytest.fixture
def beat(queue):
    """Makes the beat of an app whose queue has these arguments."""
    made = []

    def make(url, arguments=None, **conf):
        app = Celery("shop", broker=url, set_as_current=False)
        app.conf.update(conf, task_default_queue=queue)
        app.conf.task_queues = [Queue(queue, routing_key=queue, queue_arguments=arguments)]
        made.append(Beat(app))
        return made[-1]

    yield make
    for each in made:
        each.publisher.close()
        each.app.close()


def held(number, **options):
    runs = (
        Run(uuid4(), uuid4(), "r", "add", NOON, Cause.SCHEDULE, options=options)
        for _ in range(number)
    )
    return [
        Claimed(run, NOON, Routine(run.routine_id, "r", "add", schedules.parse(15))) for run in runs
    ]


def ids(claimed):
    return [each.run.id for each in claimed]


def received(url, queue):
    found = []
    with Connection(url) as connection:
        while (message := connection.default_channel.basic_get(queue, no_ack=True)) is not None:
            found.append(message.headers["id"])
            json.loads(message.body)
    return found


@contextmanager
def listening(signal):
    heard = []

    def hear(headers=None, **_):
        heard.append(headers["id"])

    signal.connect(hear, weak=False)
    yield heard
    signal.disconnect(hear)


@contextmanager
def waits(publisher):
    """How often the broker's word is waited for."""
    confirms, seen = publisher._confirms, []

    def wait():
        seen.append(len(confirms.unconfirmed))
        type(confirms)._wait(confirms)

    confirms._wait = wait
    yield seen
    del confirms._wait


@pytest.mark.parametrize("listens", [False, True])
def test_a_group_is_published_and_then_waited_for(beat, queue, rabbitmq_url, listens):
    sending, claims = beat(rabbitmq_url), held(2 * GATHERED + 50)
    assert sending.publisher.ready()
    signal = signals.after_task_publish if listens else signals.before_task_publish
    with listening(signal) as heard, waits(sending.publisher) as seen:
        sent, faults = sending.publish(claims)
    assert [ids(claims), {}] == [sent, faults]
    assert list(map(str, sent)) == received(rabbitmq_url, queue) == heard
    assert len(seen) == (len(claims) if listens else 3)


def test_what_the_broker_does_not_take_is_at_fault_and_the_rest_is_sent(beat, queue, rabbitmq_url):
    sending = beat(rabbitmq_url, {"x-max-length": 2, "x-overflow": "reject-publish"})
    claims = held(5)
    sent, faults = sending.publish(claims)
    assert set(ids(claims)) == {*sent, *faults}
    assert 2 <= len(sent) == len(received(rabbitmq_url, queue)) < 5
    assert {MessageNacked.__name__} == set(faults.values())


def test_a_message_that_ends_the_channel_is_at_fault_alone(beat, queue, rabbitmq_url):
    sending = beat(rabbitmq_url)
    (bad,) = held(1, exchange="nowhere", routing_key="a")
    left, faults = [*held(3), bad, *held(3)], {}
    good = {each.run.id for each in left} - {bad.run.id}
    for _ in range(6):  # what was neither sent nor at fault comes again
        sent, found = sending.publish(left)
        faults |= found
        left = [each for each in left if each.run.id not in sent and each.run.id not in found]
        assert sending.publisher._connect()  # as once the broker answers
    assert not left
    assert {bad.run.id: "NotFound"} == faults
    assert set(map(str, good)) == set(received(rabbitmq_url, queue))


@pytest.mark.parametrize("how", ["hang", "cut"])
def test_what_is_not_confirmed_does_not_count(beat, queue, rabbitmq_url, how):
    with Proxy(address_of(rabbitmq_url)) as proxy:
        sending, claims = beat(proxy.through(rabbitmq_url)), held(7)
        assert [ids(claims[:3]), {}] == list(sending.publish(claims[:3]))
        getattr(proxy, how)()
        if how == "cut":
            proxy.refuse()
        assert ([], {}) == sending.publish(claims[3:])
        assert sending.publisher._outage.lasts


def test_who_wants_no_confirms_gets_none(beat, rabbitmq_url):
    said = {"confirm_publish": False}
    sending = beat(rabbitmq_url, broker_transport_options=said)
    claims = held(3)
    assert [ids(claims), {}] == list(sending.publish(claims))
    assert sending.publisher._confirms is None
