"""Tables on a terminal and in a pipe."""

from __future__ import annotations

import io
import re
import sys

import click
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from celery_sqlalchemy_kit.cli import tables
from celery_sqlalchemy_kit.cli.tables import (
    BAD,
    GOOD,
    Row,
    Screen,
    Toned,
    clean,
    clean_lines,
    fitted,
    print_table,
    say,
    width_of,
    without,
)

TITLES = ("name", "schedule", "last run")
ROWS = [
    Row(("report", "at 09:00, Europe/Berlin", Toned("succeeded 2 h ago", GOOD))),
    Row(("[red]x", "every 15 s", Toned("failed 3 s ago", BAD)), Toned("error: no such task", BAD)),
    Row(("日本", "every 60 s", "never")),
]
IN_A_PIPE = """\
NAME    SCHEDULE                 LAST RUN           NOTE
report  at 09:00, Europe/Berlin  succeeded 2 h ago
[red]x  every 15 s               failed 3 s ago     error: no such task
日本    every 60 s               never
"""
ON_A_TERMINAL = """\
NAME    SCHEDULE                 LAST RUN
report  at 09:00, Europe/Berlin  succeeded 2 h ago
[red]x  every 15 s               failed 3 s ago
  error: no such task
日本    every 60 s               never
"""
ON_A_NARROW_ONE = """\
NAME    SCHEDULE       LAST RUN
report  at 09:00,      succeeded 2 h
        Europe/Berlin  ago
[red]x  every 15 s     failed 3 s
                       ago
  error: no such task
日本    every 60 s     never
"""
CUT = """\
NAME    SCHEDULE       LAST RUN
report  at 09:00, Eu…  succeeded 2 …
[red]x  every 15 s     failed 3 s a…
  error: no such task
日本    every 60 s     never
"""
COLOUR = re.compile("\x1b\\[[0-9;]*m")
letters = st.text(st.characters(exclude_categories=()), max_size=20)


@pytest.fixture
def on(monkeypatch):
    """Prints on another screen."""
    return lambda *args: monkeypatch.setattr(tables, "screen", lambda: Screen(*args))


def test_in_a_pipe_a_row_is_one_line(capsys):
    print_table(TITLES, ROWS)

    assert IN_A_PIPE == capsys.readouterr().out


@pytest.mark.parametrize(("width", "text"), [(100, ON_A_TERMINAL), (36, ON_A_NARROW_ONE)])
def test_on_a_terminal_a_row_is_as_wide_as_that(capsys, on, width, text):
    on(width)
    print_table(TITLES, ROWS)

    assert text == capsys.readouterr().out


def test_colours_are_those_of_the_cells(capsys, on):
    on(100, True)
    print_table(TITLES, ROWS)
    printed = capsys.readouterr().out

    assert ON_A_TERMINAL == re.sub(" +$", "", COLOUR.sub("", printed), flags=re.MULTILINE)
    assert "\x1b[32msucceeded 2 h ago\x1b[0m" in printed
    assert "\x1b[31merror: no such task\x1b[0m" in printed


@pytest.mark.parametrize(("width", "text"), [(100, ON_A_TERMINAL), (36, CUT)])
def test_many_rows_look_the_same_without_rich_but_are_cut(capsys, on, monkeypatch, width, text):
    monkeypatch.setattr(tables, "FEW", 2)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    on(width, True)
    print_table(TITLES, ROWS)

    assert text == capsys.readouterr().out


def test_no_rows_leave_the_titles(capsys, on):
    print_table(TITLES, [])
    on(80)
    print_table(TITLES, [])

    assert 2 * "NAME  SCHEDULE  LAST RUN\n" == capsys.readouterr().out


