"""The report as one self-contained HTML page: errors and signal to noise by layer as plots, and all figures."""

from __future__ import annotations

from html import escape
from math import isfinite, log10

from cpuruntime.compare.page import document, scatter
from cpuruntime.errors import printable
from cpuruntime.quantize.report import HEADER, Report, Row, cells, summary

_QUANTISED, _PLAIN = "#1f5fa8", "#999"
_FLOOR = 1e-9


def page(report: Report) -> str:
    """The text of the page."""
    title = f"cpuruntime quantize: {escape(printable(report.model))}"
    parts = [f"<h1>{title}</h1>", *(f"<p>{escape(line)}</p>" for line in summary(report))]
    for heading, values in (
        ("Error of each layer alone, power of ten", [_power(row.error_alone) for row in report.rows]),
        ("Error with all layers before it, power of ten", [_power(row.error_cumulated) for row in report.rows]),
        ("Signal to noise of each layer's results, dB", [_finite(row.signal_to_noise) for row in report.rows]),
        ("Microseconds saved by 8 bits", [_saved(row) for row in report.rows]),
    ):
        parts += [f"<h2>{heading}</h2>", _plot(report.rows, values)]
    parts.append("<p>Blue dots are layers with 8 bits in the written model, in the model's order.</p>")
    head = "".join(f"<th>{name}</th>" for name in HEADER)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells(row))}</tr>" for row in report.rows)
    parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>")
    return document(title, parts)


def _plot(rows: list[Row], values: list[float]) -> str:
    colours = [_QUANTISED if row.quantised else _PLAIN for row in rows]
    labels = [f"{printable(row.name)}: {value:.4g}" for row, value in zip(rows, values)]
    return scatter(values, colours, (), labels)


def _power(error: float) -> float:
    return log10(max(_finite(error), _FLOOR))


def _finite(value: float) -> float:
    return value if isfinite(value) else 0.0


def _saved(row: Row) -> float:
    return row.microseconds["f32"] - row.microseconds["int8"]
