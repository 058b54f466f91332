"""The plot of a report: for each model and mode the ratio to the faster of the other engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peer.report import Mean, Result, geometric_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1b6ca8", "#e07a1f", "#3a9a5b", "#8a5fb0", "#7a7a7a")
MARKERS = ("o", "s", "D", "^", "v")
TICKS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 7, 10)
ROW_INCHES, WIDTH_INCHES = 0.24, 8.0


def draw(path: Path, results: Sequence[Result], heading: Sequence[str]) -> None:
    """Writes an SVG file that is the same for the same results. `heading` is put below the title, line by line.

    A row for each model from top to bottom, then one for each group's geometric means, on a logarithmic scale.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    compared = [result for result in results if result.faster]
    rows = rows_of(compared)
    with rc_context({"svg.hashsalt": "cpuruntime", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(WIDTH_INCHES, 1.5 + ROW_INCHES * len(rows)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        modes = list(dict.fromkeys(result.mode.name for result in compared))
        for index, mode in enumerate(modes):
            places = [place for place, row in enumerate(rows) if mode in rows[row]]
            ratios = [row[mode] for row in rows.values() if mode in row]
            marker, colour = MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]
            axes.plot(ratios, places, marker, color=colour, label=mode, markersize=4.5, alpha=0.85)
        axes.axvline(1.0, color="black", linewidth=1.2)
        axes.axhline(len({result.model for result in compared}) - 0.5, color="gray", linewidth=0.8)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        _scale(axes, [ratio for row in rows.values() for ratio in row.values()])
        axes.set_xlabel("times as fast as the faster of the other engines")
        figure.legend(loc="outside lower center", ncols=len(modes), frameon=False)
        axes.set_title("\n".join(["cpuruntime against the faster of OpenVINO and ONNX Runtime", *heading]), fontsize=7)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def rows_of(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """The ratios by mode of each row: the models in their order, then the groups of geometric means."""
    rows: dict[str, dict[str, float]] = {}
    for result in results:
        rows.setdefault(result.model, {})[result.mode.name] = result.ratios[result.faster].median
    modes = {result.mode.name for result in results}
    means: list[Mean] = [mean for mean in geometric_means(results) if mean.mode in modes]
    for mean in means:
        rows.setdefault(f"mean of {mean.group}", {})[mean.mode] = mean.faster
    return rows


def _scale(axes: Axes, ratios: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers around all ratios and 1."""
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    low, high = min([0.9, *ratios]), max([1.5, *ratios])
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xscale("log")
    axes.set_xlim(low / 1.04, high * 1.04)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.grid(axis="y", linewidth=0.3, alpha=0.4)
