"""Solar: at sunrise, sunset, noon or twilight of a place, by the library ``ephem``.

Source: the events and their horizons are those of ``celery.schedules.solar``, with the sign that
newer versions give to astronomical dusk: older ones have it in daylight. Of ``ephem`` only the
sun's position is asked. Its own search for an event ends up to a millisecond elsewhere depending
on where it starts, so that one event would have several instants; at the poles it finds none.

Here an event is the first whole second by which the sun has passed the mark. That is a property
of the second alone, and each second belongs to one UTC day: whoever asks, from wherever, gets
the same instants, none twice and none lost between days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from math import pi, radians, sin
from typing import Any, NamedTuple

from celery.schedules import solar as celery_solar

from ..clock import UTC, as_utc
from .interval import is_number
from .schedule import Schedule, check_keys, refused, shown
from .walltimes import FIRST_YEAR, LAST_YEAR

KEYS = ("solar", "latitude", "longitude")


class Event(NamedTuple):
    """What happens: the sun passes *horizon*, in degrees, going up or down.

    ``limb``: its upper edge counts, else its centre. ``hour``: about when, by the sun's own clock.
    """

    words: str
    hour: int
    horizon: float = 0.0
    limb: bool = False


EVENTS: Mapping[str, Event] = {
    "dawn_astronomical": Event("astronomical dawn", 6, -18),
    "dawn_nautical": Event("nautical dawn", 6, -12),
    "dawn_civil": Event("civil dawn", 6, -6),
    "sunrise": Event("sunrise", 6, -34 / 60, limb=True),
    "solar_noon": Event("solar noon", 12),
    "sunset": Event("sunset", 18, -34 / 60, limb=True),
    "dusk_civil": Event("civil dusk", 18, -6),
    "dusk_nautical": Event("nautical dusk", 18, -12),
    "dusk_astronomical": Event("astronomical dusk", 18, -18),
}


@dataclass(frozen=True)
class Solar(Schedule):
    """Whenever *event*, one of `EVENTS`, happens at a place at sea level.

    *latitude* -90 to 90 degrees, north is positive; *longitude* -180 to 180, east is positive.
    Near the poles an event stays away for months; there is none that does so for a whole year.
    Reckoned for the years 2 to 9998; after: never again.
    """

    event: str
    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        value = dict(zip(KEYS, astuple(self), strict=True))
        event = value["solar"]
        if not isinstance(event, str) or event not in EVENTS:
            raise refused(value, f"solar {shown(event)}; allowed are {', '.join(EVENTS)}")
        for name, most in (("latitude", 90), ("longitude", 180)):
            degrees = value[name]
            # Compared before it is converted: the number may be NaN or have 400 digits.
            if not is_number(degrees) or not -most <= degrees <= most:
                fault = f"{name} {shown(degrees)}; allowed are -{most} to {most} degrees"
                raise refused(value, fault)
            object.__setattr__(self, name, float(degrees) + 0.0)  # -0.0 becomes 0.0

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        instant = as_utc(instant)
        first = max(instant.toordinal(), _FIRST_DAY)
        for day in range(first, min(first + _LONGEST_PAUSE, _LAST_DAY) + 1):
            for found in self._on(day):
                if found > instant:
                    return found
        return None

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        until, after = as_utc(until), as_utc(after)
        last = min(until.toordinal(), _LAST_DAY)
        earliest = max(after.toordinal(), last - _LONGEST_PAUSE, _FIRST_DAY)
        for day in range(last, earliest - 1, -1):
            for found in reversed(self._on(day)):
                if found <= until:
                    return found if found > after else None
        return None

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        newest = self.latest(until, after=after)
        if newest is None:
            return 0
        oldest = self.next_after(after) or newest
        if self._is_daily():
            return self._solar_day(newest) - self._solar_day(oldest) + 1
        days = range(oldest.toordinal(), newest.toordinal() + 1)
        return sum(oldest <= found <= newest for day in days for found in self._on(day))

    def to_json(self) -> dict[str, Any]:
        return dict(zip(KEYS, astuple(self), strict=True))

    def words(self) -> str:
        north, east = _degrees(self.latitude, "NS"), _degrees(self.longitude, "EW")
        return f"at {EVENTS[self.event].words}, {north} {east}"

    def _on(self, day: int) -> tuple[datetime, ...]:
        return _on(self.event, self.latitude, self.longitude, day)

    def _is_daily(self) -> bool:
        """Whether it is certain to happen on every day of the sun, from midnight to midnight."""
        event = EVENTS[self.event]
        # From 66.3 degrees on, at the least, there are nights in which the sun does not set.
        return event.hour == 12 or abs(self.latitude) <= 66 + event.horizon

    def _solar_day(self, found: datetime) -> int:
        """The number of the sun's day, of which noon is the middle, in which an event falls."""
        # An event is never more than seven hours away from its hour where it happens daily.
        hours = self.longitude / 15 + 12 - EVENTS[self.event].hour
        return (found + timedelta(hours=hours)).toordinal()


