"""Options that take JSON."""

from __future__ import annotations

import json
from typing import Any

import click


class JsonText(click.ParamType):  # type: ignore[type-arg]  # of click 8.5
    """JSON of one kind."""

    def __init__(self, kind: type[list[Any] | dict[str, Any]], name: str) -> None:
        self._kind, self.name = kind, name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[Any] | dict[str, Any]:
        if not isinstance(value, str):
            found = value
        else:
            try:
                found = json.loads(value)
            except (ValueError, RecursionError) as fault:
                self.fail(f"{value!r} is no JSON: {fault}; allowed is {self.name}")
        if not isinstance(found, self._kind):
            self.fail(f"{value!r}: allowed is {self.name}")
        return found


OBJECT = JsonText(dict, "a JSON object")
ARRAY = JsonText(list, "a JSON array")
