"""The text of a recurrence rule: ``FREQ=DAILY``, ``RRULE:FREQ=DAILY``, or with a DTSTART."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from ...clock import UTC
from ..schedule import refused, shown

#: The years that a start or an end may lie in.
FIRST_START, LAST_END = 1900, 9997
_LONGEST = 2000


class RuleText(NamedTuple):
    """A text taken apart: its parts are not yet judged."""

    #: In upper case, in the order in which they stand.
    parts: Mapping[str, str]
    #: A wall; None: no DTSTART.
    start: datetime | None
    #: The zone that DTSTART names; None: it names none.
    zone: str | None


def is_rule(text: str) -> bool:
    """Whether *text* means to be a recurrence rule, right or wrong."""
    return _BEGINNING.match(text) is not None


def read_text(value: object, text: str) -> RuleText:
    """Take *text* apart; *value*, of which it is a part, is shown where it is refused.

    Blanks, case, and how lines are folded do not matter, but for the name of a zone.

    Raises:
        ScheduleError: it is too long, or holds more or other than one RRULE and one DTSTART.
    """
    if len(text) > _LONGEST:
        raise refused(value, f"a rule has at most {_LONGEST} characters, this one {len(text)}")
    lines: dict[str, tuple[str, str]] = {}
    for line in map(_squeezed, _BETWEEN.split(text.strip())):
        head, colon, body = line.rpartition(":")
        name, _, parameters = (head if colon else "RRULE").partition(";")
        name = name.upper()
        if name not in ("RRULE", "DTSTART") or name in lines:
            fault = f"a second {name}" if name in lines else f"{shown(name)} is not read"
            raise refused(value, f"{fault}; allowed are one DTSTART and one RRULE")
        lines[name] = parameters, body
    if "RRULE" not in lines:
        raise refused(value, "DTSTART alone is no rule; add RRULE:FREQ=…")
    parameters, body = lines["RRULE"]
    if parameters:
        raise refused(value, f"RRULE;{shown(parameters)}; allowed is RRULE: without parameters")
    start, zone = _start(value, *lines["DTSTART"]) if "DTSTART" in lines else (None, None)
    return RuleText(_parts(value, body.upper()), start, zone)


def when(value: object, name: str, text: str, *, last: bool = False) -> datetime:
    """The wall that *text* says, or the instant, aware UTC, if it ends with ``Z``.

    A date alone is its first moment, or with *last* its last one.
    """
    match = _WHEN.fullmatch(text)
    try:
        found = datetime(*map(int, match.groups("0")[:6])) if match else None  # type: ignore[arg-type] # noqa: DTZ001
    except ValueError:
        found = None
    if match is None or found is None or not FIRST_START <= found.year <= LAST_END:
        raise refused(
            value,
            f"{name} {shown(text)}; allowed are 20261231, 20261231T090000 and 20261231T090000Z, "
            f"years {FIRST_START} to {LAST_END}",
        )
    if match[4] is None and last:
        return found + timedelta(days=1, microseconds=-1)
    return found.replace(tzinfo=UTC) if match[7] else found


def _start(value: object, parameters: str, body: str) -> tuple[datetime, str | None]:
    """The wall of a DTSTART, and the zone that it names: by TZID, or by ``Z`` UTC's."""
    zone = None
    for parameter in parameters.split(";") if parameters else ():
        name, _, said = parameter.partition("=")
        if name.upper() == "TZID":
            zone = said.strip('"')
        elif parameter.upper() not in ("VALUE=DATE", "VALUE=DATE-TIME"):
            raise refused(value, f"DTSTART;{shown(parameter)}; allowed are TZID and VALUE=DATE")
    start = when(value, "DTSTART", body.upper())
    if start.tzinfo is None:
        return start, zone
    if zone is not None:
        raise refused(value, f"DTSTART {shown(body)} is UTC by its Z and has a TZID; leave out one")
    return start.replace(tzinfo=None), "UTC"


def _parts(value: object, body: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in body.split(";"):
        name, equals, text = part.partition("=")
        if not part:
            continue  # a semicolon at the end is common
        if not equals or name in parts:
            fault = f"{name} stands twice" if name in parts else f"{shown(part)} is no part"
            raise refused(value, f"{fault}; a rule is NAME=VALUE with semicolons between")
        parts[name] = text
    return parts


def _squeezed(line: str) -> str:
    return "".join(line.split())


_PROPERTIES = "RRULE|DTSTART|EXRULE|EXDATE|RDATE|DTEND|DURATION"
_PARTS = "FREQ|INTERVAL|COUNT|UNTIL|WKST|BY[A-Z]+"
_BEGINNING = re.compile(rf"\s*(?:(?:{_PROPERTIES})\s*[:;]|(?:{_PARTS})\s*=)", re.IGNORECASE)
#: A line that begins with a blank goes on with the one before it, unless it begins anew.
_BETWEEN = re.compile(rf"(?<!\s)\s+(?=(?:{_PROPERTIES})\s*[:;])|\r?\n(?![ \t\r\n])", re.IGNORECASE)
_WHEN = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:T([0-9]{2})([0-9]{2})([0-9]{2})(Z)?)?")
