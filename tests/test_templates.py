"""Messages by a template are those of Celery; and whoever has a hand in them is asked for each."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from itertools import chain
from uuid import uuid4

import pytest
import redis
from celery import Celery, Task, signals
from celery.app.amqp import AMQP
from celery.beat import Scheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Exchange, Producer, Queue
from redis.client import Pipeline

from celery_sqlalchemy_kit import dispatch, kinds, schedules
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.dispatch import Publisher
from celery_sqlalchemy_kit.routines import Cause, Routine, Run
from celery_sqlalchemy_kit.storage.values import Again, Claimed

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)

#: Before kombu 5.7 every message goes Celery's long way.
HAS_TEMPLATES = hasattr(Producer, "batch")


class Beat(Scheduler):
    """*long*: every message goes Celery's long way."""

    def __init__(self, app, *, long=False):
        super().__init__(app, lazy=True)
        apply_entry = self.apply_entry

        def wrapped(*args, **kwargs):
            apply_entry(*args, **kwargs)

        patience = timedelta(seconds=5)
        self.publisher = Publisher(
            app, wrapped if long else apply_entry, SettableClock(NOON), patience=patience
        )

    def apply_async(self, entry, producer=None, **_):
        return self.publisher.send(entry, producer)

    def publish(self, *claimed):
        sent = []
        faults = self.publisher.publish(claimed, self.publisher._clock.monotonic(), sent)
        assert len(sent) + len(faults) == len(claimed)
        return [fault for _, fault in faults]


@pytest.fixture
def beat(redis_url):
    """Makes the beat of an app with tasks of several kinds."""
    made = []

    def make(cls=Celery, **conf):
        app = cls("shop", broker=redis_url, set_as_current=False)
        app.conf.update(conf)

        @app.task(name="add", shared=False)
        def add(x=0, y=0, *more, **named):
            pass

        @app.task(name="late", shared=False, expires=60, time_limit=9, ignore_result=True)
        def late(*args, **kwargs):
            pass

        @app.task(name="one", shared=False)
        def one(x):
            pass

        made.append(Beat(app))
        return made[-1]

    yield make
    for each in made:
        each.publisher.close()
        each.app.close()


@contextmanager
def going_the_long_way(sending):
    """The same app's, whose messages all go Celery's long way."""
    other = Beat(sending.app, long=True)
    yield other
    other.publisher.close()


def by_argument(name, args, kwargs, options, task=None, **_):
    return {"routing_key": "shop.a"} if "queue" in options else {"queue": f"for_{len(args)}"}


def held(task="add", claimed_at=NOON, **fields):
    routine = Routine(uuid4(), "report", task, schedules.parse(15))
    run = Run(uuid4(), routine.id, routine.name, task, NOON, Cause.SCHEDULE, **fields)
    return Claimed(run, claimed_at, routine)


@contextmanager
def listening(signal=signals.before_task_publish):
    heard = []

    def hear(sender=None, headers=None, **_):
        heard.append(headers and headers["id"])

    signal.connect(hear, weak=False)
    yield heard
    signal.disconnect(hear)


