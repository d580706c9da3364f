"""The figures of `async_tasks` side by side, and what is promised of them."""

from __future__ import annotations

import statistics

from benchmarks.contenders import ASYNCIO_RUN, CONTENDERS, FEW_THREADS, ON_TASKIQ, POOL, THREADS

#: The rate of the pool for a task is at least so many times that of the other.
PROMISES = (
    ("sleeper", (ASYNCIO_RUN,), 250),
    ("sleeper", (ON_TASKIQ,), 0.7),
    ("nothing", (THREADS,), 1),
    ("nothing", (FEW_THREADS, THREADS), 1),
)
HEADINGS = (
    *("", "tasks", "tasks/s", "range", "ratio", "CPU ms/task"),
    *("RSS MB", "PSS MB", "threads", "connections"),
)


def table(found):
    """Medians of the rounds; peaks are those of all rounds. The ratio is to the first."""
    rates = {each: [one.rate for one in figures if one] for each, figures in found.items()}
    base = statistics.median(rates[CONTENDERS[0]]) if rates.get(CONTENDERS[0]) else None
    rows = [HEADINGS]
    for each, figures in found.items():
        if not rates[each]:
            rows.append((each.title, *["-"] * (len(HEADINGS) - 1)))
            continue
        kept = [one for one in figures if one]
        rate = statistics.median(rates[each])
        usage = kept[0].usage
        for one in kept:
            usage = usage.peak(one.usage)
        rows.append(
            (
                each.title,
                f"{kept[0].tasks:,}",
                _shown(rate),
                f"{_shown(min(rates[each]))} to {_shown(max(rates[each]))}",
                _shown(rate / base) if base else "-",
                _shown(1000 * statistics.median(one.cpu_seconds / one.tasks for one in kept)),
                f"{usage.rss_mb:.0f}",
                f"{usage.pss_mb:.0f}",
                f"{usage.threads}",
                f"{usage.connections}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        f"{row[0]:{widths[0]}}"
        + "".join(f"{cell:>{width + 3}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def verdicts(found):
    return "\n".join(_verdict(found, *promise) for promise in PROMISES)


def _verdict(found, task, others, bound):
    """Of the ratio in each round: what ran at the same time is compared."""
    title = " or ".join(each.title for each in others)
    text = f"{'sleepers' if task == 'sleeper' else 'no-ops'}, {POOL.title} to {title}"
    if len(others) > 1:
        text += ", whichever is faster"
    each = [found.get((task, one), ()) for one in (POOL, *others)]
    ratios = [
        ours.rate / max(one.rate for one in theirs)
        for ours, *theirs in zip(*each, strict=False)  # one left out has no rounds
        if ours and all(theirs)
    ]
    if not ratios:
        return f"{text}: not measured"
    ratio = statistics.median(ratios)
    spread = f"{_shown(min(ratios))} to {_shown(max(ratios))}"
    held = "holds" if ratio >= bound else "DOES NOT HOLD"
    return f"{text}: {_shown(ratio)} ({spread}), at least {bound}: {held}"


def _shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
