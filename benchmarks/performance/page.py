"""What is generated of docs/performance.md, between two marks."""

from __future__ import annotations

BEGIN = "<!-- figures: written by python -m benchmarks.performance -->"
END = "<!-- end of figures -->"
PLOTS = {
    "dispatch": "Messages a second by number due at once",
    "lateness": "How late messages come",
    "edits": "From an edit's COMMIT to the message",
    "memory": "Memory by number stored",
}
#: The heading after which a plot stands.
PLACES = {
    "dispatch": "## Dispatch",
    "lateness": "## Lateness",
    "edits": "## Edits",
    "memory": "## Start and memory",
}


def written(page, figures):
    """*page* with *figures* in place of those it had.

    Raises:
        ValueError: it has no place for them.
    """
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def illustrated(figures, plots, folder):
    """*figures* with each of *plots* below its heading; the pictures lie in *folder*."""
    for name in plots:
        heading = PLACES[name]
        picture = f"![{PLOTS[name]}]({folder}/{name}.svg)"
        figures = figures.replace(f"{heading}\n", f"{heading}\n\n{picture}\n", 1)
    return figures
