"""The tables of docs/performance.md, from results."""

from __future__ import annotations

import statistics

from benchmarks.performance import lines
from benchmarks.performance.plan import KINDS
from benchmarks.performance.results import found
from benchmarks.schedulers import SCHEDULERS

NONE = "-"


def all_of(document):
    """Markdown: a section for each measure that has results."""
    sections = [
        _dispatch(document),
        _lateness(document),
        _edits(document),
        _start(document),
        _idle(document),
        *_lines(document),
    ]
    return "\n\n".join([_where(document), *filter(None, sections), *_failures(document)])


def _failures(document):
    failed = [one for one in document["measurements"] if "failed" in one]
    if failed:
        yield "\n".join(
            [
                "What failed:",
                "",
                *(
                    f"- {one['measure']}, {one['contender']}, {one['case']}: "
                    f"{one['failed'].strip().splitlines()[-1]}"
                    for one in failed
                ),
            ]
        )


def _where(document):
    machine, servers = document["machine"], document["servers"]
    versions = (
        f"{each.title}: {', '.join(f'{n} {v}' for n, v in document['versions'][each.name].items())}"
        for each in SCHEDULERS
        if each.name in document["versions"]
    )
    text = (
        f"Measured on {document['date']} on {machine['cores']} cores ({machine['cpu']}, "
        f"{machine['memory_gb']} GB, Linux {machine['kernel']}), Python {machine['python']}, "
        f"PostgreSQL {servers['PostgreSQL']} with fsync {servers['fsync']}, Redis "
        f"{servers['Redis']}."
    )
    if document["scale"] != "full":
        text += f" **This was a {document['scale']} run, with small numbers.**"
    return "\n".join([text, "", *(f"- {version}" for version in versions)])


def _dispatch(document):
    told = found(document, "dispatch")
    if not told:
        return ""
    sizes = _sizes(told)
    rates = {
        size: {name: _rate(cases.get(str(size))) for name, cases in told.items()} for size in sizes
    }
    ratios = {
        size: {name: spread(cases.get(str(size)), "ratio") for name, cases in told.items()}
        for size in sizes
    }
    bare = {
        "messages/s": {
            name: spread([one for rounds in cases.values() for one in rounds], "bare")
            for name, cases in told.items()
        }
    }
    return "\n\n".join(
        [
            "## Dispatch",
            "Messages a second of so many routines due at once; cut: as far as it came in time.",
            _table({f"{size:,}": rates[size] for size in sizes}),
            "The same as a multiple of the bare `apply_async` loop.",
            _table({f"{size:,}": ratios[size] for size in sizes}),
            "That loop, in the environment of each.",
            _table(bare),
        ]
    )


def _rate(rounds):
    text = spread(rounds, "rate")
    return f"{text}, cut" if any(one.get("cut") for one in rounds or ()) else text


def _lateness(document):
    told = found(document, "lateness")
    if not told:
        return ""
    parts = ["## Lateness"]
    for batch in KINDS:
        columns = {
            title: {
                name: spread(cases.get(batch.name), figure, factor) for name, cases in told.items()
            }
            for title, figure, factor in (
                ("p50 ms", "p50", 1000),
                ("p90 ms", "p90", 1000),
                ("p99 ms", "p99", 1000),
                ("worst ms", "max", 1000),
                ("missed %", "missed", 100),
                ("doubled %", "doubled", 100),
                ("drift ms/min", "drift", 1000),
            )
        }
        every = "every second" if batch.every == 1 else f"every {batch.every} seconds"
        parts += [f"{batch.number:,} routines {every}:", _table(columns)]
    return "\n\n".join(parts)


def _edits(document):
    told = found(document, "edits")
    if not told:
        return ""
    columns = {
        f"{title}, {case}": {name: spread(cases.get(case), figure) for name, cases in told.items()}
        for case in ("idle", "busy")
        for title, figure in (("median s", "p50"), ("worst s", "max"))
    }
    return f"## Edits\n\nSeconds from COMMIT to message.\n\n{_table(columns)}"


def _start(document):
    told = found(document, "start")
    if not told:
        return ""
    sizes = _sizes(told)

    def columns(figure):
        return {
            f"{size:,}": {
                name: spread(cases.get(str(size)), figure) for name, cases in told.items()
            }
            for size in sizes
        }

    return "\n\n".join(
        [
            "## Start and memory",
            "Seconds to the first message, with so many stored, of which ten are due:",
            _table(columns("seconds")),
            "Memory in MB at most until two seconds later (RSS):",
            _table(columns("rss_mb")),
            "The same without what it shares with others (PSS):",
            _table(columns("pss_mb")),
        ]
    )


def _idle(document):
    told = found(document, "idle")
    if not told:
        return ""
    parts = ["## Idle"]
    for size in _sizes(told):
        columns = {
            title: {
                name: spread(cases[str(size)], figure, factor)
                for name, cases in told.items()
                if str(size) in cases
            }
            for title, figure, factor in (
                ("% of a core", "cpu", 100),
                ("statements/min", "statements", 1),
                ("Redis commands/min", "commands", 1),
            )
        }
        parts += [f"{size:,} stored, none due:", _table(columns)]
    return "\n\n".join(parts)


def _lines(document):
    told = found(document, "lines")
    for name in lines.NAMES:
        rounds = [one for one in told.get(name, {}).get("kit", ()) if "failed" not in one]
        if not rounds:
            continue
        figures = dict.fromkeys(figure for one in rounds for figure in one["figures"])
        rows = [
            f"| {figure} | {' | '.join(_figure([one['figures'].get(figure) for one in rounds]))} |"
            for figure in figures
        ]
        table = "\n".join(["| figure | value | spread |", "|---|--:|--:|", *rows])
        yield f"## {rounds[-1]['title']}\n\n{table}"


def _figure(values):
    """Median and spread of what is a number; the last of what is not."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    if not numbers:
        return str(values[-1]), NONE
    if len(numbers) == 1:
        return shown(numbers[0]), NONE
    return shown(statistics.median(numbers)), f"{shown(min(numbers))} to {shown(max(numbers))}"


def spread(rounds, figure, factor=1):
    """The median of a figure, and between what it lay if there were several rounds."""
    kept = [one for one in rounds or () if one.get(figure) is not None]
    if not kept:
        return "failed" if any("failed" in one for one in rounds or ()) else NONE
    values = [one[figure] * factor for one in kept]
    middle = shown(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({shown(min(values))} to {shown(max(values))})"


def shown(value):
    """With two or three digits that mean something."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _sizes(told):
    return sorted({int(case) for cases in told.values() for case in cases})


def _table(columns):
    """{heading: {contender: text}}, as a row for each contender."""
    present = [s for s in SCHEDULERS if any(s.name in column for column in columns.values())]
    head = f"| | {' | '.join(columns)} |"
    rule = f"|---|{'--:|' * len(columns)}"
    rows = (
        f"| {each.title} | {' | '.join(c.get(each.name, NONE) for c in columns.values())} |"
        for each in present
    )
    return "\n".join([head, rule, *rows])
