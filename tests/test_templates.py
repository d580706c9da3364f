"""Messages by a template are those of Celery; and whoever has a hand in them is asked for each."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import redis
from celery import Celery, Task, signals
from celery.app.amqp import AMQP
from celery.beat import Scheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Exchange, Producer, Queue

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.clock import UTC, SettableClock
from celery_sqlalchemy_kit.dispatch import Publisher
from celery_sqlalchemy_kit.routines import Cause, Routine, Run
from celery_sqlalchemy_kit.storage.values import Again, Claimed

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)

pytestmark = pytest.mark.skipif(
    not hasattr(Producer, "batch"), reason="only kombu 5.7 says whether pushes are ever repeated"
)


class Beat(Scheduler):
    def __init__(self, app):
        super().__init__(app, lazy=True)
        patience = timedelta(seconds=5)
        self.publisher = Publisher(app, self.apply_entry, SettableClock(NOON), patience=patience)

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


def held(task="add", claimed_at=NOON, **fields):
    routine = Routine(uuid4(), "report", task, schedules.parse(15))
    run = Run(uuid4(), routine.id, routine.name, task, NOON, Cause.SCHEDULE, **fields)
    return Claimed(run, claimed_at, routine)


@contextmanager
def listening(signal=signals.before_task_publish):
    heard = []

    def hear(sender=None, headers=None, **_):
        heard.append(headers and headers["id"])

    signal.connect(hear)
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
    return [each for each in beat.publisher._templates._kept.values() if each is not None]


SAME = {
    "nothing": {},
    "arguments": {"args": (1, "zwei", None, [True]), "kwargs": {"a": {"b": 1.5}}},
    "signs": {"args": ('"quotes"\\ \n\x00 äöü \U0001f600 <b>',), "kwargs": {"</a>": "\ud800"}},
    "much": {"args": ("x" * 3000,), "kwargs": {f"k{n}": list(range(40)) for n in range(30)}},
    "queue": {"options": {"queue": "slow"}},
    "priority": {"options": {"priority": 7}},
    "expires": {"options": {"expires": 90.5}},
    "countdown": {"options": {"countdown": 30}},
    "headers": {"options": {"headers": {"tenant": "a", "list": [1]}}},
    "limits": {"options": {"time_limit": 5, "soft_time_limit": 2.5, "ignore_result": True}},
    "shadow": {"options": {"shadow": "other", "reply_to": "here", "correlate": 1}},
    "of a task that has its own": {"task": "late"},
    "of a task that is known elsewhere": {"task": "elsewhere.do", "args": (1,)},
    "of a task that takes one": {"task": "one", "args": (1,)},
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
def test_a_message_by_a_template_is_octet_for_octet_that_of_celery(beat, redis_url, fields):
    sending = beat(task_routes={"one": {"queue": "ones"}})
    claims = [held(claimed_at=NOON + timedelta(seconds=n), **fields) for n in range(4)]

    assert [] == sending.publish(*claims)
    ours = pushed(redis_url)
    assert len(by_template(sending)) == 1
    with listening() as heard:
        assert [] == sending.publish(*claims)

    assert {str(each.run.id) for each in claims} == set(heard)
    assert pushed(redis_url) == ours


OTHERWISE = {
    "at an instant": {"options": {"eta": "2026-12-01T13:00:00Z"}},
    "expires at an instant": {"options": {"expires": "2027-12-01T13:00:00+00:00"}},
    "compressed": {"options": {"compression": "gzip"}},
    "another serializer": {"options": {"serializer": "yaml"}},
    "by bindings": {"options": {"queue": "shop"}},
    "to many": {"options": {"queue": "all"}},
    "with a link": {"options": {"link": {"task": "add", "args": [], "kwargs": {}, "options": {}}}},
}


@pytest.mark.parametrize("fields", OTHERWISE.values(), ids=OTHERWISE)
def test_what_no_template_says_goes_the_long_way(beat, redis_url, fields):
    shop = Queue("shop", Exchange("shop", "topic"), "shop.*")
    all_ = Queue("all", Exchange("all", "fanout"), "")
    sending = beat(task_queues=[Queue("celery"), shop, all_])
    claims = [held(**fields) for _ in range(3)]
    with listening() as heard:
        assert [] == sending.publish(*claims)
        theirs = pushed(redis_url)
    assert len(heard) == 3

    assert [] == sending.publish(*claims)
    assert by_template(sending) == []
    assert pushed(redis_url) == theirs


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
    sending.publish(held("any"), held("any"), held("any"))
    templates = sending.publisher._templates

    @settings(max_examples=200, deadline=None)
    @given(st.lists(JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4))
    def compare(args, kwargs):
        # As they come out of the table.
        args, kwargs = json.loads(json.dumps([args, kwargs]))
        claimed = held("any", args=tuple(args), kwargs=kwargs)
        key, message = templates._example(claimed)
        filled = templates.fill(claimed)
        tag = json.loads(filled.text)["properties"]["delivery_tag"]
        message["properties"]["delivery_tag"] = tag
        assert (key, json.dumps(message)) == filled

    compare()
    assert len(by_template(sending)) == 1


class Routed(Celery):
    def send_task(self, *args, **kwargs):
        kwargs["headers"]["by"] = "app"
        return super().send_task(*args, **kwargs)


class Wired(AMQP):
    pass


class Wiring(Celery):
    amqp_cls = "test_templates:Wired"


def by_function(name, args, kwargs, options, task=None, **_):
    return {"queue": args[0] if args else "celery"}


@pytest.mark.parametrize(
    ("cls", "conf"),
    [
        (Celery, {"task_routes": (by_function,)}),
        (Celery, {"task_send_sent_event": True}),
        (Celery, {"task_protocol": 1}),
        (Routed, {}),
        (Wiring, {}),
    ],
    ids=["routes", "events", "protocol", "app", "amqp"],
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
    assert by_template(sending)
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
        sending.publisher.publish((*bad[2:], *fine[2:]), sending.publisher._clock.monotonic(), sent)
        assert sent == [each.run.id for each in fine[2:]]
        client.delete("bad")
    assert set(pushed(redis_url)) == {str(each.run.id) for each in fine[2:]}


def test_beat_tells_of_each_message_as_ever(beat, caplog):
    sending = beat()
    sending.publish(held(), held())
    with caplog.at_level("INFO", "celery.beat"):
        sending.publish(held(), held())
    told = [each.getMessage() for each in caplog.records if "Sending due task" in each.getMessage()]
    assert told == ["Scheduler: Sending due task report (add)"] * 2
