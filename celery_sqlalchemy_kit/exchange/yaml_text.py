"""YAML, in the part of it that has one meaning.

Safe by what is left out: no tags, so that nothing is made but texts, numbers, truth values, null,
lists and mappings; no aliases, of which a few lines stand for more than memory holds; no merging.

A plain scalar counts as what YAML 1.1 and 1.2 both take it for. Where they differ (``on``,
``0777``, ``12:30``, ``1e3``, ``2026-01-01``) it is an `Unquoted`, which is refused where no
instant is meant. What is written here is read alike by both.

Values are made of the parser's events, without recursion, and each fault has its line: PyYAML's
own constructors know only YAML 1.1, and of a key that stands twice they take the last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from ..errors import DocumentError
from ..schedules.schedule import quoted
from .keys import LEVELS, Unquoted

#: A document has four levels of its own, about what a routine sends.
_DEEPEST = LEVELS + 4
_HINT = "a text that begins with one of * & ! @ ` % has to be quoted"

# The one in C is the same, many times as fast; it need not be there.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(text: str, loader: Any = _LOADER) -> tuple[Any, list[str]]:
    """The value of *text*, and what is wrong with it although it can be read.

    Raises:
        DocumentError: it is no YAML, has aliases, more than one document or too many levels.
    """
    builder = _Builder()
    try:
        for event in _events(text, loader):
            builder.take(event)
    except yaml.MarkedYAMLError as fault:
        told = ", ".join(filter(None, (fault.context, fault.problem)))
        where = f"line {fault.problem_mark.line + 1}: " if fault.problem_mark else ""
        raise DocumentError([f"{where}it is no YAML: {told}; {_HINT}"]) from None
    except yaml.YAMLError as fault:  # letters that YAML does not allow
        raise DocumentError([f"it is no YAML: {' '.join(str(fault).split())}"]) from None
    except UnicodeEncodeError as fault:
        raise DocumentError([f"it is no YAML: {fault}"]) from None
    return builder.value, builder.faults


def _events(text: str, loader: Any) -> Iterator[Event]:
    events: Iterator[Event] = yaml.parse(text, Loader=loader)
    return events


class _Builder:
    """Makes a value of events, one by one."""

    def __init__(self) -> None:
        self.value: Any = None
        self.faults: list[str] = []
        self._documents = 0
        #: The lists and mappings that are open, and of each mapping the key whose value is due.
        self._open: list[tuple[Any, list[str]]] = []

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise DocumentError([f"line {line}: a second document begins; allowed is one"])
        elif isinstance(event, AliasEvent):
            raise DocumentError(
                [f"line {line}: the alias {quoted(event.anchor)} is not allowed; {_HINT}"]
            )
        elif isinstance(event, NodeEvent):
            self._node(event, line)
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            self._open.pop()

    def _node(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self._refuse(line, f"the anchor {quoted(event.anchor)} is not allowed; {_HINT}")
        if getattr(event, "tag", None) is not None:
            self._refuse(line, f"the tag {quoted(event.tag)} is not allowed; {_HINT}")
        if isinstance(event, ScalarEvent):
            self._put(event.value if event.style else _plain(event.value), line)
        elif isinstance(event, CollectionStartEvent):
            if len(self._open) == _DEEPEST:
                raise DocumentError([f"line {line}: allowed are at most {_DEEPEST} levels"])
            container: Any = {} if isinstance(event, MappingStartEvent) else []
            self._put(container, line)
            self._open.append((container, []))

    def _put(self, value: Any, line: int) -> None:
        if not self._open:
            self.value = value
            return
        container, key = self._open[-1]
        if isinstance(container, list):
            container.append(value)
        elif key:
            container[key.pop()] = value
        else:
            key.append(self._key(value, container, line))

    def _key(self, value: Any, mapping: dict[str, Any], line: int) -> str:
        if not isinstance(value, str) or isinstance(value, Unquoted):
            self._refuse(line, f"the key {quoted(value)}: allowed is a text; put it in quotes")
            return str(value)
        if value in mapping:
            self._refuse(line, f"the key {quoted(value)} stands twice in one mapping")
        return value

    def _refuse(self, line: int, fault: str) -> None:
        self.faults.append(f"line {line}: {fault}")


# -- plain scalars -----------------------------------------------------------------------------

_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?", re.ASCII)
#: What some version of YAML, or some reader of it, takes for more than a text.
_DIFFERENT = re.compile(
    r"""
      y | yes | n | no | on | off | true | false | null | = | <<
    | [-+]? [0-9] [0-9_]*
    | [-+]? 0 (?: b [01_]+ | o [0-7_]+ | x [0-9a-f_]+ )
    | [-+]? (?: [0-9] [0-9_]* (?: \. [0-9_]* )? | \. [0-9] [0-9_]* ) (?: e [-+]? [0-9]+ )?
    | [-+]? [0-9] [0-9_]* (?: : [0-5]? [0-9] )+ (?: \. [0-9_]* )?
    | [-+]? \. (?: inf | nan )
    | [0-9]{4} - [0-9]{1,2} - [0-9]{1,2} (?: (?: t | [\ \t]+ ) [0-9]{1,2} : [0-9]{2} .* )?
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
    except ValueError:  # more digits than Python reads
        return Unquoted(text)
    return Unquoted(text) if _DIFFERENT.fullmatch(text) else text


# -- writing -----------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Not the one in C: the same bytes wherever it is written."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Between other quotes PyYAML's two parsers read what else ends a line in two ways.
    style = '"' if _BREAK.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_BREAK = re.compile("[\x85\u2028\u2029]")
_Dumper.add_representer(str, _text)
# A text that is taken for something else somewhere is put in quotes.
_Dumper.add_implicit_resolver(
    "!different", re.compile(rf"(?:{_DIFFERENT.pattern})\Z", _DIFFERENT.flags), None
)


def written(value: Any) -> str:
    """*value* as YAML, one way only."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        allow_unicode=True,
        default_flow_style=None,
        sort_keys=False,
        width=math.inf,
    )
    return text
