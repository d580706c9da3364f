"""What docs/schedules.md says is what the code does: its tables and examples are read from it."""

from __future__ import annotations

import ast
import doctest
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import celery
import celery.schedules
import pytest

from celery_sqlalchemy_kit import After, Once, ScheduleError, schedules

PAGE = (Path(__file__).parents[1] / "docs" / "schedules.md").read_text(encoding="utf-8")
NAMES = {
    "After": After,
    "Once": Once,
    "celery": celery,
    "datetime": datetime,
    "timedelta": timedelta,
    "timezone": timezone,
}
HOUR = timedelta(hours=1)
MOMENT = timedelta(microseconds=1)
CHANGE = re.compile(
    r"(\w+/\w+), (\d+ \w+ \d{4} \d\d:\d\d) UTC: the clock goes from (\d\d:\d\d) to (\d\d:\d\d)"
)


def utc(text: str) -> datetime:
    return datetime.strptime(text, "%d %B %Y %H:%M").replace(tzinfo=timezone.utc)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table(after: str) -> list[str]:
    """The rows of the first table after a text of the page, without its head."""
    lines = PAGE[PAGE.index(after) :].split("\n")
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    end = next(n for n in range(first, len(lines)) if not lines[n].startswith("|"))
    return lines[first + 2 : end]


def quoted(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


CHANGES = list(CHANGE.finditer(PAGE))
WORKED = [(change[1], change[2], row) for change in CHANGES for row in table(change[0])]


def instants(cell: str, year: int) -> Iterator[datetime]:
    """``29 March 01:00, 01:30, once; 30 March 00:00``: a day holds until the next is named."""
    day = ""
    for named, time in re.findall(r"(\d+ [A-Z][a-z]+)?\s?(\d\d:\d\d)", cell):
        day = named or day
        yield utc(f"{day} {year} {time}")


# -- the kinds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", table("# Schedules"), ids=str)
def test_all_forms_of_a_kind_are_one_schedule(row):
    _, in_code, in_the_table, _, meaning = cells(row)
    expected = schedules.from_json(json.loads(quoted(in_the_table)[0]))
    in_code = [eval(text, dict(NAMES)) for text in quoted(in_code)]
    in_json = [json.loads(text) for text in quoted(in_the_table + meaning)]

    assert [expected] * len(in_code) == [schedules.parse(value) for value in in_code]
    assert [expected] * len(in_json) == [schedules.parse(value) for value in in_json]
    assert in_json[-1] == expected.to_json()


@pytest.mark.parametrize("row", table("# Schedules"), ids=str)
def test_a_zone_may_be_named_where_the_table_says_so(row):
    _, _, in_the_table, zone, _ = cells(row)
    value = json.loads(quoted(in_the_table)[0]) | {"timezone": "Europe/Berlin"}

    if zone == "no":
        with pytest.raises(ScheduleError, match="unknown key 'timezone'"):
            schedules.from_json(value)
    else:
        schedules.from_json(value)


def test_what_is_rewritten_is_what_the_table_says():
    row = next(row for row in table("# Schedules") if "rewritten" in row)
    read, written = quoted(row)

    assert written == schedules.rewritten(read, "UTC")


@pytest.mark.parametrize("row", table("A field is a number, a text"), ids=str)
def test_texts_of_crontab_fields_are_read(row):
    (text,) = quoted(cells(row)[0])
    field = "day_of_week" if text == "mon-fri" else "hour" if "9-17" in text else "minute"

    schedules.from_json({field: text})


@pytest.mark.parametrize("row", table("## Cron strings"), ids=str)
def test_texts_of_cron_strings_are_read(row):
    texts, where, _ = cells(row)
    day = "0 0 * * {}" if where.startswith("day of week") else "0 0 {} * *"

    for text in quoted(texts):
        schedules.parse((day if where.startswith("day") else "{} * * * *").format(text))


@pytest.mark.parametrize(
    "text", ["0 0 0 * * *", "0 0 ? * *", "0 0 15W * *", "0 0 L-3 * *", "@reboot", "@every 5m"]
)
def test_what_is_not_allowed_is_refused(text):
    with pytest.raises(ScheduleError):
        schedules.parse(text)


# -- where the clocks are changed --------------------------------------------------------------


@pytest.mark.parametrize(("zone", "at", "before", "after"), [change.groups() for change in CHANGES])
def test_the_clock_is_changed_when_the_page_says_so(zone, at, before, after):
    instant = utc(at)
    last = (instant - MOMENT).astimezone(ZoneInfo(zone))

    assert before == (last.replace(tzinfo=None) + MOMENT).strftime("%H:%M")
    assert after == instant.astimezone(ZoneInfo(zone)).strftime("%H:%M")


@pytest.mark.parametrize(("zone", "at", "row"), WORKED)
def test_worked_instants(zone, at, row):
    value, due, shown = cells(row)
    schedule = schedules.parse(ast.literal_eval(quoted(value)[0]), timezone=zone)
    begin = utc(at) - HOUR
    expected = list(instants(due, begin.year))
    found = schedule.upcoming(begin - MOMENT, len(expected))

    assert expected == found
    assert shown == ", ".join(f"{instant.astimezone(ZoneInfo(zone)):%H:%M}" for instant in found)


def test_no_table_is_passed_over():
    assert 6 == len(CHANGES)
    assert 19 == len(WORKED)
    assert 8 == len(table("# Schedules"))


# -- the preview -------------------------------------------------------------------------------


def test_examples_print_what_they_show():
    blocks = re.findall(r"```python\n(>>>.*?)```", PAGE, re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "page", None, None)
    report: list[str] = []

    result = doctest.DocTestRunner().run(examples, out=report.append)

    assert "".join(report) == ""
    assert result.attempted > 0
