"""Solar schedules: what is read, and that their instants are the sun's, each of them once."""

from __future__ import annotations

import json
import math
import pickle
import random
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from celery import Celery
from celery.schedules import solar as celery_solar
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import Solar, from_json, loads, parse, solar, to_celery

UTC = timezone.utc
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
MOMENT = timedelta(microseconds=1)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
BERLIN = {"latitude": 52.52, "longitude": 13.4}
EVENTS = tuple(solar.EVENTS)
APP = Celery("solar", set_as_current=False)

properties = settings(deadline=None, database=None, max_examples=25)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))
latitudes = st.floats(-90, 90) | st.sampled_from([-90, -66.5, 0, 48.6, 65.7, 66.5, 89.9, 90])
longitudes = st.floats(-180, 180) | st.sampled_from([-180, -90, 0, 90, 180])
solars = st.builds(Solar, st.sampled_from(EVENTS), latitudes, longitudes)


class OwnSolar(celery_solar):
    """A schedule class of a user's own."""


def at(event, latitude=52.52, longitude=13.4):
    return Solar(event, latitude, longitude)


def walk(schedule, begin=NEW_YEAR, end=NEW_YEAR + 365 * DAY):
    """The occurrences after *begin*, up to *end*, each found from the one before."""
    found = []
    instant = schedule.next_after(begin)
    while instant is not None and instant <= end:
        found.append(instant)
        instant = schedule.next_after(instant)
    return found


# -- reading and refusing ---------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS)
def test_the_events_are_celerys(event):
    stored = {"solar": event, **BERLIN}

    assert Solar(event, 52.52, 13.4) == from_json(stored)
    assert stored == parse(celery_solar(event, 52.52, 13.4)).to_json()
    assert celery_solar._all_events == set(EVENTS)


@pytest.mark.parametrize(
    "value",
    [
        {"solar": "sunset", "latitude": 0, "longitude": -180},
        {"solar": "sunset", "latitude": -0.0, "longitude": -180.0},
        celery_solar("sunset", 0, -180),
        celery_solar("sunset", 0.0, -180.0),
        Solar("sunset", -0.0, -180),
    ],
    ids=str,
)
def test_equal_is_what_names_the_same_event_and_place(value):
    schedule = parse(value)

    assert Solar("sunset", 0, -180) == schedule
    assert hash(Solar("sunset", 0, -180)) == hash(schedule)
    text = json.dumps(schedule.to_json())
    assert '{"solar": "sunset", "latitude": 0.0, "longitude": -180.0}' == text


def test_other_events_and_places_are_not_equal():
    assert at("sunset") != at("sunrise")
    assert at("sunset") != at("sunset", 52.53)
    assert at("sunset") != at("sunset", longitude=13.5)


