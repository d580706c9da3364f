"""The part of YAML that has one meaning; what else a document may try."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import TRAPS, json_values, properties, texts

from celery_sqlalchemy_kit.errors import DocumentError
from celery_sqlalchemy_kit.exchange.keys import Unquoted
from celery_sqlalchemy_kit.exchange.yaml_text import read, written

LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def loader(request):
    """Both of PyYAML's parsers: that in C need not be there."""
    return request.param


def fatal(text, loader):
    with pytest.raises(DocumentError) as error:
        read(text, loader)
    (fault,) = error.value.faults
    assert len(fault) < 500
    return fault


# -- plain scalars -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, None) for text in ("", "~", "null", "Null", "NULL")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *(("0", 0), ("15", 15), ("-3", -3), ("+7", 7), ("123456789012345678901", 123456789012345678901)),
        *(("1.5", 1.5), ("-0.25", -0.25), ("5.", 5.0), ("1.0e+3", 1000.0), ("2.5E-1", 0.25)),
        *((text, text) for text in ("poll", "0 9 * * MON-FRI", "8-18", "1.2.3", "2026-01", "10.0.0.1", "a1")),
    ],
)  # fmt: skip
def test_what_all_versions_of_yaml_take_for_the_same_is_that(text, expected, loader):
    value, faults = read(f"a: {text}", loader)

    assert ({"a": expected}, []) == (value, faults)
    assert type(expected) is type(value["a"])


@pytest.mark.parametrize(
    "text",
    [
        *("on", "Off", "YES", "no", "y", "N", "tRue", "=", "<<"),
        *("0777", "09", "00", "-012", "1_000", "0b101", "0o17", "0x1F", "1e3", "1.5e3", ".5", "1_0.5"),
        *("12:30", "09:00", "190:20:30", "1:30.5", ".inf", "-.INF", ".NaN", "1.0e+999"),
        *("2026-01-01", "2026-1-1", "2026-01-01T09:00:00Z", "2026-01-01 09:00:00.5 +01:00"),
    ],
)  # fmt: skip
def test_what_they_do_not_has_to_be_quoted(text, loader):
    plain, _ = read(f"a: {text}", loader)
    quoted, _ = read(f"a: '{text}'", loader)

    assert ({"a": text}, {"a": text}) == (plain, quoted)
    assert (Unquoted, str) == (type(plain["a"]), type(quoted["a"]))


def test_a_number_of_more_digits_than_python_reads_has_to_be_quoted(loader):
    assert isinstance(read(f"a: {'9' * 5000}", loader)[0]["a"], Unquoted)


@properties
@given(text=st.text(alphabet="0123456789+-._:eExoabfTZ ", max_size=12).map(str.strip))
def test_a_text_that_both_versions_take_for_one_is_the_only_one_that_stays_plain(text):
    """PyYAML knows 1.1: whatever it takes for no text is not a text here."""
    try:
        theirs, (ours, _) = yaml.safe_load(f"- {text}"), read(f"- {text}", yaml.SafeLoader)
    except (ValueError, yaml.YAMLError):  # no YAML, or a date such as 2026-99-99
        return
    assume(not isinstance(theirs[0], (list, dict)))

    assert theirs == ours or isinstance(ours[0], Unquoted)
    assert type(ours[0]) in (Unquoted, type(theirs[0]))


# -- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TRAPS)
def test_a_text_is_a_text_again(text, loader):
    value = {text: text, "list": [text, [text, {text: [text]}]]}

    assert (value, []) == read(written(value), loader)
    assert value == yaml.load(written(value), Loader=loader)


@properties
@given(value=st.dictionaries(texts, json_values))
def test_both_parsers_read_what_is_written(value):
    for loader in LOADERS:
        assert (value, []) == read(written(value), loader)


def test_a_value_that_stands_twice_is_written_twice():
    shared = {"a": [1]}

    assert "b:\n  a: [1]\nc:\n  a: [1]\n" == written({"b": shared, "c": shared})


# -- hostile documents -------------------------------------------------------------------------


def test_a_billion_laughs_are_not_even_begun(loader):
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]

    tracemalloc.start()
    fault = fatal("\n".join(lines), loader)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert fault.startswith("line 2: the alias 'a0' is not allowed")
    assert peak < 1_000_000


def test_an_alias_to_what_holds_it_is_refused(loader):
    assert "the alias 'a'" in fatal("a: &a [*a]", loader)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system ''",
        "!!binary aGFsbG8=",
        "!!timestamp 2026-01-01",
        "!!set {a}",
        "!!str 15",
        "!mine {a: 1}",
        "! a",
    ],
)
def test_tags_are_refused(tag, loader):
    _, faults = read(f"a: {tag}", loader)

    assert len(faults) == 1
    assert faults[0].startswith("line 1: the tag '")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_what_is_nested_deeply_is_refused(opening, loader):
    fatal(opening * 100_000, loader)


def test_levels_are_counted(loader):
    assert "line 1: allowed are at most 104 levels" == fatal("[" * 105 + "]" * 105, loader)
    read("[" * 104 + "]" * 104, loader)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: *\n", "line 2: it is no YAML: while scanning an alias"),
        ("a: */5 * * * *", "line 1: it is no YAML: while scanning an alias"),
        ("a: @daily", "line 1: it is no YAML: "),
        ("a: [1", "line "),
        ("a: 'b", "line "),
        ("a: b: c", "line 1: it is no YAML: "),
        ("\ta: 1", "line 1: it is no YAML: "),
        ("a: 1\n---\nb: 1\n", "line 2: a second document begins; allowed is one"),
        ("a: \x07", "it is no YAML: "),
        ("a: \ud800", "it is no YAML: "),
        ("%YAML 9.0\n---\na: 1", "line 1: it is no YAML: "),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text, fault, loader):
    assert fatal(text, loader).startswith(fault)


def test_of_a_text_that_begins_with_a_star_it_is_told_what_to_do(loader):
    assert "a text that begins with one of * & ! @ ` % has to be quoted" in fatal("a: *", loader)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a: 1\nb: 2\na: 3", ["line 3: the key 'a' stands twice in one mapping"]),
        ("a: {b: 1, b: 2}", ["line 1: the key 'b' stands twice in one mapping"]),
        ("1: a", ["line 1: the key 1: allowed is a text; put it in quotes"]),
        ("on: a", ["line 1: the key 'on': allowed is a text; put it in quotes"]),
        ("~: a", ["line 1: the key None: allowed is a text; put it in quotes"]),
        ("<<: {a: 1}", ["line 1: the key '<<': allowed is a text; put it in quotes"]),
        ("? [a, b]\n: 1", ["line 1: the key []: allowed is a text; put it in quotes"]),
        ("a: &b 1", ["line 1: the anchor 'b' is not allowed; " + "a text that begins with one of * & ! @ ` % has to be quoted"]),
    ],
)  # fmt: skip
def test_what_can_be_read_and_is_wrong_is_told_with_its_line(text, faults, loader):
    assert faults == read(text, loader)[1]


@properties
@given(text=st.text() | st.text(alphabet=" \n-:?[]{},&*!|>'\"%@`#a1~<=."))
def test_whatever_a_text_holds_it_is_read_or_refused(text):
    for loader in LOADERS:
        with contextlib.suppress(DocumentError):
            read(text, loader)
