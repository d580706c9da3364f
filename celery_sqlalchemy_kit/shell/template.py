"""A command with placeholders, and the values that fill them; pure."""

from __future__ import annotations

import math
import os
import string
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import DeclarationError, ParameterError

#: Characters of a wrong value that an error shows.
_SHOWN = 200


class Piece(NamedTuple):
    """Part of an argument: the code's own text, and the placeholder after it, if there is one."""

    text: str
    name: str | None


@dataclass(frozen=True)
class Template:
    """A command as it was declared: for each of its arguments the pieces that it is made of."""

    arguments: tuple[tuple[Piece, ...], ...]
    #: For each placeholder with a list of them, the only values that it may have, as text.
    choices: Mapping[str, frozenset[str]]
    #: The placeholders whose values may begin with ``-`` where they begin an argument.
    leading_dash: frozenset[str]

    @classmethod
    def read(cls, command: Any, *, choices: Any, leading_dash: Any, whose: str) -> Template:
        """Read what a task *whose* declares.

        Raises:
            DeclarationError: names the task, what is wrong and what is allowed.
        """
        if not isinstance(command, (list, tuple)) or not command:
            raise DeclarationError(
                f"{whose}: command = {command!r}: allowed is a list of the program and its "
                "arguments, each a str"
            )
        template = cls(
            tuple(_pieces(each, f"{whose}: command[{n}]") for n, each in enumerate(command)),
            _choices(choices, whose),
            _names(leading_dash, f"{whose}: leading_dash"),
        )
        template._check(whose)
        return template

    @property
    def names(self) -> frozenset[str]:
        """Those of the placeholders."""
        return frozenset(
            piece.name for pieces in self.arguments for piece in pieces if piece.name is not None
        )

    def fill(self, parameters: Mapping[str, Any], whose: str) -> list[str]:
        """The arguments, with *parameters* in the place of their placeholders.

        Raises:
            ParameterError: names the task, each wrong parameter, its value and what is allowed.
        """
        faults = list(self._unknown_and_missing(parameters))
        texts: dict[str, str] = {}
        for name in sorted(self.names & parameters.keys()):
            try:
                texts[name] = self._text(name, parameters[name])
            except ValueError as fault:
                faults.append(f"parameter {name!r} = {_shown(parameters[name])}: {fault}")
        if not faults:
            faults.extend(self._options(texts))
        if faults:
            raise ParameterError(f"{whose}: {'; '.join(faults)}")
        return [_filled(pieces, texts) for pieces in self.arguments]

    def _check(self, whose: str) -> None:
        program, *_ = self.arguments
        if any(piece.name is not None for piece in program) or not _filled(program, {}):
            raise DeclarationError(
                f"{whose}: command[0]: allowed is the name of a program, without placeholders"
            )
        for attribute in ("choices", "leading_dash"):
            unknown = frozenset(getattr(self, attribute)) - self.names
            if unknown:
                raise DeclarationError(
                    f"{whose}: {attribute}: {_listed(unknown)}: allowed are the command's "
                    f"placeholders, {_listed(self.names)}"
                )
        for number, pieces in enumerate(self.arguments):
            for name in _names_of_options(pieces) - self.choices.keys():
                raise DeclarationError(
                    f"{whose}: command[{number}]: {{{name}}} would say which option it is; "
                    "allowed only with choices for it"
                )

    def _unknown_and_missing(self, parameters: Mapping[str, Any]) -> Iterator[str]:
        for name in sorted(parameters.keys() - self.names):
            yield (
                f"parameter {_shown(name)} = {_shown(parameters[name])}: the command has no such "
                f"placeholder; allowed are {_listed(self.names)}"
            )
        for name in sorted(self.names - parameters.keys()):
            yield f"parameter {name!r} is missing"

    def _text(self, name: str, value: Any) -> str:
        text = _text(value)
        if name in self.choices and text not in self.choices[name]:
            raise ValueError(f"allowed are {_listed(self.choices[name])}")
        return text

    def _options(self, texts: Mapping[str, str]) -> Iterator[str]:
        """What is wrong with values that the command would take for options."""
        for pieces in self.arguments:
            if pieces and pieces[0].text == "" and _filled(pieces, texts).startswith("-"):
                names = [piece.name for piece in pieces if piece.name is not None]
                # Those before it are empty, and all of them if the code's own text has the dash.
                name = next((each for each in names if texts[each]), names[0])
                if name not in self.leading_dash and name not in self.choices:
                    yield (
                        f"parameter {name!r} = {_shown(texts[name])}: an argument that begins with "
                        "'-' is an option; allowed only by leading_dash or choices"
                    )


def _pieces(argument: Any, where: str) -> tuple[Piece, ...]:
    if not isinstance(argument, str) or "\0" in argument:
        raise DeclarationError(f"{where} = {argument!r}: allowed is a str without NUL")
    pieces = []
    try:
        for text, name, spec, conversion in string.Formatter().parse(argument):
            pieces.append(Piece(text, _placeholder(name, spec, conversion)))
    except ValueError as fault:
        raise DeclarationError(
            f"{where} = {argument!r}: {fault}; allowed are placeholders like {{name}}, and braces "
            "by doubling them"
        ) from None
    return tuple(pieces)


def _placeholder(name: str | None, spec: str | None, conversion: str | None) -> str | None:
    if name is not None and (spec or conversion or not name.isidentifier()):
        raise ValueError(f"{name!r} with what follows it is no name")
    return name


def _filled(pieces: tuple[Piece, ...], texts: Mapping[str, str]) -> str:
    return "".join(text if name is None else text + texts[name] for text, name in pieces)


def _names_of_options(pieces: tuple[Piece, ...]) -> set[str]:
    """The placeholders directly after dashes with which the code begins the argument."""
    names: set[str] = set()
    if not pieces or not pieces[0].text or pieces[0].text.strip("-"):
        return names
    for number, (text, name) in enumerate(pieces):
        if name is None or (number and text):
            break
        names.add(name)
    return names


def _choices(choices: Any, whose: str) -> dict[str, frozenset[str]]:
    if not isinstance(choices, Mapping):
        raise DeclarationError(
            f"{whose}: choices = {choices!r}: allowed is a dict of lists, by placeholder"
        )
    read = {}
    for name, values in choices.items():
        where = f"{whose}: choices[{name!r}]"
        if isinstance(values, (str, bytes)) or not isinstance(values, Collection) or not values:
            raise DeclarationError(f"{where} = {values!r}: allowed is a list of values")
        try:
            read[name] = frozenset(_text(value) for value in values)
        except ValueError as fault:
            raise DeclarationError(f"{where} = {values!r}: {fault}") from None
    return read


def _names(names: Any, where: str) -> frozenset[str]:
    if isinstance(names, (str, bytes)) or not isinstance(names, Collection):
        raise DeclarationError(f"{where} = {names!r}: allowed is a list of placeholders")
    return frozenset(names)


def _text(value: Any) -> str:
    """What *value* is within an argument.

    Raises:
        ValueError: says what is allowed.
    """
    # Enums of these types print their names, and their values are meant. No two programs agree on
    # how a bool is written.
    kinds = {str: str.__str__, int: int.__repr__, float: float.__repr__}
    kind = next((each for each in kinds if isinstance(value, each)), None)
    if kind is None or isinstance(value, bool) or (kind is float and not math.isfinite(value)):
        raise ValueError("allowed are str, int and finite float")
    text: str = kinds[kind](value)
    if "\0" in text:
        raise ValueError("allowed is text without NUL")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"allowed is what {sys.getfilesystemencoding()} can encode") from None
    return text


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"
