"""What quantising a model gave: a row for each layer and the whole, as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from cpuruntime.errors import printable


@dataclass
class Row:
    """One layer. Errors are relative to the length of the model's float32 output, of the worst output.

    Attributes:
        quantised: whether the written model computes it with 8 bits.
        ranges: how the range of each of its activations was found.
        error_alone: with this layer in 8 bits, all others in float32.
        error_cumulated: with this layer and all before it in 8 bits.
        signal_to_noise: of its own results, its inputs in float32, in decibels.
        microseconds: by precision.
        bytes_f32, bytes_int8: of weight and bias, with scales.
        saturating, pairs: how many pairs of weights can exceed 16 bits in other runtimes without VNNI, of how many.
    """

    name: str
    op_type: str
    quantised: bool
    ranges: tuple[str, ...]
    error_alone: float
    error_cumulated: float
    signal_to_noise: float
    microseconds: dict[str, float]
    bytes_f32: int
    bytes_int8: int
    saturating: int
    pairs: int


@dataclass
class Report:
    """All layers in the order of the model, and the written model as a whole on the samples held out.

    `microseconds` are those of an inference on one thread: in float32, with all layers in int8, in bf16, as written.
    """

    model: str
    processor: str
    calibration_samples: int
    held_out_samples: int
    error: float
    cosine: float
    microseconds: dict[str, float]
    bytes_f32: int
    bytes_int8: int
    equalised: tuple[str, ...]
    limit: str = ""
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def json(self) -> str:
        """Everything as JSON; an infinite number is null."""
        return json.dumps(_finite(asdict(self)), indent=1) + "\n"


HEADER = ("precision", "alone", "cumulated", "SNR dB", "f32 us", "int8 us", "bf16 us", "kB", "of kB", "saturating",
          "layer")  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a layer's row, as in HEADER."""
    errors = f"{row.error_alone:.2e}", f"{row.error_cumulated:.2e}", f"{row.signal_to_noise:.1f}"
    times = (f"{row.microseconds[precision]:.1f}" for precision in ("f32", "int8", "bf16"))
    kilobytes = (f"{(row.bytes_int8 if row.quantised else row.bytes_f32) / 1e3:.1f}", f"{row.bytes_f32 / 1e3:.1f}")
    share = f"{row.saturating / row.pairs:.2%}" if row.pairs else ""
    names = f"{row.op_type} {printable(row.name)}"
    return "int8" if row.quantised else "f32", *errors, *times, *kilobytes, share, names


def table(report: Report) -> list[str]:
    """The rows of a terminal."""
    rows = [HEADER, *map(cells, report.rows)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join([*map(str.rjust, row[:-1], widths), row[-1]]) for row in rows]


def summary(report: Report) -> list[str]:
    """What the whole model is: sentences."""
    count = sum(row.quantised for row in report.rows)
    saturating, pairs = sum(row.saturating for row in report.rows), sum(row.pairs for row in report.rows)
    whole = ", ".join(f"{name} {value:.1f}" for name, value in report.microseconds.items())
    held = f"{report.held_out_samples} held out" if report.held_out_samples else "the same, none was left to hold out"
    sentences = [
        f"{count} of {len(report.rows)} layers have 8 bits; calibrated on {report.calibration_samples} samples, errors "
        f"measured on {held}.",
        f"Relative error {report.error:.3e}, cosine {report.cosine:.6f} to the float32 model"
        + (f", within {report.limit}." if report.limit else "."),
        f"Microseconds an inference on one thread of {report.processor}: {whole}.",
        f"{report.bytes_int8 / 1e6:.2f} MB of {report.bytes_f32 / 1e6:.2f} MB.",
        f"{saturating} of {pairs} pairs of weights can exceed 16 bits in other runtimes without VNNI; here none does.",
    ]
    if report.equalised:
        sentences.append(f"Channels were scaled behind {len(report.equalised)} layers.")
    return [*sentences, *report.notes]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
