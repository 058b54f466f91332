"""Charts of latencies as SVG: a histogram, and a timeline."""

from __future__ import annotations

from html import escape

import numpy as np

WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 12, 40
_BINS = 48
_SPANS = 240
"""How many parts of the time a timeline shows."""


def histogram(latencies: np.ndarray) -> str:
    """How many of the latencies, in milliseconds, lie in each of equal ranges; the last one has all above p99.9."""
    low, high = float(latencies.min()), float(np.percentile(latencies, 99.9, method="higher"))
    edges = np.linspace(low, high if high > low else low + max(low, 1e-3) * 0.01, _BINS + 1)
    counts, _ = np.histogram(np.minimum(latencies, edges[-1]), edges)
    chart = _Chart(edges[0], edges[-1], 0.0, float(counts.max()))
    for count, begin, end in zip(counts, edges[:-1], edges[1:]):
        left, right, top = chart.x(begin), chart.x(end), chart.y(float(count))
        title = f"{count} from {begin:.4g} to {end:.4g} ms"
        chart.add(f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 1, 1):.1f}" '
                  f'height="{chart.y(0.0) - top:.1f}"><title>{escape(title)}</title></rect>')  # fmt: skip
    return chart.svg("histogram", "latency (ms)", "inferences")


def timeline(moments: np.ndarray, latencies: np.ndarray) -> str:
    """The latencies in milliseconds over the seconds at which inferences ended: their range, and their median."""
    last = max(float(moments.max()), 1e-9)
    chart = _Chart(0.0, last, 0.0, float(latencies.max()))
    spans = np.minimum((moments / last * _SPANS).astype(int), _SPANS - 1)
    order = np.argsort(spans, kind="stable")
    parts = np.split(latencies[order], np.flatnonzero(np.diff(spans[order])) + 1)
    medians = []
    for span, values in zip(np.unique(spans), parts):
        x = chart.x((span + 0.5) / _SPANS * last)
        low, high = chart.y(float(values.min())), chart.y(float(values.max()))
        title = f"{len(values)} about {(span + 0.5) / _SPANS * last:.3g} s: {values.min():.4g} to {values.max():.4g} ms"
        chart.add(f'<line class="range" x1="{x:.1f}" x2="{x:.1f}" y1="{low + 1:.1f}" y2="{high - 1:.1f}">'
                  f"<title>{escape(title)}</title></line>")  # fmt: skip
        medians.append(f"{x:.1f},{chart.y(float(np.median(values))):.1f}")
    chart.add(f'<polyline class="median" points="{" ".join(medians)}"/>')
    return chart.svg("timeline", "time (s)", "latency (ms)")


class _Chart:
    """A plane with axes."""

    def __init__(self, left: float, right: float, bottom: float, top: float) -> None:
        self._left, self._right, self._bottom, self._top = left, right, bottom, top or 1.0
        self._parts: list[str] = []

    def x(self, value: float) -> float:
        return _LEFT + (value - self._left) / (self._right - self._left) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (value - self._bottom) / (self._top - self._bottom) * (HEIGHT - _TOP - _BOTTOM)

    def add(self, part: str) -> None:
        self._parts.append(part)

    def svg(self, name: str, across: str, up: str) -> str:
        """The chart with four ticks on each axis."""
        ticks = []
        for value in np.linspace(self._left, self._right, 5):
            ticks.append(f'<text x="{self.x(value):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{value:.4g}</text>')
        for value in np.linspace(self._bottom, self._top, 5):
            y = self.y(value)
            ticks.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            ticks.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        labels = f'<text x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{across}</text>'
        labels += f'<text transform="translate(12 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">{up}</text>'
        inside = "".join([*ticks, *self._parts, labels])
        return f'<svg id="{name}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{inside}</svg>'
