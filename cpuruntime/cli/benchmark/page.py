"""The page of `--report`: one self-contained HTML file with the latencies, the steps and the decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

import cpuruntime as ov
from cpuruntime.cli.benchmark.charts import histogram, timeline
from cpuruntime.cli.benchmark.measure import PERCENTILES, Measurement
from cpuruntime.devices.explanation import Row
from cpuruntime.errors import escaped, printable

_POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .15rem .6rem .15rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { width: 100%; font-size: 11px; } svg text { fill: currentColor; }
.bar { fill: #4a7fb5; } .grid { stroke: #8883; } .range { stroke: #4a7fb5; stroke-width: 2; }
.median { fill: none; stroke: #d9822b; stroke-width: 1.5; } .share { background: #4a7fb5; height: .7rem; }
.wide { overflow-x: auto; }
"""


def write_page(
    path: Path, sections: Mapping[str, Mapping[str, str]], found: Measurement, explanation: ov.Explanation | None
) -> None:
    """Writes the page; `explanation` has the steps and decisions, where they are known. Raises OSError."""
    setup = sections["configuration_setup"]
    title = f"{setup.get('topology', '')} on {setup.get('target device', '')}"
    latencies = np.concatenate([found.latencies, found.unserved])
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p>cpuruntime {escape(ov.get_version())}: {found.iterations} inferences in {found.seconds:.2f} s.</p>",
        "<h2>Figures</h2>",
        _figures(found),
        "<h2>Latencies</h2>",
        histogram(latencies),
        "<h2>Latencies over time</h2>",
        "<p>The range in each part of the time, and the median.</p>",
        timeline(np.array(found.moments), np.array(found.latencies)),
    ]
    if explanation is not None:
        parts += ["<h2>Steps</h2>", _steps(explanation.rows), "<h2>Decisions</h2>"]
        parts.append(f"<ul>{''.join(f'<li>{_text(one)}</li>' for one in explanation.decisions)}</ul>")
    for name, heading in (("configuration_setup", "Settings"), ("execution_results", "Results")):
        cells = (f"<th>{_text(key)}</th><td>{_text(str(value))}</td>" for key, value in sections[name].items())
        parts.append(f"<h2>{heading}</h2><table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>")
    head = f'<meta charset="utf-8">{_POLICY}<title>{_text(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    page = f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
    path.write_text(page, encoding="utf-8")


def _figures(found: Measurement) -> str:
    """A table whose cells have the figures' names as ids, and their exact values as data."""
    figures = found.figures()
    rows = {f"p{one:g}": (figures.percentile(one), "ms") for one in PERCENTILES}
    rows |= {"average": (figures.average, "ms"), "min": (figures.least, "ms"), "max": (figures.most, "ms")}
    rows["queued"], rows["executed"] = ((float(np.mean(times)), "ms") for times in (found.queued, found.executed))
    rows["processor time an inference"] = (found.cpu_milliseconds, "ms")
    rows["throughput"] = (found.throughput, "frames/s")
    if found.unserved:
        rows["requests not served in time"] = (float(len(found.unserved)), "")
    cells = "".join(
        f'<tr><th>{name}</th><td class="number" id="{name.replace(" ", "-")}" data-value="{value!r}">'
        f"{value:.4g} {unit}</td></tr>"
        for name, (value, unit) in rows.items()
    )
    return f"<table>{cells}</table>"


def _steps(rows: Sequence[Row]) -> str:
    """The steps by falling time; those that were not measured come last."""
    whole = sum(row.microseconds or 0.0 for row in rows) or 1.0
    lines = []
    for row in sorted(rows, key=lambda one: -(one.microseconds or 0.0)):
        share = (row.microseconds or 0.0) / whole
        numbers = "" if row.microseconds is None else f"{row.microseconds:.1f}", f"{share:.1%}"
        roof = "" if row.roof is None else f"{row.roof:.0%}"
        kernel = f"{row.kernel} (fallback)" if row.fallback else row.kernel
        cells = "".join(f'<td class="number">{cell}</td>' for cell in (*numbers, roof))
        bar = f'<td><div class="share" style="width: {share * 100:.1f}px"></div></td>'
        names = "".join(f"<td>{_text(cell)}</td>" for cell in (row.op_type, kernel, " + ".join(row.nodes)))
        lines.append(f"<tr>{cells}{bar}{names}</tr>")
    numbers = "".join(f'<th class="number">{name}</th>' for name in ("us", "share", "of roof"))
    head = f"<tr>{numbers}<th></th><th>operator</th><th>kernel</th><th>nodes</th></tr>"
    return f'<div class="wide"><table id="steps">{head}{"".join(lines)}</table></div>'


def _text(text: str) -> str:
    """Text that may hold names from a model."""
    return escape(printable(escaped(text), 400))
