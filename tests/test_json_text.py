"""JSON, more strictly than Python reads it."""

from __future__ import annotations

import pytest

from celery_sqlalchemy_kit.errors import DocumentError
from celery_sqlalchemy_kit.exchange.json_text import read, written


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice in one mapping"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice in one mapping"),
        ("[NaN]", "NaN is no number that JSON can hold"),
        ("[-Infinity]", "-Infinity is no number that JSON can hold"),
        ("[1e999]", "1e999 is no number that JSON can hold"),
    ],
)
def test_what_python_reads_and_json_does_not_have_is_told(text, fault):
    assert [fault] == read(text)[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it is no JSON: Expecting value: line 1 column 1"),
        ('{"a": 1,\n "b": on}', "it is no JSON: Expecting value: line 2 column 7"),
        pytest.param("[" * 100_000, "it is nested too deeply", id="deep"),
        pytest.param("9" * 10_000, "it is no JSON: Exceeds the limit", id="long"),
    ],
)
def test_what_is_no_json_is_told(text, fault):
    with pytest.raises(DocumentError) as error:
        read(text)

    assert error.value.faults[0].startswith(fault)


def test_half_a_surrogate_pair_is_written_as_json_spells_it():
    assert '"\\ud800 größe 😀"\n' == written("\ud800 größe 😀")
    assert ("\ud800", []) == read(written("\ud800"))
