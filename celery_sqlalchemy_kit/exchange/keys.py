"""The keys of a routine in a document: what each may hold, and how it is written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from dateutil.parser import isoparse

from ..clock import UTC, as_utc
from ..routines import REFUSED_OPTIONS, CatchUp, Origin, Overlap
from ..schedules.interval import is_number

#: How deeply what is sent may be nested: a writer of YAML goes down by recursion.
LEVELS = 100

T = TypeVar("T")

_LONGEST_NAME = 255
#: Octets, which a TEXT of MySQL holds.
_LONGEST_DESCRIPTION = 65_535
_LONGEST_JITTER = 31_536_000
#: What an integer column holds.
_LARGEST = 2**31 - 1


class Unreadable(ValueError):
    """A value is not allowed; the message says what is."""


class Unquoted(str):
    """A text that stood in YAML without quotes, and that the versions of YAML read differently.

    Where an instant is meant it is one; elsewhere nobody can say what was meant.
    """

    __slots__ = ()


def first_of(kind: type[T], value: object) -> T | None:
    """One that is in *value*, at any depth, or is it; None: there is none."""
    layer = [value]
    while layer:
        for each in layer:
            if isinstance(each, kind):
                return each
        layer = [inner for each in layer for inner in _inside(each)]
    return None


def _inside(value: object) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value


# -- reading -----------------------------------------------------------------------------------


def _text(longest: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= longest or not is_storable(value):
            raise Unreadable(
                f"a text of 1 to {longest} characters, without NUL or half a surrogate"
            )
        return str(value)

    return read


def is_storable(text: str) -> bool:
    """Whether every database takes *text* as such."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def storable(text: str) -> str:
    """*text*, with what not every database takes shown as an escape."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _description(value: Any) -> str | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str) or not is_storable(value):
        raise Unreadable("a text without NUL or half a surrogate")
    if len(value.encode()) > _LONGEST_DESCRIPTION:
        raise Unreadable(f"a text of at most {_LONGEST_DESCRIPTION} octets in UTF-8")
    return str(value)


def _args(value: Any) -> tuple[Any, ...]:
    if value is not None and not isinstance(value, (list, tuple)):
        raise Unreadable("a list")
    return tuple(_plain(value or []))


def _kwargs(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise Unreadable("a mapping")
    plain: dict[str, Any] = _plain(dict(value or {}))
    return plain


def _options(value: Any) -> dict[str, Any]:
    options = _kwargs(value)
    if REFUSED_OPTIONS & options.keys():
        refused = ", ".join(sorted(REFUSED_OPTIONS))
        raise Unreadable(f"any option of apply_async that JSON can hold, but for {refused}")
    if not isinstance(options.get("headers", {}), (dict, type(None))):
        raise Unreadable("a mapping as headers")
    return options


def _plain(value: Any) -> Any:
    """*value* as it comes back from JSON."""
    try:
        plain = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as fault:
        raise Unreadable(f"what JSON can hold: {fault}") from None
    layer = [plain]
    for _ in range(LEVELS):
        layer = [each for value in layer for each in _inside(value)]
        if not layer:
            return plain
    raise Unreadable(f"at most {LEVELS} levels of nesting")


def _active(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unreadable("true or false")
    return value


def _word(kind: type[Enum]) -> Callable[[Any], Any]:
    words = {word.value: word for word in kind}

    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in words:
            raise Unreadable("one of " + ", ".join(words))
        return words[value]

    return read


def _origin(value: Any) -> Origin | None:
    return None if value is None else _word(Origin)(value)


def _jitter(value: Any) -> float:
    if not is_number(value) or not 0 <= value <= _LONGEST_JITTER:
        raise Unreadable(f"seconds from 0 to {_LONGEST_JITTER}")
    return float(value)


def _max_runs(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise Unreadable(f"a whole number from 0 to {_LARGEST}")
    return value


def _instant(value: Any) -> datetime | None:
    """ISO 8601, in UTC if it names no offset; a date is its midnight."""
    if value is None:
        return None
    try:
        # Of 2026-12, or of a week, isoparse takes the first day; nobody has said that day.
        if isinstance(value, str) and _DATE.match(value):
            at = isoparse(value)
            return as_utc(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):  # OverflowError: past the year 9999 in UTC
        pass
    raise Unreadable(
        "an instant in ISO 8601 such as 2026-12-01T09:00:00Z, in UTC if it names no offset"
    )


_DATE = re.compile(r"[0-9]{4}(-?)[0-9]{2}\1[0-9]{2}(?![0-9])", re.ASCII)

#: How each key is read, in the order in which they are written; ``schedule`` has its own way.
READERS: Mapping[str, Callable[[Any], Any]] = {
    "name": _text(_LONGEST_NAME),
    "task": _text(_LONGEST_NAME),
    "schedule": dict,
    "args": _args,
    "kwargs": _kwargs,
    "options": _options,
    "active": _active,
    "catch_up": _word(CatchUp),
    "overlap": _word(Overlap),
    "jitter": _jitter,
    "starts_at": _instant,
    "ends_at": _instant,
    "max_runs": _max_runs,
    "description": _description,
    "origin": _origin,
}
REQUIRED = ("name", "task", "schedule")
#: Where YAML may say an instant without quotes.
INSTANTS = ("starts_at", "ends_at")


# -- writing -----------------------------------------------------------------------------------


def written(value: Any) -> Any:
    """The value of a key but ``schedule`` as it stands in a document, in one form.

    Raises:
        Unreadable: JSON cannot hold it, or it is nested too deeply.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return as_utc(value).isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, (Mapping, tuple)):
        # There and back first: keys of several types, which become text, cannot be sorted.
        plain = _plain(dict(value) if isinstance(value, Mapping) else value)
        return json.loads(json.dumps(plain, sort_keys=True))
    return value


def written_schedule(value: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule's JSON with its keys in one order: that in which people say them."""
    return {key: value[key] for key in sorted(value, key=_SAID.index)}


_SAID = (
    *("timedelta", "cron", "once", "after", "rrule", "solar", "latitude", "longitude"),
    *("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone"),
)
