"""The report: dynamic.md, a table for each model, and dynamic.svg, the ratios of all as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from peer.chart import COLOURS, MARKERS
from peer.document import NAMES
from peer.ratios import ratio
from peer.report import LARGEST_ERROR
from varying.measure import SITUATIONS, Measured

Results = Mapping[str, Mapping[str, Measured]]
"""By subject and engine."""


def write(folder: Path, results: Results, heading: str) -> None:
    """Writes both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dynamic.md").write_text("\n".join(document(results, heading)) + "\n")
    draw(folder / "dynamic.svg", results, heading)


def document(results: Results, heading: str) -> Iterator[str]:
    """The page."""
    yield from ("# Shapes that change", "", heading, "")
    yield (
        "Milliseconds of an inference: at a shape not seen before, at one seen, and at 10, 20 and 100 shapes in turn, "
        "all after kernels are compiled. The ratio is to the faster of the other engines, above 1 where cpuruntime is "
        "faster."
    )
    for subject, engines in results.items():
        yield from ("", f"## {subject}", "", *lines(engines))
        yield from remarks(engines)
        if any(measured.memory for measured in engines.values()):
            yield from ("", *_memory(engines))


def lines(engines: Mapping[str, Measured]) -> Iterator[str]:
    """The table of a model: a row for each situation."""
    header = ["", *(NAMES[name] for name in engines), "ratio"]
    yield f"| {' | '.join(header)} |"
    yield f"|---|{'---:|' * (len(header) - 1)}"
    for situation in SITUATIONS:
        cells = [f"{measured.median(situation):.3f}" for measured in engines.values()]
        found = against_faster(engines, situation)
        yield f"| {' | '.join([situation, *cells, '-' if found is None else f'{found:.2f}'])} |"


def remarks(engines: Mapping[str, Measured]) -> Iterator[str]:
    """What went wrong."""
    for name, measured in engines.items():
        if measured.failure:
            yield from ("", f"{NAMES[name]} failed: {measured.failure}")
        if not measured.error <= LARGEST_ERROR:
            yield from ("", f"{NAMES[name]} gives other outputs than the first engine, by {measured.error:.2g}.")


def against_faster(engines: Mapping[str, Measured], situation: str) -> float | None:
    """How many times faster the first engine is than the fastest other; None without figures of both."""
    ours, *others = (measured.rounds[situation] for measured in engines.values())
    medians = [
        ratio(ours, theirs, smaller_is_better=True).median for theirs in others if theirs and len(theirs) == len(ours)
    ]
    return min(medians) if medians else None


def _memory(engines: Mapping[str, Measured]) -> Iterator[str]:
    """Resident memory after numbers of shapes."""
    counts = max((list(measured.memory) for measured in engines.values()), key=len)
    yield f"| MiB after shapes | {' | '.join(str(count) if count else 'closed' for count in counts)} |"
    yield f"|---|{'---:|' * len(counts)}"
    for name, measured in engines.items():
        cells = (f"{measured.memory[count]:.0f}" if count in measured.memory else "-" for count in counts)
        yield f"| {NAMES[name]} | {' | '.join(cells)} |"


def draw(path: Path, results: Results, heading: str) -> None:
    """Writes an SVG file: a row for each model, a mark for each situation, on a logarithmic scale."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "cpuruntime", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(8.0, 1.8 + 0.35 * len(results)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for index, situation in enumerate(SITUATIONS):
            points = [(against_faster(engines, situation), row) for row, engines in enumerate(results.values())]
            known = [point for point in points if point[0] is not None]
            axes.plot(*zip(*known or [((), ())]), MARKERS[index], color=COLOURS[index], label=situation, alpha=0.85)
        axes.axvline(1.0, color="black", linewidth=1.2)
        axes.set_yticks(range(len(results)), list(results))
        axes.set_ylim(len(results) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.grid(axis="both", linewidth=0.4, alpha=0.5)
        axes.set_xlabel("times as fast as the faster of the other engines")
        figure.legend(loc="outside lower center", ncols=len(SITUATIONS), frameon=False)
        axes.set_title(f"Shapes that change\n{heading}", fontsize=7)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