@properties
@given(solars)
def test_a_solar_schedule_survives_the_table(schedule):
    assert schedule == loads(json.dumps(schedule.to_json()), "UTC")
    assert schedule == parse(to_celery(schedule))
    assert schedule == pickle.loads(pickle.dumps(schedule))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"solar": "moonrise"}, 'solar "moonrise"; allowed are dawn_astronomical, dawn_nautical, dawn_civil, sunrise, solar_noon, sunset, dusk_civil, dusk_nautical, dusk_astronomical'),
        ({"solar": None}, "solar null; allowed are dawn_astronomical"),
        ({"solar": ["sunset"]}, 'solar ["sunset"]; allowed are dawn_astronomical'),
        ({"solar": "Sunset"}, 'solar "Sunset"; allowed'),
        ({"latitude": 90.001}, "latitude 90.001; allowed are -90 to 90 degrees"),
        ({"latitude": -91}, "latitude -91; allowed"),
        ({"latitude": True}, "latitude true; allowed"),
        ({"latitude": "52.52"}, 'latitude "52.52"; allowed'),
        ({"latitude": None}, "latitude null; allowed"),
        ({"latitude": math.nan}, "latitude NaN; allowed"),
        ({"latitude": 10**400}, "allowed are -90 to 90 degrees"),
        ({"longitude": 180.5}, "longitude 180.5; allowed are -180 to 180 degrees"),
        ({"longitude": -math.inf}, "longitude -Infinity; allowed"),
        ({"longitude": [13.4]}, "longitude [13.4]; allowed"),
        ({"elevation": 34}, "unknown key 'elevation'; allowed are solar, latitude, longitude"),
        ({"timezone": "UTC"}, "unknown key 'timezone'"),
        ({"minute": 3}, "unknown key 'minute'"),
        ({"x" * 5000: 3}, "unknown key 'xxx"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_solar_schedule_is_refused_with_what_is_allowed(change, says):
    with pytest.raises(ScheduleError) as caught:
        from_json({"solar": "sunset", **BERLIN, **change})

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("missing", ["latitude", "longitude"])
def test_a_place_needs_both_coordinates(missing):
    value = {"solar": "sunset", **BERLIN}
    del value[missing]

    with pytest.raises(ScheduleError, match=f"{missing} is missing; needed are solar, latitude"):
        from_json(value)


def test_subclasses_of_celerys_are_refused():
    with pytest.raises(ScheduleError, match="is no schedule"):
        parse(OwnSolar("sunset", 52.52, 13.4))


def test_the_value_class_checks_itself():
    with pytest.raises(ScheduleError, match=r'"latitude": 91, .* allowed are -90 to 90'):
        Solar("sunset", 91, 0)


@pytest.mark.parametrize(
    "value", [{"solar": "sunset", **BERLIN}, Solar("sunset", 52.52, 13.4)], ids=["json", "code"]
)
def test_without_ephem_a_solar_schedule_alone_is_refused(monkeypatch, value):
    monkeypatch.setitem(sys.modules, "ephem", None)

    with pytest.raises(ScheduleError) as caught:
        parse(value)

    assert 'pip install "celery-sqlalchemy-kit[solar]"' in str(caught.value)
    assert "every 15 s" == parse(15).words()


def test_ephem_is_not_imported_before_a_solar_schedule_is_read():
    code = (
        "import sys; from celery_sqlalchemy_kit.schedules import parse; parse(15);"
        "assert 'ephem' not in sys.modules;"
        "parse({'solar': 'sunset', 'latitude': 1, 'longitude': 1}); assert 'ephem' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- words and celery's object ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (at("sunset"), "at sunset, 52.52° N 13.4° E"),
        (at("solar_noon", -33.87, -70), "at solar noon, 33.87° S 70° W"),
        (at("dawn_civil", 0, 0), "at civil dawn, 0° N 0° E"),
        (at("dusk_astronomical", 90, -180), "at astronomical dusk, 90° N 180° W"),
        (at("dawn_nautical", 10, 100), "at nautical dawn, 10° N 100° E"),
        (at("sunrise", 52.52000659, -1e-9), "at sunrise, 52.520007° N 0° E"),
    ],
)
def test_in_words(schedule, words):
    assert words == schedule.words()


def test_as_celerys_solar():
    made = to_celery(at("sunset"))

    assert type(made) is celery_solar
    assert celery_solar("sunset", 52.52, 13.4) == made
    assert made is to_celery(at("sunset"))


# -- the sun ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "day", "minute"),
    [
        # Berlin, London, New York and Sydney on the longest and the shortest day.
        (at("sunrise"), "2026-06-21", "02:43"),
        (at("sunset"), "2026-06-21", "19:33"),
        (at("sunrise"), "2026-12-21", "07:15"),
        (at("sunset"), "2026-12-21", "14:54"),
        (at("sunrise", 51.5, -0.13), "2026-06-21", "03:43"),
        (at("sunset", 51.5, -0.13), "2026-06-21", "20:21"),
        (at("sunrise", 40.71, -74.01), "2026-12-21", "12:17"),
        (at("sunset", 40.71, -74.01), "2026-12-21", "21:32"),
        (at("sunrise", -33.87, 151.21), "2026-12-21", "18:41"),
        (at("sunset", -33.87, 151.21), "2026-12-21", "09:05"),
        # The extremes of the equation of time, at Greenwich.
        (at("solar_noon", 51.48, 0), "2026-02-11", "12:14"),
        (at("solar_noon", 51.48, 0), "2026-11-03", "11:44"),
    ],
)
def test_the_almanac_says_the_same_to_the_minute(schedule, day, minute):
    printed = datetime.fromisoformat(f"{day}T{minute}:00+00:00")
    found = schedule.next_after(datetime.fromisoformat(f"{day}T00:00:00+00:00"))

    assert abs(found - printed) <= 61 * SECOND


