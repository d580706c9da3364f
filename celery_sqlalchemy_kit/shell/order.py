"""What a class says of its command: read, checked, and made a value."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DeclarationError, ParameterError
from .process import Command
from .template import Template


@dataclass(frozen=True)
class Order:
    """A command as it was declared, without its parameters."""

    whose: str
    template: Template
    environment: Mapping[str, str]
    inherits_environment: bool
    working_directory: str | os.PathLike[str] | None
    output_tail_bytes: int
    limit_seconds: float | None
    grace_seconds: float
    ok_exit_codes: frozenset[int]

    @classmethod
    def of(cls, task: Any, whose: str) -> Order:
        """Read the attributes of *task*, which is one or a class of them.

        Raises:
            DeclarationError: names the task, the attribute, its value and what is allowed.
        """
        return cls(
            whose,
            Template.read(
                task.command, choices=task.choices, leading_dash=task.leading_dash, whose=whose
            ),
            _environment(task.environment, whose),
            bool(task.inherits_environment),
            _directory(task.working_directory, whose),
            _number(task, "output_tail_bytes", whose, kind=int),
            None
            if task.command_limit_seconds is None
            else _number(task, "command_limit_seconds", whose, above=True),
            _number(task, "command_grace_seconds", whose),
            _exit_codes(task.ok_exit_codes, whose),
        )

    def arguments(self, args: Sequence[Any], parameters: Mapping[str, Any]) -> list[str]:
        """Those of the command with *parameters*.

        Raises:
            ParameterError: there are *args*, or see `Template.fill`.
        """
        if args:
            raise ParameterError(f"{self.whose}: args = {args!r}: parameters are passed by name")
        if not isinstance(parameters, Mapping):
            raise ParameterError(f"{self.whose}: kwargs = {parameters!r}: allowed is a dict")
        return self.template.fill(parameters, self.whose)

    def command(self, args: Sequence[Any], parameters: Mapping[str, Any]) -> Command:
        """What is to be run, in the environment of this process as it is now.

        Raises:
            ParameterError: as for `arguments`.
        """
        inherited = os.environ if self.inherits_environment else {}
        return Command(
            self.arguments(args, parameters),
            {**inherited, **self.environment},
            self.working_directory,
            self.output_tail_bytes,
            self.limit_seconds,
            self.grace_seconds,
        )


def _environment(environment: Any, whose: str) -> dict[str, str]:
    if not isinstance(environment, Mapping):
        raise DeclarationError(f"{whose}: environment: allowed is a dict of str")
    for name, value in environment.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise DeclarationError(f"{whose}: environment: {name!r} is no name of a variable")
        if not isinstance(value, str) or "\0" in value:
            # Not shown: it may be a password.
            raise DeclarationError(f"{whose}: environment[{name!r}]: allowed is a str without NUL")
    return dict(environment)


def _directory(directory: Any, whose: str) -> Any:
    if directory is not None and (
        not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory)
    ):
        raise DeclarationError(
            f"{whose}: working_directory = {directory!r}: allowed is a path, or None for that of "
            "the worker"
        )
    return directory


def _number(
    task: Any, attribute: str, whose: str, *, kind: Any = (int, float), above: bool = False
) -> Any:
    value = getattr(task, attribute)
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not (value > 0 if above else value >= 0) or not math.isfinite(value):
        what = "a whole number" if kind is int else "a number"
        least = "above 0" if above else "of at least 0"
        raise DeclarationError(f"{whose}: {attribute} = {value!r}: allowed is {what} {least}")
    return value


def _exit_codes(codes: Any, whose: str) -> frozenset[int]:
    is_listed = isinstance(codes, Collection) and not isinstance(codes, (str, bytes))
    if not is_listed or not all(type(each) is int and -64 <= each <= 255 for each in codes):
        raise DeclarationError(
            f"{whose}: ok_exit_codes = {codes!r}: allowed is a set of 0 to 255, and of signals' "
            "numbers with a minus"
        )
    return frozenset(codes)