def test_without_titles_there_is_no_line_of_them(capsys, on):
    rows = [Row(("name", "report")), Row(("active", "yes"))]
    print_table(("", ""), rows)
    on(80)
    print_table(("", ""), rows)

    assert 2 * "name    report\nactive  yes\n" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]x[/red]", "[red]x[/red]"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\r\nb\tc\x07", "a\\r\\nb\\tc\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202edef", "abc\\u202edef"),
        ("a\u2028b\xa0c", "a\\u2028b\\xa0c"),
        ("\udc80", "\\udc80"),
        ("né 日本 ✓", "né 日本 ✓"),
    ],
)
def test_what_could_move_a_terminal_is_escaped(text, shown):
    assert shown == clean(text)


@given(letters)
def test_what_is_clean_is_printable_and_as_wide_as_rich_says(text):
    shown = clean(text)

    assert shown.isprintable()
    assert clean(shown) == shown
    if not any(
        0x300 <= ord(each) for each in shown
    ):  # of some letters even versions of rich differ
        assert cell_len(shown) == width_of(shown)


def test_a_colour_outlives_the_escaping():
    assert BAD == clean(Toned("\x1b", BAD)).tone


def test_of_a_text_the_lines_are_kept():
    assert ["Error", "  at x", "\\x1b[2J"] == clean_lines("Error\r\n  at x\n\x1b[2J\n")
    assert ["        at x"] == clean_lines("\tat x")


def test_what_an_encoding_does_not_have_is_escaped(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    say("né 日 \udc80")
    out.flush()

    assert b"n\\xe9 \\u65e5 \\udc80\n" == out.buffer.getvalue()


@pytest.mark.parametrize(
    ("widths", "available", "name", "found"),
    [
        ([10, 10], 30, None, [10, 10]),
        ([10, 40], 30, None, [10, 20]),
        ([40, 40], 30, None, [15, 15]),
        ([30, 6, 40, 40], 60, 0, [20, 6, 17, 17]),
        ([8, 6, 40, 40], 60, 0, [8, 6, 23, 23]),
        ([50, 50, 50], 9, None, [4, 4, 4]),
    ],
)
def test_who_needs_little_gets_it_and_the_others_share(widths, available, name, found):
    assert found == fitted(widths, available, name)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=9), st.integers(1, 300), st.booleans())
def test_columns_fit_unless_there_is_no_room_for_so_many(widths, available, named):
    found = fitted(widths, available, 0 if named else None)

    assert all(each <= width for each, width in zip(found, widths, strict=True))
    assert sum(found) <= max(available, available // 3 + 4 * len(widths))


@pytest.mark.parametrize(
    ("width", "titles"),
    [(24, ("a", "b", "c")), (23, ("a", "c")), (15, ("a", "c")), (14, ("c",)), (1, ("c",))],
)
def test_spare_columns_are_left_out_where_there_is_no_room(width, titles):
    found, rows = without(("b", "a"), ("a", "b", "c"), [Row(("a" * 4, "b" * 7, "c" * 9))], width)

    assert titles == found
    assert "".join(titles) == "".join(cell[0] for cell in rows[0].cells)


@pytest.mark.parametrize(
    ("environ", "terminal", "screen"),
    [
        ({}, False, Screen()),
        ({"COLUMNS": "99"}, False, Screen()),
        ({"COLUMNS": "99"}, True, Screen(99, True)),
        ({"COLUMNS": "3"}, True, Screen(20, True)),
        ({"COLUMNS": "99", "NO_COLOR": "1"}, True, Screen(99, False)),
        ({"COLUMNS": "99", "NO_COLOR": ""}, True, Screen(99, True)),
        ({"COLUMNS": "99", "TERM": "dumb"}, True, Screen(99, False)),
    ],
)
def test_the_environment_tells_about_the_terminal(monkeypatch, environ, terminal, screen):
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    out.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", out)

    assert screen == tables.screen()


def test_celery_may_be_told_to_have_no_colours(monkeypatch):
    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", out)
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    app = Celery(set_as_current=False)
    for refused in (False, True):
        context = CLIContext(app, no_color=refused, workdir=None)
        with click.Context(click.Command("list"), obj=context):
            assert refused == (not tables.screen().colour)