@pytest.mark.parametrize(
    ("latitude", "longitude", "event", "last", "first"),
    [
        # Tromsø: polar night, midnight sun; McMurdo: the same. Of the pause, the last and first.
        (69.65, 18.96, "sunrise", "2026-11-27", "2027-01-15"),
        (69.65, 18.96, "sunset", "2026-05-17", "2026-07-26"),
        (-77.85, 166.67, "sunrise", "2026-04-24", "2026-08-19"),
        (-77.85, 166.67, "sunset", "2026-10-23", "2027-02-20"),
        # The poles: one sunrise a year, at an equinox but for refraction.
        (90, 0, "sunrise", "2026-03-18", "2027-03-18"),
        (90, 77, "sunset", "2026-09-25", "2027-09-25"),
        (-90, 0, "sunrise", "2026-09-20", "2027-09-21"),
        (-90, -180, "sunset", "2026-03-22", "2027-03-23"),
        # Berlin, around midsummer, has no astronomical night.
        (52.52, 13.4, "dusk_astronomical", "2026-05-18", "2026-07-25"),
    ],
)
def test_an_event_stays_away_for_months(latitude, longitude, event, last, first):
    schedule = at(event, latitude, longitude)
    begin = datetime.fromisoformat(f"{last}T00:00:00+00:00") - 2 * DAY
    before = schedule.latest(begin + 5 * DAY, after=begin)
    after = schedule.next_after(before)

    assert after - before > 30 * DAY
    assert abs(after.date() - date.fromisoformat(first)) <= 2 * DAY


PLACES = [
    (52.52, 13.4), (0, 0), (0, 180), (-0.18, -78.47), (40.71, -74.01), (-33.87, 151.21),
    (35.68, 139.69), (64.15, -21.94), (69.65, 18.96), (-54.8, -68.3), (-77.85, 166.67),
    (21.3, -157.86), (60.17, 24.94), (52, -90), (-41.29, 174.78), (71.29, -156.79), (30, -180),
]  # fmt: skip


def noaa(event, latitude, noon, moment):
    """The event of the solar day whose noon by the mean sun is *noon*, by where the sun stands at
    *moment*, and the cosine of its hour angle.

    Source: the general solar position calculations of NOAA's Global Monitoring Laboratory.
    """
    year = 2 * math.pi / 365 * (moment.timetuple().tm_yday - 1 + (moment.hour - 12) / 24)
    equation = 229.18 * (
        0.000075 + 0.001868 * math.cos(year) - 0.032077 * math.sin(year)
        - 0.014615 * math.cos(2 * year) - 0.040849 * math.sin(2 * year)
    )  # fmt: skip
    declination = (
        0.006918 - 0.399912 * math.cos(year) + 0.070257 * math.sin(year)
        - 0.006758 * math.cos(2 * year) + 0.000907 * math.sin(2 * year)
        - 0.002697 * math.cos(3 * year) + 0.00148 * math.sin(3 * year)
    )  # fmt: skip
    transit = noon - timedelta(minutes=equation)
    if event == "solar_noon":
        return transit, 0
    zenith = {"astronomical": 108, "nautical": 102, "civil": 96}.get(event[5:], 90.833)
    cosine = math.cos(math.radians(zenith)) / (
        math.cos(math.radians(latitude)) * math.cos(declination)
    ) - math.tan(math.radians(latitude)) * math.tan(declination)
    if abs(cosine) > 1:
        return None, cosine
    sign = -1 if event.startswith(("dawn", "sunrise")) else 1
    return transit + sign * timedelta(minutes=4 * math.degrees(math.acos(cosine))), cosine


