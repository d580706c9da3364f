"""Crontabs in words, by the library cron-descriptor, where it says what is meant.

Only forms are given to it of which every version says the right thing and says it clearly; an
expression of any other form stands for itself. Wrong or unclear are, for instance, ``*/7`` ("every
7 minutes", though the hour begins anew), ``*/2`` of days or weekdays, several hours with several
minutes, ``50-10`` of minutes, ``15,L`` ("day 15 and L") and ``FRI#2,1L``.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from functools import lru_cache

from .fields import FIELDS


@lru_cache(maxsize=1024)
def described(expression: str, zone: str, *, either: bool) -> str:
    """Five fields, of a form that `cron` or `crontab` accepts, in words, which are English in
    any locale: ``at 09:00, Monday through Friday, Europe/Berlin``.

    *either*: the day of the month or the day of the week decides, where both are restricted.
    """
    minute, hour, day, month, weekday = (
        _plain(text, _NAMES.get(place, ())) for place, text in enumerate(expression.split())
    )
    clear = (
        _is_clear_time(minute, hour)
        and _is_clear_date(day, weekday, either=either)
        and _is_clear(month, 12, low=1, rounds=True)
        # Of a night from Monday to Tuesday nobody knows which mornings are meant.
        and (_is_clear(hour, 24) or day == month == weekday == "*")
    )
    if not clear:
        # Read as a cron string it would be either.
        both = not either and not day.startswith("*") and not weekday.startswith("*")
        written = " ".join(expression.split())
        return f"cron {written}{' where both days match' if both else ''}, {zone}"
    if hour.isdigit() and "," in minute:
        # "At 5 and 10 minutes past the hour, at 09:00" becomes "... between 09:00 and 09:59".
        hour = f"{hour}-{hour}"
    elif minute == "0" and "-" in hour and "/" not in hour:
        minute = "00"  # of "0" in a range of hours, old versions do not speak
    text = _spoken(f"{minute} {hour} {day} {month} {weekday}").replace("at 00 min", "at 0 min")
    if day != "*" and weekday != "*":
        # Versions differ in what they take for the rule, and none knows both.
        text = re.sub(", (?:or|only) on ", f", {'or' if either else 'but only'} on ", text)
    return f"{text}, {zone}"


def in_english(text: str, days: Mapping[str, str]) -> str:
    """*text* with names of a locale replaced; *days* has the English ones by them."""
    longest_first = sorted(map(re.escape, days), key=len, reverse=True)
    pattern = rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)"
    return re.sub(pattern, lambda match: days[match[0]], text)


def _spoken(expression: str) -> str:
    from cron_descriptor import ExpressionDescriptor, Options

    options = Options()
    options.locale_code = "en_US"
    options.use_24hour_time_format = True
    text = str(ExpressionDescriptor(expression, options).get_description())
    # The library takes days and months from the locale of the process, all else from its own.
    local = (*calendar.day_name, *calendar.month_name[1:])
    text = in_english(text, dict(zip(local, _ENGLISH, strict=True)))
    return f"{text[:1].lower()}{text[1:]}"


def _plain(text: str, names: tuple[str, ...]) -> str:
    """A field with numbers for names, without leading zeros and steps of one."""
    text = re.sub(
        "[A-Z]{3,}", lambda match: str(_number(match[0][:3].lower(), names)), text.upper()
    )
    text = re.sub(r"\b0+(?=[0-9])", "", text)
    return re.sub(r"(\*|-[0-9]+)/1(?![0-9])", r"\1", text)


def _number(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) + (len(names) == 12)


def _is_clear_time(minute: str, hour: str) -> bool:
    if not _is_clear(minute, 60) or not _is_clear(hour, 24, rounds=True):
        return False
    if "," in hour:
        return minute.isdigit() and "-" not in hour
    return "/" not in hour or not ("*" in minute or "/" in minute)


def _is_clear_date(day: str, weekday: str, *, either: bool) -> bool:
    counted = _COUNTED.fullmatch(weekday) is not None
    if day not in ("L", "LW") and not _is_clear(day, 31, low=1, steps=False):
        return False
    if not counted and not _is_clear(weekday, 7, rounds=True, steps=False):
        return False
    if day == "*" or weekday == "*":
        return True
    # Of a range, or of FRI#2, it is not said whether it is meant besides or instead.
    return weekday.isdigit() or "," in weekday or not (either or counted)


def _is_clear(
    text: str, size: int, *, low: int = 0, rounds: bool = False, steps: bool = True
) -> bool:
    """Whether the library says the right thing of a field of *size* numbers from *low*.

    ``rounds``: of a range that goes round as well. ``steps``: of a step as well.
    """
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match[1] is None and part != text):
            return False
        first, last, step = (None if number is None else int(number) for number in match.groups())
        if first is not None and last is not None:
            if (last - first) % size < (step or 1) or (last < first and not rounds):
                return False
        elif step is not None and (size % step or (first or low) - low >= step):
            return False  # "every 7 minutes" is not, once the hour begins anew
        if step is not None and (not steps or part != text):
            return False
    return True


_PART = re.compile(r"(?:\*|([0-9]+)(?:-([0-9]+))?)(?:/([0-9]+))?")
#: The second Friday, the last.
_COUNTED = re.compile(r"[0-7](?:L|#[1-5])")
_NAMES = {3: FIELDS["month_of_year"].names, 4: FIELDS["day_of_week"].names}
_ENGLISH = (
    *("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
