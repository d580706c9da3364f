"""JSON, more strictly than Python reads it: no key twice, no number that JSON does not have."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from ..errors import DocumentError
from ..schedules.schedule import quoted


def read(text: str) -> tuple[Any, list[str]]:
    """The value of *text*, and what is wrong with it although it can be read.

    Raises:
        DocumentError: it is no JSON.
    """
    faults: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = ", ".join(quoted(key) for key, count in counts.items() if count > 1)
            faults.append(f"the key {twice} stands twice in one mapping")
        return found

    def number(digits: str) -> float | None:
        found = float(digits)
        if math.isfinite(found):
            return found
        faults.append(f"{digits} is no number that JSON can hold")
        return None

    try:
        value = json.loads(
            text, object_pairs_hook=mapping, parse_float=number, parse_constant=number
        )
    except RecursionError:
        raise DocumentError(["it is nested too deeply"]) from None
    except ValueError as fault:
        raise DocumentError([f"it is no JSON: {fault}"]) from None
    return value, faults


def written(value: Any) -> str:
    """*value* as JSON, one way only."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Half a surrogate pair, which no encoding has, as JSON spells it.
    return text.encode(errors="backslashreplace").decode()
