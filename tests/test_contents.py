"""What messages say of arguments is what Celery and kombu would have said."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime, timezone
from uuid import uuid4

import pytest
from celery import Celery
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st
from kombu import serialization
from kombu.serialization import registry
from kombu.transport.virtual import Channel
from kombu.utils import json as kombu_json
from strategies import json_values, properties, texts

from celery_sqlalchemy_kit.contents import NOTHING, Contents, shown
from celery_sqlalchemy_kit.routines import Cause, Run

arguments = st.lists(json_values, max_size=4)
named = st.dictionaries(texts, json_values, max_size=4)


class Encoding:
    """A channel, as far as it encodes bodies."""

    body_encoding = Channel.body_encoding
    codecs = Channel.codecs
    encode_body = Channel.encode_body


def run(args, kwargs):
    noon = datetime(2026, 12, 1, 12, tzinfo=timezone.utc)
    return Run(uuid4(), uuid4(), "r", "add", noon, Cause.SCHEDULE, args=tuple(args), kwargs=kwargs)


def made():
    app = Celery(set_as_current=False)
    app.conf.task_repr_maxlevels = 3  # unknown to the oldest Celery, which has no templates
    contents = Contents(app)
    contents.look()
    return contents


@pytest.fixture
def contents():
    return made()


def said(args, kwargs):
    _, _, body = serialization.dumps((args, kwargs, NOTHING), serializer="json")
    return body


@properties
@given(
    st.one_of(arguments, named, st.just(())),
    st.none() | st.integers(0, 60) | st.just(1024),
    st.integers(-1, 4),
)
def test_what_is_shown_is_what_celery_shows(value, most, levels):
    assert saferepr(value, most, maxlevels=levels) == shown(value, most, levels)


@properties
@given(arguments, named)
def test_the_body_is_that_of_kombu(args, kwargs):
    contents = made()
    args, kwargs = json.loads(json.dumps([args, kwargs]))
    body = said(args or (), kwargs)
    assert body == contents.of(run(args, kwargs)).texts["body"]
    contents.look(Encoding())
    encoded = contents.of(run(args, kwargs)).texts["body"]
    assert body == b64decode(json.loads(f'"{encoded}"')).decode()


def test_who_writes_json_otherwise_is_asked(contents, monkeypatch):
    given = run((1, "ä"), {})
    plain = contents.of(given).texts["body"]
    monkeypatch.setitem(
        registry._encoders,
        "json",
        registry._encoders["json"]._replace(
            encoder=lambda value: kombu_json.dumps(value, ensure_ascii=False)
        ),
    )
    contents.look()
    assert plain != contents.of(given).texts["body"] == said([1, "ä"], {})
    monkeypatch.undo()
    contents.look()
    assert plain == contents.of(given).texts["body"]


def test_how_much_is_shown_is_asked_anew(contents):
    given = run((1, [2, [3]]), {"a": "b" * 9})
    assert "[1, [2, [3]]]" == contents.of(given).argsrepr
    contents._app.conf.task_repr_maxlevels = 1
    contents._app.amqp.kwargsrepr_maxsize = 5
    contents.look()
    content = contents.of(given)
    assert saferepr([1, [2, [3]]], 1024, maxlevels=1) == content.argsrepr
    assert saferepr({"a": "b" * 9}, 5) == content.kwargsrepr