def pushed(redis_url):
    """What stands in Redis, by the id of its run: the key and the text, but for its random tag."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        found = {}
        for key in client.scan_iter(_type="list"):
            for text in client.lrange(key, 0, -1):
                message = json.loads(text)
                tag = message["properties"]["delivery_tag"]
                assert message["headers"]["id"] not in found
                found[message["headers"]["id"]] = (key, text.replace(tag, "the tag"))
            client.delete(key)
    return found


def by_template(beat):
    return list(beat.publisher._link.templates._kept.values())


def queues():
    shop = Queue("shop", Exchange("shop", "topic"), "shop.*")
    return [Queue("celery"), shop, Queue("all", Exchange("all", "fanout"), "")]


#: What may differ between messages, and whether they are pushed as texts where nobody listens.
CASES = {
    "nothing": ({}, True),
    "arguments": ({"args": (1, "zwei", None, [True]), "kwargs": {"a": {"b": 1.5}}}, True),
    "signs": ({"args": ('"quotes"\\ \n\x00 äöü \U0001f600 <b>',), "kwargs": {"</a>": 1}}, True),
    "much": ({"args": ("x" * 3000,), "kwargs": {f"k{n}": [n] * 40 for n in range(30)}}, True),
    "queue": ({"options": {"queue": "slow"}}, True),
    "priority": ({"options": {"priority": 7}}, True),
    "expires": ({"options": {"expires": 90.5}}, True),
    "countdown": ({"options": {"countdown": 30}}, True),
    "headers": ({"options": {"headers": {"tenant": "a", "list": [1]}}}, True),
    "limits": ({"options": {"time_limit": 5, "soft_time_limit": 2.5, "ignore_result": True}}, True),
    "properties": ({"options": {"shadow": "other", "reply_to": "here", "correlate": 1}}, True),
    "of a task that has its own": ({"task": "late"}, True),
    "of a task that is known elsewhere": ({"task": "elsewhere.do", "args": (1,)}, True),
    "of a task that takes one": ({"task": "one", "args": (1,)}, True),
    "compressed": ({"options": {"compression": "gzip"}}, False),
    "another serializer": ({"options": {"serializer": "yaml"}}, False),
    "by bindings": ({"options": {"queue": "shop"}}, False),
    "to many": ({"options": {"queue": "all"}}, False),
}


@pytest.mark.parametrize(
    "routes", [{"one": {"queue": "ones"}}, (by_argument,)], ids=["map", "asked"]
)
@pytest.mark.parametrize(("fields", "as_text"), CASES.values(), ids=CASES)
def test_a_message_by_a_template_is_octet_for_octet_that_of_celery(
    beat, redis_url, fields, as_text, routes
):
    conf = {"task_queues": queues(), "task_routes": routes, "task_create_missing_queues": True}
    claims = [held(claimed_at=NOON + timedelta(seconds=n), **fields) for n in range(4)]
    sending = beat(**conf)
    with going_the_long_way(sending) as long:
        assert [] == long.publish(*claims)
    theirs = pushed(redis_url)

    assert [] == sending.publish(*claims)
    assert pushed(redis_url) == theirs
    assert [as_text] * HAS_TEMPLATES == [each.text is not None for each in by_template(sending)]
    with listening() as heard, listening(signals.after_task_publish) as sent:
        assert [] == sending.publish(*claims)
    assert heard == sent == [str(each.run.id) for each in claims]
    assert pushed(redis_url) == theirs


class Counting(Beat):
    """With those that Celery was asked to send."""

    def __init__(self, app):
        super().__init__(app)
        self.asked = []

    def apply_async(self, entry, producer=None, **_):
        self.asked.append(entry.run.id)
        return super().apply_async(entry, producer)


def run_ids(claims):
    return [each.run.id for each in claims]


@pytest.mark.parametrize("routes", [{}, (by_argument,)], ids=["map", "asked"])
def test_of_each_kind_the_first_alone_goes_the_long_way(beat, redis_url, routes):
    sending = beat(task_routes=routes)
    those = [{}, {"task": "one", "args": (1,)}, {"options": {"priority": 3}}]
    claims = [held(**kind) for _ in range(50) for kind in those]
    counting = Counting(sending.app)
    assert [] == counting.publish(*claims)
    counting.publisher.close()
    assert run_ids(claims[:3] if HAS_TEMPLATES else claims) == counting.asked
    assert set(pushed(redis_url)) == {str(each.run.id) for each in claims}


def test_of_what_is_met_but_once_no_template_is_made(beat):
    counting = Counting(beat().app)
    those = [{"options": {"headers": {"of": n}}} for n in range(3)]
    batches = [[held(**kind) for kind in those] for _ in range(3)]
    for batch in batches:
        assert [] == counting.publish(*batch)
    counting.publisher.close()
    long = batches[:2] if HAS_TEMPLATES else batches
    assert run_ids(chain.from_iterable(long)) == counting.asked


def test_kinds_without_end_do_not_become_templates_without_end(beat, monkeypatch):
    monkeypatch.setattr(kinds, "_MOST_LEFT", 3 * kinds.MESSAGES_EACH)
    counting = Counting(beat().app)
    those = [{"options": {"headers": {"of": n}}} for n in range(10)]
    claims = [held(**kind) for _ in range(2) for kind in those]
    assert [] == counting.publish(*claims)
    counting.publisher.close()
    by_template = run_ids(claims[10:13] if HAS_TEMPLATES else [])
    assert [each for each in run_ids(claims) if each not in by_template] == counting.asked


@pytest.mark.parametrize("transport", ["redis", "rabbitmq"])
def test_options_that_cannot_be_told_apart_harm_nobody_else(request, beat, transport):
    url = request.getfixturevalue(f"{transport}_url")
    deep = {"headers": {}}
    inner = deep["headers"]
    for _ in range(sys.getrecursionlimit()):
        inner["more"] = inner = {}
    sending = beat(broker_url=url)
    good = [held() for _ in range(3)]
    sent = []
    faults = sending.publisher.publish(
        [good[0], held(options=deep), *good[1:]], sending.publisher._clock.monotonic(), sent
    )
    assert ["RecursionError"] == [fault.partition(":")[0] for _, fault in faults]
    assert {each.run.id for each in good} == set(sent)


OTHERWISE = {
    "at an instant": {"eta": "2026-12-01T13:00:00Z"},
    "expires at an instant": {"expires": "2027-12-01T13:00:00+00:00"},
    "with a link": {"link": {"task": "add", "args": [], "kwargs": {}, "options": {}}},
}


@pytest.mark.parametrize("options", OTHERWISE.values(), ids=OTHERWISE)
def test_what_no_template_says_goes_the_long_way(beat, redis_url, options):
    claims = [held(options=options) for _ in range(3)]
    sending = beat()
    with going_the_long_way(sending) as long:
        assert [] == long.publish(*claims)
    theirs = pushed(redis_url)

    assert [] == sending.publish(*claims)
    assert by_template(sending) == []
    ours = pushed(redis_url)
    assert set(ours) == set(theirs)
    if "expires" not in options:  # of which the broker is told what is left of it
        assert ours == theirs


def test_who_listens_may_change_the_message_as_ever(beat, redis_url):
    def change(headers=None, body=None, properties=None, declare=None, **_):
        headers["trace"] = [headers["id"]]
        headers["timelimit"][0] = 7
        body[1]["by"] = "hook"
        body[0].append(len(body[0]))
        body[0][0].append("deep")
        properties["priority"] = 5

    claims = [held(args=([], 1), kwargs={"a": 1}) for _ in range(4)]
    signals.before_task_publish.connect(change, weak=False)
    try:
        sending = beat()
        with going_the_long_way(sending) as long:
            long.publish(*claims)
        theirs = pushed(redis_url)
        for each in claims:
            sending.publish(each)
        assert len(by_template(sending)) == HAS_TEMPLATES
    finally:
        signals.before_task_publish.disconnect(change)
    assert pushed(redis_url) == theirs


def test_a_router_is_asked_for_every_message(beat, redis_url):
    asked = []

    def router(name, args, kwargs, options, task=None, **_):
        asked.append((name, list(args), dict(kwargs), dict(options), task and task.name))
        return {"queue": f"q{args[0] % 2}", "priority": 3}

    claims = [held(args=(n,), options={"expires": 60}) for n in range(6)]
    sending = beat(task_routes=(router,))
    with going_the_long_way(sending) as long:
        long.publish(*claims)
    theirs, questions = pushed(redis_url), asked[:]
    asked.clear()
    for each in claims:
        sending.publish(each)

    assert pushed(redis_url) == theirs
    assert [question for question in questions if question not in asked] == []
    assert len(by_template(sending)) == 2 * HAS_TEMPLATES


def test_a_message_that_is_sent_again_says_so(beat, redis_url):
    sending = beat()
    runs = [held().run for _ in range(4)]
    sending.publish(*(Claimed(run, NOON) for run in runs[:3]))
    assert [] == sending.publish(Again(runs[3], NOON, retries=2))

    _, text = pushed(redis_url)[str(runs[3].id)]
    assert (True, 2) == tuple(
        json.loads(text)["headers"][n] for n in ("routine_run_again", "retries")
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def test_whatever_the_arguments_are(beat, redis_url):
    sending = beat()
    sending.publish(held("any"), held("any"))
    pushed(redis_url)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4))
    def compare(args, kwargs):
        # As they come out of the table.
        args, kwargs = json.loads(json.dumps([args, kwargs]))
        claimed = held("any", args=tuple(args), kwargs=kwargs)
        with going_the_long_way(sending) as long:
            long.publish(claimed)
        theirs = pushed(redis_url)
        sending.publish(claimed)
        assert pushed(redis_url) == theirs
        with listening():
            sending.publish(claimed)
        assert pushed(redis_url) == theirs

    compare()
    assert len(by_template(sending)) == HAS_TEMPLATES


class Routed(Celery):
    def send_task(self, *args, **kwargs):
        kwargs["headers"]["by"] = "app"
        return super().send_task(*args, **kwargs)


class Wired(AMQP):
    pass


class Wiring(Celery):
    amqp_cls = "test_templates:Wired"


@pytest.mark.parametrize(
    ("cls", "conf"),
    [
        (Celery, {"task_send_sent_event": True}),
        (Celery, {"task_protocol": 1}),
        (Routed, {}),
        (Wiring, {}),
    ],
    ids=["events", "protocol", "app", "amqp"],
)
def test_where_somebody_has_a_hand_in_there_is_no_template(beat, redis_url, cls, conf):
    sending = beat(cls, **conf)
    assert [] == sending.publish(*(held(args=("celery",)) for _ in range(3)))
    assert by_template(sending) == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Scheduler, "apply_entry"),
        (Task, "apply_async"),
        (Producer, "publish"),
        (Celery, "send_task"),
    ],
)
def test_who_replaces_a_method_is_called_for_every_message(beat, monkeypatch, owner, name):
    called, own = [], getattr(owner, name)

    def wrapper(*args, **kwargs):
        called.append(name)
        return own(*args, **kwargs)

    wrapper.__name__, wrapper.__module__ = own.__name__, own.__module__
    monkeypatch.setattr(owner, name, wrapper)
    sending = beat()
    assert [] == sending.publish(*(held() for _ in range(5)))
    assert len(called) >= 5
    assert by_template(sending) == []


@pytest.mark.parametrize(
    "signal", [signals.before_task_publish, signals.after_task_publish], ids=["before", "after"]
)
def test_who_begins_to_listen_hears_of_the_next_message(beat, signal):
    sending = beat()
    sending.publish(held(), held(), held())
    assert HAS_TEMPLATES == bool(by_template(sending))
    with listening(signal) as heard:
        sending.publish(*(claims := [held(), held()]))
    assert heard == [str(each.run.id) for each in claims]


def test_tasks_of_a_class_with_a_word_in_it_go_the_long_way(beat):
    class Own(Task):
        name = "own"
        shadowed = ()

        def run(self):
            pass

        def shadow_name(self, args, kwargs, options):
            self.shadowed = (*self.shadowed, options)

    sending = beat()
    task = sending.app.register_task(Own())
    sending.publish(*(held("own") for _ in range(3)))
    assert len(task.shadowed) == 3


def test_a_router_that_raises_is_the_fault_of_its_message_alone(beat, redis_url):
    def router(name, args, kwargs, options, task=None, **_):
        return {"queue": "fine"} if args[0] else 1 / 0

    sending = beat(task_routes=(router,))
    claims = [held(args=(n != 2,)) for n in range(5)]
    assert ["ZeroDivisionError: division by zero"] == sending.publish(*claims)
    assert set(pushed(redis_url)) == {str(each.run.id) for n, each in enumerate(claims) if n != 2}


class Unique:
    def __deepcopy__(self, memo):
        raise TypeError("there is only one")


def test_what_cannot_be_written_down_is_sent_all_the_same(beat, redis_url):
    sending = beat()
    task = sending.app.tasks["add"]
    task.queue = Queue("own", Exchange("own"), "own")
    task.queue.consumer_arguments = {"one": Unique()}
    claims = [held() for _ in range(3)]
    with listening():
        assert [] == sending.publish(*claims)
    assert set(pushed(redis_url)) == {str(each.run.id) for each in claims}


def test_a_backend_that_cannot_be_made_is_the_fault_of_messages(beat):
    sending = beat(result_backend="no_such_module://")
    assert ["ModuleNotFoundError", "ModuleNotFoundError"] == [
        fault.partition(":")[0] for fault in sending.publish(held(), held())
    ]


def test_arguments_that_a_task_does_not_take_are_its_own_fault(beat, redis_url):
    sending = beat()
    good = [held("one", args=(1,)) for _ in range(3)]
    sending.publish(*good[:2])

    faults = sending.publish(held("one"), good[2])

    assert len(faults) == 1
    assert faults[0].startswith("TypeError: ")
    assert set(pushed(redis_url)) == {str(each.run.id) for each in good}


def test_a_queue_that_redis_refuses_harms_no_other(beat, redis_url):
    sending = beat()
    fine = [held() for _ in range(4)]
    bad = [held(options={"queue": "bad"}) for _ in range(4)]
    sending.publish(*fine[:2], *bad[:2])
    pushed(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.set("bad", "no list")
        sent = []
        sending.publisher.publish((*fine[2:], *bad[2:]), sending.publisher._clock.monotonic(), sent)
        assert sent == [each.run.id for each in fine[2:]]
        client.delete("bad")
    assert set(pushed(redis_url)) == {str(each.run.id) for each in fine[2:]}


def stopped_by_pushes(monkeypatch):
    """Whoever pushes to Redis is told to stop as soon as Redis has answered."""
    execute, execute_command = Pipeline.execute, redis.Redis.execute_command

    def whole(self, *args, **kwargs):
        pushes = [command[0][0] for command in self.command_stack].count("LPUSH")
        done = execute(self, *args, **kwargs)
        if pushes:
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    def single(self, *args, **kwargs):
        done = execute_command(self, *args, **kwargs)
        if args[0] == "LPUSH":
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(Pipeline, "execute", whole)
    monkeypatch.setattr(redis.Redis, "execute_command", single)


@pytest.mark.parametrize("by", ["texts", "kombu"])
def test_a_stop_in_the_middle_of_a_push_is_obeyed_when_it_is_known_to_be_done(
    beat, redis_url, monkeypatch, by
):
    def obey(*_):
        raise SystemExit

    sending = beat()
    sending.publish(held(), held())
    pushed(redis_url)
    claims, sent = [held() for _ in range(4)], []
    before = signal.signal(signal.SIGTERM, obey)
    stopped_by_pushes(monkeypatch)
    try:
        with listening() if by == "kombu" else nullcontext(), pytest.raises(SystemExit):
            sending.publisher.publish(claims, sending.publisher._clock.monotonic(), sent)
    finally:
        signal.signal(signal.SIGTERM, before)
        monkeypatch.undo()
    assert sent
    assert set(map(str, sent)) == set(pushed(redis_url))


@pytest.mark.parametrize("by", ["texts", "kombu"])
def test_what_is_not_due_yet_leaves_when_it_is(beat, redis_url, monkeypatch, by):
    sending = beat()
    sending.publish(held(), held())
    pushed(redis_url)
    clock, claims, sent, waited = sending.publisher._clock, [held() for _ in range(4)], [], []

    def wait(seconds):
        assert {} == pushed(redis_url)
        waited.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(dispatch, "pause", wait)
    now = clock.monotonic()
    with listening() if by == "kombu" else nullcontext():
        sending.publisher.publish(claims, now, sent, not_before=now + 0.03)
    assert [0.03] == waited
    assert {str(each.run.id) for each in claims} == set(map(str, sent)) == set(pushed(redis_url))


def test_beat_tells_of_each_message_as_ever(beat, caplog):
    sending = beat()
    sending.publish(held(), held())
    with caplog.at_level("INFO", "celery.beat"):
        sending.publish(held(), held())
    told = [each.getMessage() for each in caplog.records if "Sending due task" in each.getMessage()]
    assert told == ["Scheduler: Sending due task report (add)"] * 2
