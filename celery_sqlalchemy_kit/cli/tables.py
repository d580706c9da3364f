r"""Tables and lines on a terminal, or in a pipe.

What is printed comes from rows that others have written: whatever could move or colour a terminal
is shown as an escape such as ``\x1b``, and nothing is read as markup. On a terminal columns are
fitted to its width, by rich as long as there are few rows (it takes seconds for ten thousand); in a
pipe a row is one line, in full.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Rows that are few.
FEW = 200
#: Tones of a `Toned`, as rich names them.
GOOD, ODD, BAD, BUSY, FAINT = "green", "yellow", "red", "cyan", "dim"
_GAP = "  "
#: Columns of a terminal that a column of a table has at least.
_NARROWEST = 4
#: Titles of columns that should not be cut.
_NAMES = ("name", "routine")


class Toned(str):
    """Text in a colour, where there are colours."""

    __slots__ = ("tone",)
    tone: str

    def __new__(cls, text: str, tone: str) -> Toned:  # noqa: PYI034  nobody derives from it
        made = super().__new__(cls, text)
        made.tone = tone
        return made


class Row(NamedTuple):
    """Cells, and a *remark*: on a terminal it stands beneath, in a pipe at the end."""

    cells: tuple[str, ...]
    remark: str = ""


@dataclass(frozen=True)
class Screen:
    """Where it is printed; *width*: columns of the terminal, or None: it is none."""

    width: int | None = None
    colour: bool = False


def screen() -> Screen:
    """Standard output. ``COLUMNS`` is heeded, and so are ``NO_COLOR`` and ``--no-color``."""
    if not sys.stdout.isatty():
        return Screen()
    context = click.get_current_context(silent=True)
    refused = context is not None and getattr(context.find_root().obj, "no_color", False)
    colour = not (refused or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")
    return Screen(max(20, shutil.get_terminal_size().columns), colour)


def clean(text: str) -> str:
    """*text* on one line that does no harm: what is no letter, sign or space is escaped."""
    if text.isprintable():
        return text
    escaped = "".join(each if each.isprintable() else _escape(each) for each in text)
    return Toned(escaped, text.tone) if isinstance(text, Toned) else escaped


def clean_lines(text: str) -> list[str]:
    """The same line by line."""
    return [clean(line) for line in text.expandtabs().splitlines()]


def say(text: str) -> None:
    """Print *text*; what the encoding of standard output does not have is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    harmless = text.encode(encoding, "backslashreplace").decode(encoding)
    click.echo(harmless, color=True)  # as it is: there are no colours in it where none should be


def say_heading(text: str) -> None:
    """A line above something, between empty ones."""
    say("\n" + (click.style(text, bold=True) if screen().colour else text))


def print_table(titles: Sequence[str], rows: Sequence[Row], *, spare: Sequence[str] = ()) -> None:
    """Print *rows* beneath their *titles*, where there is any.

    *spare* are titles of columns that are left out, in this order, where a terminal is too narrow.
    """
    on = screen()
    harmless: Sequence[Row] = [Row(tuple(map(clean, row.cells)), clean(row.remark)) for row in rows]
    if on.width is not None:
        titles, harmless = without(spare, titles, harmless, on.width)
    if on.width is not None and len(rows) <= FEW:
        _print_by_rich(titles, harmless, on)
    else:
        say("\n".join(lines(titles, harmless, on.width)))


def without(
    spare: Sequence[str], titles: Sequence[str], rows: Sequence[Row], width: int
) -> tuple[Sequence[str], Sequence[Row]]:
    """Titles and rows without as many of the *spare* columns as it takes to fit into *width*."""
    for title in spare:
        cells = [row.cells for row in rows]
        if sum(_natural([titles, *cells])) + len(_GAP) * (len(titles) - 1) <= width:
            break
        at = titles.index(title)
        titles = _but(titles, at)
        rows = [Row(_but(row.cells, at), row.remark) for row in rows]
    return titles, rows


