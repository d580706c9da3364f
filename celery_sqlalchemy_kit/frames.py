"""Messages as they are written to an AMQP broker: octets, in which a run's own is filled in.

In AMQP 0-9-1 (2.3.5, 4.2) a message is three frames: a method, a header, a body. Each frame says
how long it is; the header, how long the body and its table of headers are; and before each text
stands how long that is. All of it is counted anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, pairwise
from struct import Struct, error
from typing import Any, NamedTuple

from amqp.serialization import dumps

_OCTET, _LONG, _LONG_LONG = Struct(">B"), Struct(">I"), Struct(">Q")
#: A frame begins with its type, its channel, and how long its content is; one octet ends it.
_FRAME = Struct(">BHI")
_TYPES = [1, 2, 3]
#: The content of a header: its class and weight, how long the body is, flags of what follows. By
#: the first two of them that is a short text, by the third the table.
_HEADER, _SIZE_AT = Struct(">HHQH"), 4
_SHORT, _TABLE = (1 << 15, 1 << 14), 1 << 13


def octets_of(text: str) -> bytes:
    """As py-amqp encodes it."""
    return text.encode("utf-8", "surrogatepass")


class Length(NamedTuple):
    """A part that says how long the parts *counted* are, with *constant* octets beside them."""

    part: int
    packed: Callable[[int], bytes]
    constant: int
    counted: tuple[int, ...]


class Frames(NamedTuple):
    """A message in parts; those at `slots` are to be filled in, then `lengths` to be counted.

    At *end*, which is empty, the table of headers ends.
    """

    parts: tuple[bytes, ...]
    slots: tuple[tuple[int, str], ...]
    lengths: tuple[Length, ...]
    end: int

    def filled(self, values: Mapping[str, str], headers: Mapping[str, Any] | None = None) -> bytes:
        """With *headers* behind those that it has.

        Raises:
            amqp.exceptions.FrameSyntaxError: one of *headers* is nothing that a table holds.
            struct.error: one of *values* is longer than can be said there.
        """
        parts = list(self.parts)
        for place, name in self.slots:
            parts[place] = octets_of(values[name])
        if headers:
            parts[self.end] = dumps("F", [headers])[_LONG.size :]
        for part, packed, constant, counted in self.lengths:
            parts[part] = packed(constant + sum([len(parts[place]) for place in counted]))
        return b"".join(parts)


class _Span(NamedTuple):
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def has(self, other: _Span) -> bool:
        return self.start <= other.start and other.end <= self.end


class _Field(NamedTuple):
    """Where, and in which form, stands how long something is."""

    start: int
    kind: Struct
    of: _Span

    @property
    def at(self) -> _Span:
        return _Span(self.start, self.start + self.kind.size)

    def holds(self, octets: bytes) -> bool:
        return octets[slice(*self.at)] == self.kind.pack(self.of.length)


def taken_apart(octets: bytes, values: Mapping[str, str]) -> Frames | None:
    """The message in parts, wherever one of *values* stands in it.

    None: it is not three frames with a table of headers; or one of *values* is not there, or
    stands where nothing says how long it is.
    """
    try:
        header, body = _contents(octets)
        table = _table(octets, header)
    except (ValueError, error):
        return None
    names = {octets_of(value): name for name, value in values.items()}
    own = list(_found(octets, names))
    fields = [
        _Field(header.start - _LONG.size, _LONG, header),
        _Field(header.start + _SIZE_AT, _LONG_LONG, body),
        _Field(table.start - _LONG.size, _LONG, table),
        _Field(body.start - _LONG.size, _LONG, body),
    ]
    for span, _ in own:
        if span != body:
            kind = _LONG if table.has(span) else _OCTET
            fields.append(_Field(span.start - kind.size, kind, span))
    found = {name for _, name in own}
    if found != set(names.values()) or not all(each.holds(octets) for each in fields):
        return None
    return _cut(octets, own, fields, table)


def _contents(octets: bytes) -> tuple[_Span, _Span]:
    """Those of the header and of the body."""
    kinds, contents, at = [], [], 0
    while at < len(octets):
        kind, _, size = _FRAME.unpack_from(octets, at)
        at += _FRAME.size
        kinds.append(kind)
        contents.append(_Span(at, at + size))
        at += size + 1
    if kinds != _TYPES:
        raise ValueError(kinds)
    return contents[1], contents[2]


def _table(octets: bytes, header: _Span) -> _Span:
    _, _, _, flags = _HEADER.unpack_from(octets, header.start)
    at = header.start + _HEADER.size
    for flag in _SHORT:
        if flags & flag:
            at += _OCTET.size + octets[at]
    if not flags & _TABLE:
        raise ValueError(flags)
    (size,) = _LONG.unpack_from(octets, at)
    at += _LONG.size
    return _Span(at, at + size)


def _found(octets: bytes, names: Mapping[bytes, str]) -> Iterator[tuple[_Span, str]]:
    # One may be part of another: the longest first.
    those = sorted(names, key=len, reverse=True)
    for match in re.finditer(b"|".join(map(re.escape, those)), octets):
        yield _Span(*match.span()), names[match.group()]


def _cut(octets: bytes, own: list[tuple[_Span, str]], fields: list[_Field], table: _Span) -> Frames:
    spans = [*(span for span, _ in own), *(each.at for each in fields)]
    edges = sorted({0, table.end, len(octets), *chain.from_iterable(spans)})
    end = edges.index(table.end)
    edges.insert(end, table.end)
    place = {start: number for number, start in enumerate(edges)}
    slots = tuple((place[span.start], name) for span, name in own)
    lengths = []
    for field in fields:
        counted = [span for span, _ in own if field.of.has(span)]
        constant = field.of.length - sum(span.length for span in counted)
        places = [place[span.start] for span in counted]
        if field.of.has(table):
            places.append(end)
        if places:
            lengths.append(Length(place[field.at.start], field.kind.pack, constant, tuple(places)))
    parts = (octets[start:stop] for start, stop in pairwise(edges))
    return Frames(tuple(parts), slots, tuple(lengths), end)
