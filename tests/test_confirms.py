"""To RabbitMQ many messages are published at a time; what it confirms counts, nothing else."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from amqp import Message, spec
from amqp.exceptions import MessageNacked
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from celery import Celery, signals
from celery.beat import Scheduler
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection, Producer, Queue
from proxy import Proxy, address_of
from strategies import properties

from celery_sqlalchemy_kit import dispatch, schedules
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.dispatch import CONFIRMED, Publisher
from celery_sqlalchemy_kit.frames import Frames, taken_apart
from celery_sqlalchemy_kit.routines import Cause, Routine, Run
from celery_sqlalchemy_kit.storage.values import Claimed

#: Before kombu 5.7 every message goes Celery's long way.
HAS_TEMPLATES = hasattr(Producer, "batch")
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Beat(Scheduler):
    """*long*: every message goes Celery's long way."""

    def __init__(self, app, *, long=False):
        super().__init__(app, lazy=True)
        apply_entry = self.apply_entry

        def wrapped(*args, **kwargs):
            apply_entry(*args, **kwargs)

        self.publisher = Publisher(
            app,
            wrapped if long else apply_entry,
            SettableClock(NOON),
            patience=timedelta(seconds=5),
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


def held(number, at=NOON, args=(), kwargs=None, **options):
    claims = []
    for _ in range(number):
        routine = Routine(uuid4(), "r", "add", schedules.parse(15))
        said = {"args": args, "kwargs": kwargs or {}, "options": options}
        run = Run(uuid4(), routine.id, "r", "add", NOON, Cause.SCHEDULE, **said)
        claims.append(Claimed(run, at, routine))
    return claims


def ids(claimed):
    return [each.run.id for each in claimed]


def messages(url, queue):
    """What there is in the queue, message by message: properties, headers among them, and body."""
    found = []
    with Connection(url) as connection:
        while (message := connection.default_channel.basic_get(queue, no_ack=True)) is not None:
            found.append((message.properties, message.headers, message.body))
    return found


def received(url, queue):
    return [headers["id"] for _, headers, _ in messages(url, queue)]


@contextmanager
def listening(signal):
    heard = []

    def hear(headers=None, **_):
        heard.append(headers["id"])

    signal.connect(hear, weak=False)
    try:
        yield heard
    finally:
        signal.disconnect(hear)


@contextmanager
def waits(publisher):
    """How often the broker's word is waited for."""
    confirms, seen = publisher._link.confirms, []

    def wait():
        if confirms._unconfirmed:
            seen.append(len(confirms._unconfirmed))
        type(confirms)._wait(confirms)

    confirms._wait = wait
    yield seen
    del confirms._wait


@pytest.mark.parametrize("listens", [False, True])
def test_a_group_is_published_and_then_waited_for(beat, queue, rabbitmq_url, listens):
    sending, claims = beat(rabbitmq_url), held(2 * CONFIRMED + 50)
    assert sending.publisher.ready()
    signal = signals.after_task_publish if listens else signals.before_task_publish
    with listening(signal) as heard, waits(sending.publisher) as seen:
        sent, faults = sending.publish(claims)
    assert [ids(claims), {}] == [sent, faults]
    assert list(map(str, sent)) == received(rabbitmq_url, queue) == heard
    # The first of its kind by itself, and then the rest of three groups.
    assert len(seen) == (4 if HAS_TEMPLATES and not listens else len(claims))


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
        assert sending.publisher._link.connect()  # as once the broker answers
    assert not left
    assert {bad.run.id: "NotFound"} == faults
    assert sorted(map(str, good)) == sorted(received(rabbitmq_url, queue))


def test_a_queue_that_cannot_be_declared_is_the_fault_of_its_runs_alone(beat, queue, rabbitmq_url):
    sending = beat(rabbitmq_url)
    other = f"{queue}-other"
    with Connection(rabbitmq_url) as connection:
        Queue(other, queue_arguments={"x-max-length": 9})(connection.default_channel).declare()
    sending.app.conf.task_create_missing_queues = True
    sending.app.amqp.queues.add(Queue(other, routing_key=other))
    bad = held(2, queue=other)
    claims = [*held(30), bad[0], *held(30), bad[1], *held(30)]
    sent, faults = sending.publish(claims)
    for _ in range(3):
        left = [each for each in claims if each.run.id not in sent and each.run.id not in faults]
        more, found = sending.publish(left)
        sent, faults = sent + more, faults | found
    assert dict.fromkeys(ids(bad), "PreconditionFailed") == faults
    assert len(claims) - 2 == len(sent)
    assert sorted(map(str, sent)) == sorted(received(rabbitmq_url, queue))
    with Connection(rabbitmq_url) as connection:
        connection.default_channel.queue_delete(other)


def by_tenant(name, args, kwargs, options, task=None, **_):
    return {"priority": kwargs["tenant"]}


def test_a_router_that_raises_is_the_fault_of_its_run_alone(beat, queue, rabbitmq_url):
    sending = beat(rabbitmq_url, task_routes=(by_tenant,))
    good, bad = held(20, kwargs={"tenant": 1}), held(1)
    claims = [*good[:10], *bad, *good[10:]]
    assert (ids(good), {bad[0].run.id: "KeyError"}) == sending.publish(claims)
    assert (ids(good[:5]), {}) == sending.publish(good[:5])
    assert list(map(str, ids([*good, *good[:5]]))) == received(rabbitmq_url, queue)


def test_what_is_ready_when_it_is_too_late_is_not_written(beat, queue, rabbitmq_url):
    sending, claims = beat(rabbitmq_url), held(20)
    assert (ids(claims[:5]), {}) == sending.publish(claims[:5])
    confirms, late = sending.publisher._link.confirms, []
    write = confirms.write
    sending.publisher._is_stale = lambda: len(late) >= 5  # stopped in between, say
    confirms.write = lambda *told: (late.append(told), write(*told))
    sent, faults = sending.publish(claims[5:])
    assert {} == faults
    assert list(map(str, ids(claims[:5]) + sent)) == received(rabbitmq_url, queue)
    assert HAS_TEMPLATES is not bool(sent)


def test_what_is_published_when_a_stop_comes_is_known(beat, queue, rabbitmq_url):
    sending, claims, sent = beat(rabbitmq_url), held(20), []
    assert sending.publisher.ready()
    confirms = sending.publisher._link.confirms
    wait = confirms._wait

    def stop():
        if len(confirms._numbered) > 10:
            raise SystemExit
        wait()

    confirms._wait = stop
    now = sending.publisher._clock.monotonic()
    stopped = pytest.raises(SystemExit) if HAS_TEMPLATES else nullcontext()
    with listening(signals.before_task_publish), stopped:
        sending.publisher.publish(claims, now, sent)
    assert ids(claims) == sent
    assert list(map(str, sent)) == received(rabbitmq_url, queue)


@pytest.mark.parametrize("long", [True, False])
def test_a_stop_while_the_brokers_word_is_waited_for_loses_none_of_it(
    beat, queue, rabbitmq_url, long
):
    sending, claims, sent = Beat(beat(rabbitmq_url).app, long=long), held(20), []
    assert sending.publisher.ready()
    confirms = sending.publisher._link.confirms
    wait, came = confirms._wait, []

    def stop():
        wait()
        if confirms._numbered or long or not HAS_TEMPLATES:
            came.append(True)
            if len(came) == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    def obey(*_):
        raise SystemExit

    confirms._wait = stop
    before = signal.signal(signal.SIGTERM, obey)
    try:
        with pytest.raises(SystemExit):
            sending.publisher.publish(claims, sending.publisher._clock.monotonic(), sent)
    finally:
        signal.signal(signal.SIGTERM, before)
    sending.publisher.close()
    assert sent
    assert list(map(str, sent)) == received(rabbitmq_url, queue)


def test_what_is_not_due_yet_leaves_when_it_is(beat, queue, rabbitmq_url, monkeypatch):
    sending, claims, sent = beat(rabbitmq_url), held(3), []
    clock, waited = sending.publisher._clock, []

    def wait(seconds):
        assert [] == messages(rabbitmq_url, queue)
        waited.append(seconds)
        clock.advance(seconds)

    assert sending.publisher.ready()
    sending.publish(held(2))
    received(rabbitmq_url, queue)
    monkeypatch.setattr(dispatch, "pause", wait)
    now = clock.monotonic()
    assert [] == sending.publisher.publish(claims, now, sent, not_before=now + 0.03)
    assert [0.03] == waited
    assert list(map(str, ids(claims))) == list(map(str, sent)) == received(rabbitmq_url, queue)


@pytest.mark.parametrize("how", ["hang", "cut"])
def test_what_is_not_confirmed_does_not_count(beat, queue, rabbitmq_url, how):
    with Proxy(address_of(rabbitmq_url)) as proxy:
        sending, claims = beat(proxy.through(rabbitmq_url)), held(7)
        assert [ids(claims[:3]), {}] == list(sending.publish(claims[:3]))
        getattr(proxy, how)()
        if how == "cut":
            proxy.refuse()
        assert ([], {}) == sending.publish(claims[3:])
        assert sending.publisher._link.is_away


def test_who_wants_no_confirms_gets_none(beat, rabbitmq_url):
    said = {"confirm_publish": False}
    sending = beat(rabbitmq_url, broker_transport_options=said)
    claims = held(3)
    assert [ids(claims), {}] == list(sending.publish(claims))
    assert sending.publisher._link.confirms is None


#: What messages may differ in; what all of them have is what makes them alike.
CASES = {
    "nothing": {},
    "arguments": {"args": (1, "zwei", None, [True]), "kwargs": {"a": {"b": 1.5}}},
    "signs": {"args": ('"quotes"\\ \n\x00 äöü \U0001f600',), "kwargs": {"</a>": 1}},
    "much": {"args": ("x" * 5000,)},
    "priority": {"priority": 7},
    "expires": {"expires": 90.5},
    "countdown": {"countdown": 30},
    "headers": {"headers": {"tenant": "a", "list": [1]}},
    "transient": {"delivery_mode": 1},
    "compressed": {"compression": "gzip"},
    "another serializer": {"serializer": "yaml"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_message_that_is_written_at_once_is_that_of_celery(beat, queue, rabbitmq_url, case):
    instants = [NOON + timedelta(milliseconds=n) for n in (0, 7, 7, 8, 8, 8, 9000)]
    claims = [each for at in instants for each in held(1, at, **case)]
    claims += [each for n in range(9) for each in held(1, **{**case, "args": ("ä" * n, n)})]
    claims += held(1, **{**case, "args": ("x" * 300_000,)})
    sending = beat(rabbitmq_url)
    long = Beat(sending.app, long=True)
    assert [ids(claims), {}] == list(long.publish(claims))
    long.publisher.close()
    theirs = messages(rabbitmq_url, queue)

    assert sending.publisher.ready()
    templates, filled = sending.publisher._link.templates, []
    framed = templates.framed
    templates.framed = lambda *told: filled.append(framed(*told)) or filled[-1]
    with waits(sending.publisher) as seen:
        assert [ids(claims), {}] == list(sending.publish(claims))
    assert theirs == messages(rabbitmq_url, queue)
    fillable = HAS_TEMPLATES and not {"compression", "serializer"} & case.keys()
    # All but the first, which Celery makes, and the last, which is longer than a frame.
    assert fillable * (len(claims) - 2) == sum(map(bool, filled))
    assert len(seen) == (2 if HAS_TEMPLATES else len(claims))


def adds(headers, **_):
    headers["trace"] = {"id": headers["id"], "flags": [1, True, None, "ä" * 300]}
    headers["sampled"] = NOON


def adds_nothing(**_):
    pass


def changes_a_header(headers, **_):
    headers["group"], headers["trace"] = "ours", 1


def changes_within_a_header(headers, **_):
    headers["timelimit"][1] = 1.0  # which equals True, and is another


def drops_a_header(headers, **_):
    headers["group"] = headers.pop("group")


def changes_arguments(body, **_):
    body[0][0] = True  # equals 1


def changes_a_property(properties, **_):
    properties["priority"] = 3


HOOKS = {adds: 1, adds_nothing: 1, changes_a_header: 0, changes_within_a_header: 0}
HOOKS |= {drops_a_header: 0, changes_arguments: 0, changes_a_property: 0}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_what_listeners_make_of_a_message_is_sent_as_celery_would(
    beat, queue, rabbitmq_url, hook, monkeypatch
):
    """As octets if they have added headers, and done nothing else to it."""
    claims = [each for n in range(5) for each in held(1, NOON, (1, n), {"a": ["ä" * n]})]
    # Alone to have no room in a frame.
    claims += held(1, NOON, ("x" * 300_000,))
    sending, written = beat(rabbitmq_url), []
    long = Beat(sending.app, long=True)
    signals.before_task_publish.connect(hook, weak=False)
    try:
        assert [ids(claims), {}] == list(long.publish(claims))
        long.publisher.close()
        theirs = messages(rabbitmq_url, queue)
        assert sending.publisher.ready()
        fill = Frames.filled
        monkeypatch.setattr(
            Frames, "filled", lambda *told: written.append(fill(*told)) or written[-1]
        )
        with waits(sending.publisher) as seen:
            assert [ids(claims), {}] == list(sending.publish(claims))
    finally:
        signals.before_task_publish.disconnect(hook)
    assert theirs == messages(rabbitmq_url, queue)
    # One to see whether there can be any, the others for all but the first and the last.
    assert HAS_TEMPLATES * HOOKS[hook] * len(claims[1:]) == len(written)
    assert len(seen) == (2 if HAS_TEMPLATES else len(claims))


def test_what_a_listener_makes_unfit_to_be_sent_is_the_fault_of_its_runs(beat, rabbitmq_url):
    def spoil(headers, **_):
        if headers["id"] in bad:
            headers["trace"] = object()

    sending, claims = beat(rabbitmq_url), held(4)
    bad = list(map(str, ids(claims[2:3])))
    signals.before_task_publish.connect(spoil, weak=False)
    try:
        sent, faults = sending.publish(claims)
    finally:
        signals.before_task_publish.disconnect(spoil)
    assert ids([*claims[:2], *claims[3:]]) == sent
    assert ids(claims[2:3]) == list(faults)


class Written:
    """A connection of py-amqp, as far as frames are written to it."""

    frame_max, bytes_sent = 131_072, 0

    def __init__(self):
        self.octets = b""

    def write(self, octets):
        self.octets += bytes(octets)


def octets_of(headers, values, added, **properties):
    """A message, as py-amqp writes it, that says *values* in headers, properties and body."""
    headers = {**headers, "one": values["id"], "two": values["eta"], "three": values["id"], **added}
    said = {**properties, "application_headers": headers, "correlation_id": values["id"]}
    where, content = Written(), Message(values["body"], **said)
    write = frame_writer(where, where)
    write(1, 1, spec.Basic.Publish, dumps("Bssbb", (0, "", "queue", False, False)), content)
    return where.octets


#: Nobody else says such.
own = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str),
        "eta": st.text("-:T.0123456789", min_size=20),
        "body": st.text().map("[its own, {}]".format),
    }
)
table = st.dictionaries(
    st.text(max_size=9), st.integers(0, 9) | st.booleans() | st.text(), max_size=3
)


@properties
@given(table, table, own, own, st.booleans(), st.booleans(), st.integers(0, 255))
def test_whatever_stands_in_a_message_what_is_filled_in_is_counted_anew(
    headers, more, one, other, has_type, has_encoding, priority
):
    said = {"priority": priority}
    if has_type:
        said["content_type"] = "application/json"
    if has_encoding:
        said["content_encoding"] = "utf-8"
    added = {f"added {name}": value for name, value in more.items()}
    frames = taken_apart(octets_of(headers, one, {}, **said), one)
    assert octets_of(headers, one, {}, **said) == frames.filled(one)
    assert octets_of(headers, other, {}, **said) == frames.filled(other)
    assert octets_of(headers, other, added, **said) == frames.filled(other, added)