def lines(titles: Sequence[str], rows: Sequence[Row], width: int | None = None) -> Iterator[str]:
    """A table as plain text, fitted to *width* where there is one: what is too long is cut."""
    cells = [row.cells for row in rows]
    if width is None and any(row.remark for row in rows):
        titles = [*titles, "note"]
        cells = [(*row.cells, row.remark) for row in rows]
    heads = tuple(title.upper() for title in titles)
    widths = _widths(titles, cells, width)
    if any(heads):
        yield _line(heads, widths)
    for row, its in zip(rows, cells, strict=True):
        yield _line(its, widths)
        if width is not None and row.remark:
            yield _GAP + row.remark


def width_of(text: str) -> int:
    """Columns of a terminal that *text*, which is `clean`, takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of_letter, text))


def fitted(widths: Sequence[int], available: int, name: int | None = None) -> list[int]:
    """Widths that make up *available* at most: who needs little gets it, the others share.

    *name*: the column which before that gets what it needs, up to a third.
    """
    found, left = list(widths), available
    if name is not None:
        found[name] = min(widths[name], max(_NARROWEST, available // 3))
        left -= found[name]
    others = sorted((n for n in range(len(widths)) if n != name), key=widths.__getitem__)
    for place, index in enumerate(others):
        share = left // (len(others) - place)
        found[index] = min(widths[index], max(_NARROWEST, share))
        left -= found[index]
    return found


def _widths(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    natural = _natural([titles, *rows])
    if width is None or sum(natural) + len(_GAP) * (len(natural) - 1) <= width:
        return natural
    name = next((n for n, title in enumerate(titles) if title in _NAMES), None)
    return fitted(natural, width - len(_GAP) * (len(natural) - 1), name)


def _natural(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(width_of, column)) for column in zip(*rows, strict=True)]


def _but(cells: Sequence[str], at: int) -> tuple[str, ...]:
    return (*cells[:at], *cells[at + 1 :])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(map(_padded, cells, widths)).rstrip()


def _padded(text: str, width: int) -> str:
    if len(text) <= width and text.isascii():
        return text.ljust(width)
    missing = width - width_of(text)
    if missing >= 0:
        return text + " " * missing
    while width_of(text) >= width:
        text = text[:-1]
    return _padded(f"{text}…", width)


def _width_of_letter(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _print_by_rich(titles: Sequence[str], rows: Sequence[Row], on: Screen) -> None:
    from rich.console import Console
    from rich.padding import Padding

    console = Console(
        width=on.width,
        force_terminal=True,
        color_system="standard" if on.colour else None,
        highlight=False,
        markup=False,
    )
    heads = [title.upper() for title in titles]
    widths = _widths(titles, [row.cells for row in rows], on.width)
    with console.capture() as printed:
        begun = 0
        for end, row in enumerate(rows, 1):
            if row.remark or end == len(rows):
                _print_part(console, heads if begun == 0 else (), rows[begun:end], widths)
                begun = end
            if row.remark:
                console.print(Padding(_text(row.remark), (0, 0, 0, len(_GAP))))
        if not rows:
            _print_part(console, heads, rows, widths)
    say("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _print_part(
    console: Console, heads: Sequence[str], rows: Sequence[Row], widths: Sequence[int]
) -> None:
    from rich.table import Table

    # Gaps are columns: what padding is beside the last column differs between versions.
    part = Table.grid(padding=0)
    for width in widths:
        part.add_column(width=width, overflow="fold")
        part.add_column(width=len(_GAP))
    part.columns.pop()
    if any(heads):
        part.add_row(*_spaced(heads), style="bold")
    for row in rows:
        part.add_row(*_spaced(row.cells))
    console.print(part)


def _spaced(cells: Sequence[str]) -> list[str | Text]:
    return [each for cell in cells for each in (_text(cell), "")][:-1]


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(text, style=text.tone if isinstance(text, Toned) else "")
