"""The plots of docs/performance.md, made where matplotlib is installed.

python -m benchmarks.performance.plots RESULTS FOLDER
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.performance.plan import GRID, KINDS
from benchmarks.performance.results import found
from benchmarks.schedulers import SCHEDULERS

#: Okabe and Ito's, which can be told apart by most; the marks tell them apart as well.
COLOURS = ("#0072B2", "#000000", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKS = ("o", "s", "^", "D", "v", "P")
STYLES = {
    each.name: {"color": colour, "marker": mark, "label": each.title}
    for each, colour, mark in zip(SCHEDULERS, COLOURS, MARKS, strict=True)
}
STYLES["kit"]["linewidth"] = 2.6
STYLES["kit"]["zorder"] = 5
LOOKS = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "legend.frameon": False,
    "svg.hashsalt": "performance",  # the same figures make the same file
    "savefig.dpi": 150,
}


def draw(document, folder):
    """The names of those that could be drawn."""
    plt.rcParams.update(LOOKS)
    drawn = []
    plots = {"dispatch": dispatch, "lateness": lateness, "edits": edits, "memory": memory}
    for name, plot in plots.items():
        told = found(document, "start" if name == "memory" else name)
        figure = plot(told) if told else None
        if figure:
            for kind, about in (("png", {}), ("svg", {"Date": None})):
                figure.savefig(folder / f"{name}.{kind}", bbox_inches="tight", metadata=about)
            plt.close(figure)
            drawn.append(name)
    return drawn


def dispatch(told):
    figure, axes = plt.subplots(figsize=(8, 4.8))
    _by_size(axes, told, "rate")
    bare = [
        one["bare"]
        for cases in told.values()
        for rounds in cases.values()
        for one in rounds
        if "bare" in one
    ]
    if bare:
        level = statistics.median(bare)
        axes.axhline(level, color="#777777", linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            "bare apply_async loop",
            (0, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 4),
            textcoords="offset points",
            color="#555555",
            fontsize=10,
        )
    axes.set_ylabel("messages a second")
    axes.set_xlabel("routines due at once")
    axes.set_title("Dispatch: all due in one second (hollow: cut off, as far as it came)")
    return figure


def memory(told):
    figure, axes = plt.subplots(figsize=(8, 4.8))
    _by_size(axes, told, "rss_mb")
    axes.set_ylabel("memory (RSS), MB")
    axes.set_xlabel("routines stored, of which ten are due")
    axes.set_title("Memory of beat by number stored")
    return figure


def _by_size(axes, told, figure):
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for name, style in STYLES.items():
        points = sorted(
            (int(case), kept)
            for case, rounds in told.get(name, {}).items()
            # None is at zero: it has no place on these scales.
            if (kept := [one for one in rounds if one.get(figure)])
        )
        if not points:
            continue
        sizes = [size for size, _ in points]
        values = [[one[figure] for one in kept] for _, kept in points]
        middle = [statistics.median(each) for each in values]
        line = {key: value for key, value in style.items() if key != "marker"}
        axes.plot(sizes, middle, **line)
        for size, each, (_, kept) in zip(sizes, values, points, strict=True):
            cut = any(one.get("cut") for one in kept)
            axes.plot(
                size,
                statistics.median(each),
                marker=style["marker"],
                color=style["color"],
                markerfacecolor="white" if cut else style["color"],
                zorder=6,
            )
            if len(each) > 1:
                axes.vlines(size, min(each), max(each), color=style["color"], linewidth=1)
        ends.append((sizes[-1], middle[-1], style))
    _label(axes, ends)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _label(axes, ends):
    """Each line's name at its end, moved up where it would lie on another."""
    # Not before the scales are those of all lines.
    axes.autoscale_view()
    pixels = [axes.transData.transform(end[:2]) for end in ends]
    points = axes.figure.dpi / 72
    taken = []
    for (x, y), (size, value, style) in sorted(
        zip(pixels, ends, strict=True), key=lambda each: each[0][1]
    ):
        at = max([y, *(other + 14 * points for right, other in taken if right == x)])
        taken.append((x, at))
        axes.annotate(
            style["label"],
            (size, value),
            xytext=(9, (at - y) / points),
            textcoords="offset points",
            color=style["color"],
            fontsize=10,
            fontweight="bold" if "linewidth" in style else "normal",
            va="center",
            annotation_clip=False,
        )


def _plain(value, _):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def lateness(told):
    figure, both = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    for axes, batch in zip(both, KINDS, strict=True):
        for name, style in STYLES.items():
            rounds = told.get(name, {}).get(batch.name, ())
            kept = [one for one in rounds if one.get("quantiles")]
            if kept:
                grids = zip(*(one["quantiles"] for one in kept), strict=True)
                values = [max(0.5, 1000 * statistics.median(at)) for at in grids]
                came = 1 - statistics.median(one["missed"] for one in kept)
                axes.plot(values, [came * part for part in GRID], **style, markevery=(0.1, 0.25))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.set_xlabel("late by at most, ms")
        axes.set_ylim(-2, 104)
        every = "second" if batch.every == 1 else f"{batch.every} seconds"
        axes.set_title(f"{batch.number:,} routines every {every}")
    both[0].set_ylabel("share of all that were due, %")
    known = {
        label: handle
        for axes in both
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    labels = [style["label"] for style in STYLES.values() if style["label"] in known]
    handles = [known[label] for label in labels]
    figure.legend(handles, labels, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 0.0))
    return figure


def edits(told):
    present = [name for name in STYLES if name in told]
    figure, both = plt.subplots(
        1, 2, figsize=(11, 0.55 * len(present) + 1.6), sharex=True, sharey=True
    )
    titles = {"idle": "nothing else is due", "busy": "200 others are due every second"}
    for axes, (case, title) in zip(both, titles.items(), strict=True):
        for row, name in enumerate(reversed(present)):
            style = STYLES[name]
            rounds = [one for one in told[name].get(case, ()) if "failed" not in one]
            values = [max(0.0005, value) for one in rounds for value in one["values"]]
            spots = [row + 0.18 * (n % 5 - 2) / 2 for n in range(len(values))]
            axes.plot(
                values, spots, style["marker"], color=style["color"], alpha=0.65, markersize=5
            )
            if values:
                middle = statistics.median(values)
                axes.plot([middle] * 2, [row - 0.33, row + 0.33], color=style["color"], linewidth=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_yticks(range(len(present)))
        axes.set_yticklabels([STYLES[name]["label"] for name in reversed(present)])
        axes.set_ylim(-0.6, len(present) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.set_title(title)
        axes.set_xlabel("seconds from COMMIT to message (bar: median)")
    return figure


def main():
    document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(draw(document, folder)))


if __name__ == "__main__":
    main()