def from_json(value: Mapping[str, Any], timezone: str) -> Solar:
    """Read ``{"solar": "sunset", "latitude": 52.52, "longitude": 13.4}``.

    Raises:
        ScheduleError: a key, the event or the place is not allowed, or ``ephem`` is missing.
    """
    check_keys(value, KEYS)
    for key in KEYS:
        if key not in value:
            raise refused(value, f"{key} is missing; needed are {', '.join(KEYS)}")
    return _checked(Solar(*(value[key] for key in KEYS)))


def from_code(value: object, timezone: str) -> Solar | None:
    """Read a `Solar` or celery's own `solar`; None for anything else."""
    if isinstance(value, Solar):
        return _checked(value)
    if type(value) is celery_solar:
        made: Any = value
        return _checked(Solar(made.event, made.lat, made.lon))
    return None


def to_celery(solar: Solar) -> celery_solar:
    """Celery's own `solar` of the same event and place."""
    return celery_solar(solar.event, solar.latitude, solar.longitude)


def _checked(solar: Solar) -> Solar:
    """*solar*, refused where it cannot be reckoned."""
    try:
        import ephem  # noqa: F401
    except ImportError:
        fault = 'needs the library ephem: pip install "celery-sqlalchemy-kit[solar]"'
        raise refused(solar.to_json(), fault) from None
    return solar


@lru_cache(maxsize=4096)
def _on(event: str, latitude: float, longitude: float, day: int) -> tuple[datetime, ...]:
    """The events of one UTC day, by its ordinal: one as a rule, seldom none or two."""
    midnight = datetime.fromordinal(day).replace(tzinfo=UTC)
    height = _height(EVENTS[event], latitude, longitude, day)
    return tuple(midnight + timedelta(seconds=second) for second in _rises(height))


def _height(event: Event, latitude: float, longitude: float, day: int) -> Callable[[int], float]:
    """By seconds since midnight, how far the sun is past the mark of *event*, in radians.

    Negative before, positive after.
    """
    import ephem

    sun, place = ephem.Sun(), ephem.Observer()
    place.lat, place.lon = radians(latitude), radians(longitude)
    place.elevation = place.pressure = 0
    horizon, sign = radians(event.horizon), 1 if event.hour < 12 else -1

    def altitude(second: int) -> float:
        place.date = day - _EPOCH + second / _DAY
        sun.compute(place)
        return sign * (float(sun.alt) + (float(sun.radius) if event.limb else 0.0) - horizon)

    def past_meridian(second: int) -> float:
        place.date = day - _EPOCH + second / _DAY
        sun.compute(place)
        return sin(float(place.sidereal_time()) - float(sun.g_ra))

    return past_meridian if event.hour == 12 else altitude


def _rises(height: Callable[[int], float]) -> Iterator[int]:
    """The seconds of a day at which *height* is above zero and was not a second before."""
    # The last second of the day before is looked at too, and by that day just so: what happens
    # at midnight belongs to one of the two.
    begin, low = -1, height(-1)
    for end in range(_STEP - 1, _DAY, _STEP):
        high = height(end)
        if low <= 0 < high:
            yield _rise(height, begin, end)
        elif (low > 0) == (high > 0) and min(abs(low), abs(high)) < _NEAR:
            # It may have passed the mark and returned: short days, short nights.
            turn = _turn(height, begin, end, upwards=low <= 0)
            if low <= 0 < height(turn):
                yield _rise(height, begin, turn)
            elif height(turn) <= 0 < low:
                yield _rise(height, turn, end)
        begin, low = end, high


def _rise(height: Callable[[int], float], low: int, high: int) -> int:
    """The second after *low*, up to *high*, at which *height* has come above zero."""
    while high - low > 1:
        middle = (low + high) // 2
        if height(middle) > 0:
            high = middle
        else:
            low = middle
    return high


def _turn(height: Callable[[int], float], begin: int, end: int, *, upwards: bool) -> int:
    """The second from *begin* to *end* at which *height* is greatest, else least."""
    sign = 1 if upwards else -1
    while end - begin > 2:
        third = (end - begin) // 3
        left, right = begin + third, end - third
        if sign * height(left) < sign * height(right):
            begin = left
        else:
            end = right
    return (begin + end) // 2


def _degrees(value: float, letters: str) -> str:
    """``52.52° N``; six decimals are a tenth of a metre."""
    text = f"{abs(value):.6f}".rstrip("0").rstrip(".")
    return f"{text}° {letters[value < 0 and text != '0']}"


_DAY = 86_400
#: Ephem counts days from noon of 31 December 1899.
_EPOCH = date(1899, 12, 31).toordinal() + 0.5
#: Two hours, in seconds: within them the sun turns once at most, and by then has not moved by
#: more than `_NEAR`, in radians (2 degrees; 3 leave room for what the altitude adds).
_STEP, _NEAR = 7200, pi / 60
#: In days. The sun rises at the poles once a year, and a little earlier or later each year.
_LONGEST_PAUSE = 400
_FIRST_DAY = date(FIRST_YEAR, 1, 1).toordinal()
_LAST_DAY = date(LAST_YEAR, 12, 31).toordinal()
