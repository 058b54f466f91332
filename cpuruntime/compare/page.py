"""A run as one self-contained HTML page: the interval of each row as a plot, all figures, the calibration loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from cpuruntime.compare.documents import HEADER, cells, heading, notes, summary
from cpuruntime.compare.record import Run
from cpuruntime.compare.verdicts import FASTER, SLOWER, Row

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; }
td:nth-child(-n+3), th:nth-child(-n+3), td:last-child, th:last-child { text-align: left; }
.slower { color: #b3261e; font-weight: 600; } .faster { color: #14693b; } .inconclusive { color: #8a6100; }
svg text { font: 12px system-ui, sans-serif; fill: #444; }
"""
COLOURS = {SLOWER: "#b3261e", FASTER: "#14693b", "same": "#444", "inconclusive": "#8a6100"}
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LEFT, _WIDTH, _RIGHT, _LINE = 300, 560, 110, 22


def page(run: Run) -> str:
    """The text of the page."""
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = "\n".join(_row(row) for row in run.rows)
    title = f"cpuruntime compare: {escape(summary(run.rows))}"
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{escape(heading(run))}</p>",
        *(f"<p>{escape(note)}</p>" for note in notes(run)),
        "<h2>Ratios, head over base</h2>",
        intervals(run.rows),
        f"<p>Lines are intervals at {run.confidence:g} % confidence for all models together; the bars behind them are "
        "the thresholds. Right of 1 the head is slower, or larger.</p>",
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>",
        "<h2>Calibration loop, ms</h2>",
        calibrations(run),
        "<p>Each dot is a pair of slices, in the order of measurement; red ones were disturbed.</p>",
    ]
    return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A page with the style of all pages; `title` and `parts` are HTML."""
    begin = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    text = "\n".join(parts)
    return f"{begin}<title>{title}</title><style>{STYLE}</style></head><body>\n{text}\n</body></html>\n"


def _row(row: Row) -> str:
    *texts, verdict = cells(row)
    inner = "".join(f"<td>{escape(text)}</td>" for text in texts)
    return f'<tr>{inner}<td class="{verdict}">{verdict}</td></tr>'


def intervals(rows: Sequence[Row]) -> str:
    """The plot of all intervals that are known, on a common logarithmic axis."""
    shown = [row for row in rows if math.isfinite(row.high) and row.metric != "wheel"]
    if not shown:
        return "<p>No row has an interval.</p>"
    reach = max(abs(math.log(value)) for row in shown for value in (row.low, row.high, row.threshold)) * 1.05

    def place(ratio: float) -> float:
        return _LEFT + _WIDTH * (0.5 + 0.5 * math.log(ratio) / reach)

    height = _LINE * (len(shown) + 2)
    lines = [_axis(place, reach, height)]
    for number, row in enumerate(shown):
        y, colour = _LINE * (number + 1), COLOURS[row.verdict]
        begin, end = place(1 / row.threshold), place(row.threshold)
        name = escape(f"{row.model} {row.mode} {row.metric}")
        lines += [
            f'<rect x="{begin:.1f}" y="{y - 7}" width="{end - begin:.1f}" height="14" fill="#eee"/>',
            f'<line x1="{place(row.low):.1f}" x2="{place(row.high):.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
            'stroke-width="2"/>',
            f'<circle cx="{place(row.ratio):.1f}" cy="{y}" r="4" fill="{colour}"/>',
            f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{name}</text>',
            f'<text x="{_LEFT + _WIDTH + 10}" y="{y + 4}">{row.ratio:.3f} {row.verdict}</text>',
        ]
    return _svg(_LEFT + _WIDTH + _RIGHT, height, lines)


def _axis(place: Callable[[float], float], reach: float, height: float) -> str:
    step = next((step for step in STEPS if step * 3 >= reach), 10.0)
    lines = []
    for number in range(-4, 5):
        if abs(number * step) <= reach:
            x, colour = place(math.exp(number * step)), "#ccc" if number else "#222"
            lines += [
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20}" stroke="{colour}"/>',
                f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle">{math.exp(number * step):.3f}</text>',
            ]
    return "\n".join(lines)


def calibrations(run: Run) -> str:
    """The calibration loops of the run."""
    pairs = [pair for case in run.cases for process in case.processes for pair in process.slices]
    if not pairs:
        return "<p>Nothing was measured.</p>"
    values = [pair.conditions.calibration * 1e3 for pair in pairs]
    colours = ["#b3261e" if pair.conditions.disturbance else "#444" for pair in pairs]
    return scatter(values, colours, ())


def scatter(values: Sequence[float], colours: Sequence[str], changes: Sequence[int], labels: Sequence[str] = ()) -> str:
    """Dots from left to right on an axis from the least to the largest value; a vertical line before each change."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin
    width, height = 900, 160

    def place(number: float) -> float:
        return 70 + (width - 90) * (number + 0.5) / len(values)

    def level(value: float) -> float:
        return (height - 20) * (high - value) / (high - low) + 5

    lines = []
    for value in (min(values), max(values)):
        y = level(value)
        lines.append(f'<line x1="70" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="62" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for number in changes:
        x = place(number - 0.5)
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 15}"'
        lines.append(f'<line {ends} stroke="#b3261e" stroke-dasharray="4"/>')
    for number, (value, colour) in enumerate(zip(values, colours)):
        label = f"<title>{escape(labels[number])}</title>" if labels else ""
        dot = f'cx="{place(number):.1f}" cy="{level(value):.1f}" r="3" fill="{colour}"'
        lines.append(f"<circle {dot}>{label}</circle>")
    return _svg(width, height, lines)


def _svg(width: float, height: float, lines: Sequence[str]) -> str:
    inner = "\n".join(lines)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">\n{inner}\n</svg>'
