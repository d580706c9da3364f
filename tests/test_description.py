"""Crontabs in words: English that means what is due, or the expression itself."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit.errors import ScheduleError
from celery_sqlalchemy_kit.schedules import parse
from celery_sqlalchemy_kit.schedules.description import in_english

properties = settings(deadline=None, database=None, max_examples=400)


def test_an_expression_in_words_ends_with_its_zone():
    said = parse({"cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"}).words()

    assert "at 09:00, Monday through Friday, Europe/Berlin" == said
    assert "at 09:00, Asia/Tokyo" == parse("0 9 * * *", timezone="Asia/Tokyo").words()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/1 * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("*/05 * * * *", "every 5 minutes"),
        ("0/5 * * * *", "every 5 minutes"),
        ("10/15 * * * *", "every 15 minutes, starting at 10 minutes past the hour"),
        ("30 * * * *", "at 30 minutes past the hour"),
        ("0,15,30,45 * * * *", "at 0, 15, 30, and 45 minutes past the hour"),
        ("1,5-10 * * * *", "at 1 and 5 through 10 minutes past the hour"),
        ("@hourly", "every hour"),
        ("@daily", "at 00:00"),
        ("@weekly", "at 00:00, only on Sunday"),
        ("@Monthly", "at 00:00, on day 1 of the month"),
        ("@yearly", "at 00:00, on day 1 of the month, only in January"),
        ("00 09 * * *", "at 09:00"),
        ("0  9\t* * *", "at 09:00"),
        ("5-10 9 * * *", "every minute between 09:05 and 09:10"),
        ("5,10 9 * * *", "at 5 and 10 minutes past the hour, between 09:00 and 09:59"),
        ("30 8,12 * * *", "at 08:30 and 12:30"),
        ("0 */2 * * *", "every 2 hours"),
        ("0 9-17 * * *", "at 0 minutes past the hour, between 09:00 and 17:59"),
        ("0 9-17/2 * * *", "every 2 hours, between 09:00 and 17:59"),
        ("*/15 22-3 * * *", "every 15 minutes, between 22:00 and 03:59"),
        ("0 9 1,15 * *", "at 09:00, on day 1 and 15 of the month"),
        ("0 9 1-5 * *", "at 09:00, between day 1 and 5 of the month"),
        ("0 9 l * *", "at 09:00, on the last day of the month"),
        ("0 9 LW * *", "at 09:00, on the last weekday of the month"),
        ("0 9 * * mon-fri", "at 09:00, Monday through Friday"),
        ("0 9 * * FRI-MON", "at 09:00, Friday through Monday"),
        ("0 9 * * tuesday,thurs", "at 09:00, only on Tuesday and Thursday"),
        ("0 9 * * 7", "at 09:00, only on Sunday"),
        ("0 9 * * 5-7", "at 09:00, Friday through Sunday"),
        ("0 9 * * FRI#2", "at 09:00, on the second Friday of the month"),
        ("0 9 * * 7L", "at 09:00, on the last Sunday of the month"),
        ("0 9 * 11-2 *", "at 09:00, November through February"),
        ("0 9 * */3 *", "at 09:00, every 3 months"),
        ("0 9 13 6 FRI", "at 09:00, on day 13 of the month, or on Friday, only in June"),
        ("0 9 1 * 1,3", "at 09:00, on day 1 of the month, or on Monday and Wednesday"),
    ],
)
def test_what_the_library_says_right_is_said(expression, words):
    assert f"{words}, UTC" == parse(expression).words()


@pytest.mark.parametrize(
    "expression",
    [
        "*/7 * * * *",  # not every 7 minutes: the hour begins anew
        "0 */5 * * *",
        "0 9 * */5 *",
        "50/15 * * * *",
        "0 6/6 * * *",
        "50-10 * * * *",
        "50-10 9 * * *",  # "between 09:50 and 09:10"
        "5-10/7 * * * *",
        "0 9 * 1-2/15 *",
        "1,*/7 * * * *",
        "*,5 * * * *",
        "0 9,* * * *",
        "*/5 8,12 * * *",  # "every 5 minutes, at 08:00"
        "0,30 8,12 * * *",
        "0 8-12,15 * * *",
        "*/5 */2 * * *",
        "* 9-17/2 * * *",
        "0 22-3 * * MON",  # the morning after Monday is not meant
        "0 9 */2 * *",  # the 31st and the 1st
        "0 9 5/7 * *",
        "0 9 28-3 * *",
        "0 9 15,L * *",
        "0 9 L,LW * *",
        "0 9 * * */2",
        "0 9 * * 5/2",
        "0 9 * * 1-5/2",
        "0 9 * * FRI#2,1L",
        "0 9 * * FRI#1,FRI#3",
        "0 9 * * 0-7",
        "0 9 */2 * MON",
        "0 9 1 * 1-5",
        "0 9 1 * 5L",
        "0 9 1 * FRI#2",
    ],
)
def test_an_expression_that_would_be_said_wrong_stands_for_itself(expression):
    said = parse({"cron": expression, "timezone": "Europe/Berlin"}).words()

    assert f"cron {expression}, Europe/Berlin" == said


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"minute": 0, "hour": 9}, "at 09:00"),
        ({"minute": [30, 0]}, "at 30 and 0 minutes past the hour"),
        ({"minute": 0, "hour": 9, "day_of_week": "monday, wed"}, "at 09:00, only on Monday and Wednesday"),
        # Crontab fields must match, all of them.
        ({"minute": 0, "hour": 9, "day_of_month": 1, "day_of_week": "mon"}, "at 09:00, on day 1 of the month, but only on Monday"),
        ({"minute": 0, "hour": 9, "day_of_month": "1-7", "day_of_week": "mon-fri"}, "at 09:00, between day 1 and 7 of the month, Monday through Friday"),
        ({"minute": 0, "hour": 9, "day_of_month": "1-7/2", "day_of_week": "mon"}, "cron 0 9 1-7/2 * mon where both days match"),
        ({"minute": 0, "hour": 9, "day_of_month": "*/2", "day_of_week": "mon"}, "cron 0 9 */2 * mon"),
        ({"minute": [0, 30], "hour": [9, 17]}, "cron 0,30 9,17 * * *"),
    ],
    ids=str,
)  # fmt: skip
def test_crontab_fields_in_words(fields, words):
    assert f"{words}, UTC" == parse(fields).words()


# -- any expression at all --------------------------------------------------------------------

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
ORDINALS = ("last", "", "first", "second", "third", "fourth", "fifth")


def elements(low, high, names=()):
    number = st.integers(low, high).map(str)
    if names:
        number |= st.sampled_from(names).map(lambda name: name[:3].upper())
    spans = st.tuples(number, number).map("-".join)
    step = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 10, 12, 15, 20, 30]).map(str)
    stepped = st.tuples(st.just("*") | spans | number, step).map("/".join)
    return st.just("*") | number | spans | stepped


def fields(low, high, names=(), special=()):
    one = elements(low, high, names)
    one |= st.sampled_from(special) if special else st.nothing()
    return st.just("*") | one | st.lists(one, min_size=1, max_size=3).map(",".join)


expressions = st.tuples(
    fields(0, 59),
    fields(0, 23),
    fields(1, 31, special=("L", "LW")),
    fields(1, 12, MONTHS),
    fields(0, 7, WEEKDAYS, ("FRI#2", "5L", "0L", "7#1", "MON#5")),
).map(" ".join)


def numbers(text, names, low, size):
    """What a list in English names: ``1, 3 through 5, and 7``."""
    found = set()
    for item in re.split(", and | and |, ", text):
        first, _, last = item.partition(" through ")
        begin, end = (
            names.index(name) + low if names else int(name) for name in (first, last or first)
        )
        found |= {
            (number - low) % size + low for number in range(begin, end + (end < begin) * size + 1)
        }
    return found


def clock_of(text):
    """The times of day, as minutes, that a description in English begins with, and its rest."""
    minutes, hours, rest = set(range(60)), set(range(24)), text
    if match := re.match(r"every minute between (\d\d):(\d\d) and \d\d:(\d\d)", rest):
        hour, begin, end = map(int, match.groups())
        return {60 * hour + minute for minute in range(begin, end + 1)}, rest[match.end() :]
    if match := re.match(r"at (\d\d:\d\d(?:, \d\d:\d\d)*(?: and \d\d:\d\d)?)", rest):
        times = [time.split(":") for time in re.findall(r"\d\d:\d\d", match[1])]
        return {60 * int(hour) + int(minute) for hour, minute in times}, rest[match.end() :]
    if match := re.match(r"every minute", rest):
        pass
    elif match := re.match(r"every (\d+) minutes, minutes (\d+) through (\d+) past the hour", rest):
        minutes = set(range(int(match[2]), int(match[3]) + 1, int(match[1])))
    elif match := re.match(
        r"every (\d+) minutes(?:, starting at (\d+) minutes past the hour)?", rest
    ):
        start = int(match[2] or 0)
        minutes = {(start + minute) % 60 for minute in range(0, 60, int(match[1]))}
    elif match := re.match(r"(?:at|minutes) ([^:]*?) (?:minutes )?past the hour", rest):
        minutes = numbers(match[1], (), 0, 60)
    else:
        minutes = {0}
    rest = rest[match.end() if match else 0 :].removeprefix(", ") if match else rest
    if match := re.match(r"(?:every (\d+) hours, )?between (\d\d):00 and (\d\d):59", rest):
        begin, end = int(match[2]), int(match[3])
        count = (end - begin) % 24 + 1
        hours = {(begin + hour) % 24 for hour in range(0, count, int(match[1] or 1))}
    elif match := re.match(r"every (\d+) hours(?:, starting at (\d\d):00)?", rest):
        hours = {(int(match[2] or 0) + hour) % 24 for hour in range(0, 24, int(match[1]))}
    else:
        match = re.match(r"every hour", rest)
    rest = rest[match.end() :] if match else rest
    if rest and not rest.startswith(", "):
        rest = f", {rest}"
    return {60 * hour + minute for hour in hours for minute in minutes}, rest


def days_of(text):
    """The days of the month, the weekdays, how they are joined, and the rest of a description."""
    of_month, of_week = set(range(1, 32)), set(range(7))
    last, workday, nth, either = False, False, set(), False
    if match := re.match(r", on day ([\d, a-z]+?) of the month", text):
        of_month = numbers(match[1], (), 1, 31)
    elif match := re.match(r", between day (\d+) and (\d+) of the month", text):
        of_month = set(range(int(match[1]), int(match[2]) + 1))
    elif match := re.match(r", on the last (day|weekday) of the month", text):
        of_month, last, workday = set(), match[1] == "day", match[1] == "weekday"
    text = text[match.end() :] if match else text
    day = "|".join(WEEKDAYS)
    span = rf"(?:{day})(?: through (?:{day}))?"
    if match := re.match(rf", on the (\w+) ({day}) of the month", text):
        of_week, count = set(), ORDINALS.index(match[1]) - 1
        nth = {(WEEKDAYS.index(match[2]), count)}
    elif match := re.match(
        rf", (?:(or|only|but only) on )?({span}(?:(?:, and |, | and ){span})*)", text
    ):
        of_week, either = numbers(match[2], WEEKDAYS, 0, 7), match[1] == "or"
    text = text[match.end() :] if match else text
    return (of_month, of_week, last, workday, nth, either), text


def months_of(text):
    if match := re.fullmatch(r", every (\d+) months", text):
        return set(range(1, 13, int(match[1])))
    if match := re.fullmatch(r"(?:, every (\d+) months)?, (\w+) through (\w+)", text):
        first, last = MONTHS.index(match[2]), MONTHS.index(match[3])
        spread = range(0, (last - first) % 12 + 1, int(match[1] or 1))
        return {(first + month) % 12 + 1 for month in spread}
    if match := re.fullmatch(r", only in (.+)", text):
        return numbers(match[1], MONTHS, 1, 12)
    assert text == ""
    return set(range(1, 13))


def read(expression, build):
    try:
        return build(expression)
    except ScheduleError:
        assume(False)  # 31 February


def as_fields(expression):
    minute, hour, day, month, weekday = expression.split()
    return parse(
        {
            "minute": minute,
            "hour": hour,
            "day_of_month": day,
            "month_of_year": month,
            "day_of_week": weekday,
        }
    )


@pytest.mark.parametrize("build", [parse, as_fields], ids=["cron", "crontab"])
@properties
@given(expression=expressions)
def test_words_are_the_expression_itself_or_mean_what_it_means(build, expression):
    """The English is read by a grammar of its own and compared with what is due."""
    schedule = read(expression, build)
    said = schedule.words()

    assert said.endswith(", UTC")
    if said.startswith("cron "):
        return
    times, rest = clock_of(said.removesuffix(", UTC"))
    days, rest = days_of(rest)
    matched = schedule.fields
    expected = matched.days
    joined = set(expected.of_month) < set(range(1, 32)) and set(expected.of_week) < set(range(7))
    assert {60 * hour + minute for hour in matched.hour for minute in matched.minute} == times
    assert set(matched.month_of_year) == months_of(rest)
    assert (
        set(expected.of_month), set(expected.of_week), expected.last, expected.last_workday,
        set(expected.nth), expected.either if joined else days[5],
    ) == days  # fmt: skip


# -- locale and import ------------------------------------------------------------------------


def test_names_of_another_locale_become_english():
    german = {"Montag": "Monday", "Freitag": "Friday", "März": "March", "Mai": "May"}
    said = "At 09:00, Montag through Freitag, only in Mai and März"
    assert "At 09:00, Monday through Friday, only in May and March" == in_english(said, german)


def test_names_that_hold_one_another_are_told_apart():
    japanese = {"1月": "January", "11月": "November"}
    assert "only in November and January" == in_english("only in 11月 and 1月", japanese)


def test_the_library_is_not_imported_before_words_are_asked_for():
    code = (
        "import sys; from celery_sqlalchemy_kit.schedules import parse; s = parse('0 9 * * MON');"
        "assert 'cron_descriptor' not in sys.modules; s.words();"
        "assert 'cron_descriptor' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