@pytest.mark.parametrize(
    ("event", "latitude", "longitude"),
    [(EVENTS[number * 2 % 9], *place) for number, place in enumerate(PLACES)],
)
def test_a_year_is_the_one_that_another_formula_gives(event, latitude, longitude):
    """Within minutes, the more the flatter the sun passes the mark; where it stays far from it,
    nothing is found."""
    found = walk(at(event, latitude, longitude))
    steep, never = 0, 0
    for day in range(2, 362):
        noon = NEW_YEAR + day * DAY + timedelta(hours=12 - longitude / 15)
        expected, cosine = noaa(event, latitude, noon, noon)
        expected, cosine = noaa(event, latitude, noon, expected or noon)
        around = [instant for instant in found if abs(instant - noon) < DAY / 2]
        if abs(cosine) < 0.9:
            steep += 1
            # The formula errs by up to half a degree, which the sun climbs in two minutes or more.
            climbs = math.cos(math.radians(latitude)) * math.sqrt(1 - cosine**2)
            most = timedelta(minutes=2 + 2 / climbs) if climbs else timedelta(minutes=2)
            near = [instant for instant in around if abs(instant - expected) < most]
            assert 1 == len(near), (day, expected, around)
        elif abs(cosine) > 1.1:
            never += 1
            assert [] == around
    assert steep > 60
    assert steep + never > 200


#: Older versions of celery have astronomical dusk with the sun 18 degrees above the horizon.
CELERYS = [event for event in EVENTS if celery_solar._horizons[event] != "18"]


@pytest.mark.parametrize("event", CELERYS)
@pytest.mark.parametrize("place", [(52.52, 13.4), (0, -180), (-33.87, 151.21), (45, 180)])
def test_celery_finds_the_same_to_a_second(event, place):
    """At places and in months in which the event happens every day."""
    ours = at(event, *place)
    for day in (20, 65, 280, 310):
        for hour in (0, 7, 15, 22):
            instant = NEW_YEAR + day * DAY + timedelta(hours=hour, minutes=3)
            celerys = celery_solar(event, *place, nowfun=lambda now=instant: now, app=APP)
            expected = instant + celerys.remaining_estimate(instant)

            assert abs(ours.next_after(instant) - expected) < 2 * SECOND


def test_celery_is_due_when_ours_is():
    ours = at("sunset")
    before = NEW_YEAR
    for occurrence in walk(ours, end=NEW_YEAR + 20 * DAY):
        for late, due in ((-5 * SECOND, False), (5 * SECOND, True)):
            celerys = celery_solar("sunset", 52.52, 13.4, nowfun=lambda: occurrence + late, app=APP)  # noqa: B023 # called at once
            assert due == celerys.is_due(before + 60 * SECOND).is_due
        before = occurrence


# -- each occurrence once, whoever asks -------------------------------------------------------


@properties
@given(solars, instants, st.data())
def test_between_two_occurrences_the_next_is_the_same_from_everywhere(schedule, instant, data):
    first = schedule.next_after(instant)
    second = schedule.next_after(first)

    assert instant < first < second
    assert 0 == first.microsecond == second.microsecond
    inside = data.draw(st.lists(st.floats(0, 1), min_size=3, max_size=3))
    within = [first + share * (second - MOMENT - first) for share in inside]
    for between in [
        *within,
        first,
        first + MOMENT,
        first + SECOND,
        second - SECOND,
        second - MOMENT,
    ]:
        assert second == schedule.next_after(between)
        assert first == schedule.latest(between, after=first - MOMENT)
        assert schedule.latest(between, after=first) is None
        assert 0 == schedule.count(after=first, until=between)
    assert first == schedule.next_after(first - MOMENT)
    assert second == schedule.latest(second, after=instant)


