"""What a cron line means, worked out the long way: every minute of real time, one by one.

The judge of all schedules that follow a clock on the wall. It shares no code with them, and their
manner neither: whether a minute matches is asked of each part of each field, and where clocks are
changed the rule is taken as it is told.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left, bisect_right
from collections import defaultdict
from datetime import date, datetime, timedelta, timezone
from functools import cache
from itertools import product
from zoneinfo import ZoneInfo

UTC = timezone.utc
MOMENT = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: The fields of a cron line: bounds, and their names.
BOUNDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}
NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "weekday": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}


def utc(*when):
    return datetime(*when, tzinfo=UTC)


def going(schedule, after, until):
    """Every occurrence in (after, until], from one to the next."""
    found = []
    at = schedule.next_after(after)
    while at is not None and at <= until:
        assert at > (found[-1] if found else after)
        found.append(at)
        at = schedule.next_after(at)
    return found


# -- zones ------------------------------------------------------------------------------------


@cache
def changes(zone, first_year, last_year):
    """The instants at which clocks are changed in those years, both inclusive."""
    found = []
    at, end = utc(first_year, 1, 1), utc(last_year + 1, 1, 1)
    while at < end:
        if _offset(zone, at + DAY) != _offset(zone, at):
            minutes = [at + number * MINUTE for number in range(1, 1441)]
            found.append(next(m for m in minutes if _offset(zone, m) != _offset(zone, m - MINUTE)))
        at += DAY
    return found


def _offset(zone, at):
    return at.astimezone(ZoneInfo(zone)).utcoffset()


class Stretch:
    """The minutes of real time in (begin, end], and the walls that a zone shows at them.

    *lead*: how long before, at the most, there was shown what is repeated at the beginning.
    """

    def __init__(self, zone, begin, end, lead=3 * HOUR):
        self.begin, self.end, self.zone = begin, end, zone
        #: By day, counted as `date.toordinal`, and minute of the day: the instants at which it is shown.
        self.shown = defaultdict(lambda: defaultdict(list))
        #: By the same: the instant at which it was reached for the first time, or jumped over.
        self.reached = defaultdict(dict)
        at = begin - lead
        zone = ZoneInfo(zone)
        newest = _wall(at, zone)
        while at < end:
            at += MINUTE
            wall = _wall(at, zone)
            if at > begin:
                self.shown[wall.toordinal()][60 * wall.hour + wall.minute].append(at)
            while newest < wall:
                newest += MINUTE
                if at > begin:
                    self.reached[newest.toordinal()][60 * newest.hour + newest.minute] = at


def _wall(at, zone):
    return zone.fromutc(at.replace(tzinfo=zone)).replace(tzinfo=None, fold=0)


@cache
def stretch(*args, **kwargs):
    return Stretch(*args, **kwargs)


# -- what matches -----------------------------------------------------------------------------


class Told:
    """Five fields, as text: when they are due by the rule as it is told.

    *either*: as in cron strings, a day matches by its number or its weekday, unless one of the
    two begins with a star. Of crontab fields both must match.
    """

    def __init__(self, text, *, either=True):
        self.minute, self.hour, self.day, self.month, self.weekday = text.lower().split()
        stars = self.day.startswith("*") or self.weekday.startswith("*")
        self.either = either and not stars
        self.wildcard = self.minute.startswith("*") or self.hour.startswith("*")
        hours = [hour for hour in range(24) if has("hour", self.hour, hour)]
        minutes = [minute for minute in range(60) if has("minute", self.minute, minute)]
        self.times = [60 * hour + minute for hour, minute in product(hours, minutes)]
        self._matches = cache(self._ask)

    def matches(self, date):
        """Whether the days of that date match."""
        return self._matches(date)

    def _ask(self, date):
        length = calendar.monthrange(date.year, date.month)[1]
        if not has("month", self.month, date.month):
            return False
        of_month = any(_is_day(part, date, length) for part in self.day.split(","))
        of_week = any(_is_weekday(part, date, length) for part in self.weekday.split(","))
        return of_month or of_week if self.either else of_month and of_week

    def due(self, stretch):
        """The instants in *stretch* at which it is due, in order."""
        dates = stretch.shown if self.wildcard else stretch.reached
        found = set()
        for day, times in dates.items():
            if self.matches(date.fromordinal(day)):
                for minute in self.times:
                    instants = times.get(minute, [])
                    found.update(instants if self.wildcard else [instants] if instants else [])
        return sorted(found)


def has(field, text, number):
    """Whether *number* matches the text of a field."""
    return any(_is_in(field, part, number) for part in text.split(","))


def _is_in(field, part, number):
    low, high = BOUNDS[field]
    span, _, step = part.partition("/")
    first, _, last = ("*", "", "") if span == "*" else span.partition("-")
    begin = low if first == "*" else _number(field, first)
    if last:
        end = _number(field, last)
    else:
        end = begin if not step and first != "*" else high + (field == "weekday")
    size = high - low + 1
    if end < begin:
        end += size
    # Past the top it goes on from the bottom; Sunday is 7, too.
    laps = [number + lap * size for lap in range(3)]
    return any(begin <= lap <= end and (lap - begin) % int(step or 1) == 0 for lap in laps)


def _number(field, text):
    if text.isdigit():
        return int(text)
    return NAMES[field].index(text[:3]) + BOUNDS[field][0]


def _is_day(part, date, length):
    if part == "l":
        return date.day == length
    if part == "lw":
        later = [date + number * DAY for number in range(1, length - date.day + 1)]
        return date.weekday() < 5 and all(day.weekday() > 4 for day in later)
    return _is_in("day", part, date.day)


def _is_weekday(part, date, length):
    weekday = date.isoweekday() % 7
    if part.endswith("l"):
        return weekday == int(part[:-1]) % 7 and date.day > length - 7
    name, _, count = part.partition("#")
    if count:
        return weekday == _number("weekday", name) % 7 and (date.day - 1) // 7 == int(count) - 1
    return _is_in("weekday", part, weekday)


# -- judging ----------------------------------------------------------------------------------


def assert_due_as_told(schedule, told, stretch, probes):
    """next_after, latest and count agree with *told*, over the stretch and from every probe."""
    begin, end = stretch.begin, stretch.end
    expected = told.due(stretch)
    assert expected == going(schedule, begin, end)
    assert len(expected) == schedule.count(after=begin, until=end)
    for at in probes:
        if begin <= at <= end:
            passed = bisect_right(expected, at)
            assert expected[passed : passed + 1] in ([schedule.next_after(at)], [])
            assert passed == schedule.count(after=begin, until=at)
            assert len(expected) - passed == schedule.count(after=at, until=end)
            newest = expected[passed - 1] if passed else None
            assert newest == schedule.latest(at, after=begin)
            if newest is not None:
                assert schedule.latest(at, after=newest) is None
                before = bisect_left(expected, newest)
                older = expected[before - 1] if before else None
                assert older == schedule.latest(newest - MOMENT, after=begin)
