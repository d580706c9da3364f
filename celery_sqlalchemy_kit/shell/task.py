"""The task whose body is a command."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from .. import declarations, entries
from ..errors import CommandError, DeclarationError, ParameterError
from ..tasks import SyncTask
from . import process
from .order import Order


class ShellTask(SyncTask):
    """A task that runs a command, and fails with `CommandError` if that does.

    ``{name}`` within an argument is replaced by the parameter of that name, one of the task's
    ``kwargs``: always within that argument, as no shell reads it. Parameters are text without NUL
    and numbers. An argument that begins with one may not begin with ``-``, as it would be an
    option, but for what `choices` and `leading_dash` allow. A literal brace is doubled.

    The result is ``{"exit_code": 0, "output": "…", "output_bytes": 1234, "seconds": 1.2}``:
    the end of what the command printed on both streams, how many bytes that was in all, and how
    long it took. Its standard input is empty.

    When the command has ended, or the task was ended, so are the processes that the command has
    started, SIGTERM first; but for those that have left its process group (``setsid``), or
    are another user's (``sudo``).

    Raises:
        DeclarationError: where the class is defined, if what it says is wrong, or its routines
            have ``kwargs`` that the command does not take.
        ParameterError: when it runs, before anything is started; that is not retried.
        OSError: when it runs, and the program is not there, say.
    """

    abstract = True

    #: The program, and its arguments; a class without is a base for others.
    command: ClassVar[list[str] | tuple[str, ...] | None] = None
    #: The only values that a parameter may have, such as ``{"format": ["custom", "plain"]}``.
    choices: ClassVar[Mapping[str, Collection[str | int | float]]] = {}
    #: The parameters that may begin with ``-``: negative numbers, or what comes after ``--`` in a
    #: command that heeds it.
    leading_dash: ClassVar[Collection[str]] = ()

    #: Variables that are added to the environment of the worker, as they stand: a password may
    #: have braces.
    environment: ClassVar[Mapping[str, str]] = {}
    #: False: the command has no variables but those of ``environment``.
    inherits_environment: ClassVar[bool] = True
    #: None: that of the worker.
    working_directory: ClassVar[str | os.PathLike[str] | None] = None

    #: Seconds after which the command is ended and the task fails; None, the default, for never.
    #: It holds in every pool, unlike Celery's ``time_limit``.
    command_limit_seconds: ClassVar[float | None] = None
    #: Seconds between SIGTERM and SIGKILL.
    command_grace_seconds: ClassVar[float] = 10.0
    #: Bytes of the end of the output that are kept. An error shows 3,072 of them.
    output_tail_bytes: ClassVar[int] = 4096
    #: Those with which the command has not failed; -15 stands for one that SIGTERM has ended.
    ok_exit_codes: ClassVar[Collection[int]] = frozenset({0})

    def run(self, /, *args: Any, **parameters: Any) -> dict[str, Any]:
        """Run the command with *parameters*; override it to check or to complete them."""
        order = Order.of(self, f"task {self.name!r}")
        command = order.command(args, parameters)
        ended = process.run(command, f"{self.name}[{self.request.id}]")
        if ended.reached_limit or ended.exit_code not in order.ok_exit_codes:
            limit = command.limit_seconds if ended.reached_limit else None
            raise CommandError(
                self.name,
                command.arguments[0],
                ended.exit_code,
                ended.output,
                ended.seconds,
                limit,
            )
        return {
            "exit_code": ended.exit_code,
            "output": ended.output,
            "output_bytes": ended.output_bytes,
            "seconds": ended.seconds,
        }

    def _is_final(self, error: Any) -> bool:
        # A retry would have the same parameters.
        return isinstance(error, ParameterError) or super()._is_final(error)

    @classmethod
    def _check(cls) -> None:
        super()._check()
        whose = f"task {declarations.title(cls)!r}"
        if "_decorated" in vars(cls):
            raise DeclarationError(f"{whose}: a ShellTask is a class with a command, no function")
        if cls.command is None:
            return
        order = Order.of(cls, whose)
        if cls._is_declaration() and cls.run is ShellTask.run:
            cls._check_routines(order)

    @classmethod
    def _check_routines(cls, order: Order) -> None:
        for name, entry in entries.of_task(cls):
            try:
                order.arguments(entry["args"] or (), entry["kwargs"] or {})
            except ParameterError as error:
                where = f"routines[{name!r}]: " if name in cls.routines else ""
                raise DeclarationError(f"{where}{error}") from None

    @classmethod
    def _has_body(cls) -> bool:
        return cls.command is not None