@properties
@given(solars, instants, st.integers(0, 120))
def test_latest_and_count_agree_with_walking(schedule, begin, days):
    end = begin + days * DAY
    found = walk(schedule, begin, end)

    assert len(found) == schedule.count(after=begin, until=end)
    assert (found[-1] if found else None) == schedule.latest(end, after=begin)
    assert found[:3] == schedule.upcoming(begin, 3)[: len(found)]


@pytest.mark.parametrize(
    ("event", "latitude", "longitude"),
    [
        ("sunset", 65.4, -180),
        ("sunrise", -65.4, 88),
        ("dusk_civil", 59.9, 180),
        ("dawn_nautical", -53.9, -91),
        ("dawn_astronomical", 47.9, 0),
        ("solar_noon", 90, 180),
        ("solar_noon", -70, -179),
    ],
)
def test_the_short_way_of_counting_counts_each(event, latitude, longitude):
    """Where it is daily the days are counted, not the events: at the limit of that, all year."""
    schedule = at(event, latitude, longitude)
    found = walk(schedule)

    assert schedule._is_daily()
    for number, instant in enumerate(found, 1):
        assert number == schedule.count(after=NEW_YEAR, until=instant)
        assert number - 1 == schedule.count(after=NEW_YEAR, until=instant - MOMENT)


@pytest.mark.parametrize(("event", "longitude"), [("sunset", -90), ("sunrise", 90)])
def test_events_that_drift_over_midnight_are_neither_lost_nor_doubled(event, longitude):
    found = walk(at(event, 52, longitude))
    gaps = [after - before for before, after in pairwise(found)]
    days = [instant.date() for instant in found]
    a_day = {days.count(date(2026, 1, 2) + number * DAY) for number in range(360)}

    assert {0, 1, 2} == a_day
    assert 364 <= len(found) <= 366
    assert all(abs(gap - DAY) < timedelta(minutes=5) for gap in gaps)


def test_a_day_is_the_same_whatever_was_asked_before():
    """Two schedulers get the same run ids, also if they come by different ways."""
    places = [(event, *place) for event in EVENTS for place in PLACES[:6]]
    asked = [(*place, date(2026, 3, 1).toordinal() + day) for place in places for day in range(3)]
    solar._on.cache_clear()
    ahead = {key: solar._on(*key) for key in asked}
    random.Random(7).shuffle(asked)
    solar._on.cache_clear()

    assert ahead == {key: solar._on(*key) for key in asked}


def test_a_sun_that_shows_for_minutes_is_seen():
    """On the edge of the polar night, sunrise and sunset lie together in no time."""
    found = [
        (latitude, rise, sunset)
        for latitude in [67.4 + step / 100 for step in range(25)]
        for rise in walk(at("sunrise", latitude, 20), NEW_YEAR - 15 * DAY, NEW_YEAR)
        for sunset in [at("sunset", latitude, 20).next_after(rise)]
    ]

    assert min(sunset - rise for _, rise, sunset in found) < timedelta(minutes=20)
    for latitude, rise, sunset in found:
        noon = at("solar_noon", latitude, 20).latest(sunset, after=rise)
        assert noon is not None
        assert rise < noon < sunset


@pytest.mark.parametrize("event", ["sunrise", "solar_noon"])
@pytest.mark.parametrize("latitude", [0, 90])
def test_the_ends_of_time(event, latitude):
    schedule = at(event, latitude)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    assert 2 == schedule.next_after(first).year
    assert schedule.next_after(last) is None
    assert 9998 == schedule.latest(last, after=first).year
    assert schedule.latest(first + DAY, after=first) is None
    assert 0 == schedule.count(after=last - DAY, until=last)


def test_naive_instants_are_refused():
    with pytest.raises(ValueError, match="time zone"):
        at("sunset").next_after(datetime(2026, 1, 1))
