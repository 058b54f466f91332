"""What a device says of a compiled model: its steps, its decisions, and the times of an inference."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from cpuruntime.errors import escaped, printable
from cpuruntime.records import record


@dataclass(slots=True)
class ProfilingInfo:
    """The times of one step of the last inference, under OpenVINO's names: `cpu_time` computing, `real_time` in all.

    It is the caller's, who may add up times in it.
    """

    class Status(enum.Enum):
        """Whether the step ran."""

        NOT_RUN = 0
        OPTIMIZED_OUT = 1
        EXECUTED = 2

    NOT_RUN: ClassVar[Status] = Status.NOT_RUN
    OPTIMIZED_OUT: ClassVar[Status] = Status.OPTIMIZED_OUT
    EXECUTED: ClassVar[Status] = Status.EXECUTED

    status: Status
    real_time: timedelta
    cpu_time: timedelta
    node_name: str
    node_type: str
    exec_type: str


@record
class Row:
    """One step of a compiled model: the model's nodes it does the work of, and how it does it.

    Attributes:
        precision: the element type that the step reads, of several the first input's.
        scaling: how many times as fast as on one thread the step is, with what it loses to what, where it loses much.
        compared: what the device chose between, the chosen one first, with what each took or is thought to take.
        microseconds: of the step, where it was measured.
        gflops: 10^9 operations a second, as layers are usually counted, padding included.
        gigabytes: 10^9 bytes of tensors and packed weights a second, each byte counted once.
        roof: the share of the least time that the processor's multiply-adds or its memory allow, whichever binds.
    """

    nodes: tuple[str, ...]
    op_type: str
    kernel: str
    layout: str = ""
    notes: str = ""
    fallback: bool = False
    compared: str = ""
    microseconds: float | None = None
    gflops: float | None = None
    gigabytes: float | None = None
    roof: float | None = None
    precision: str = ""
    scaling: str = ""

    def cells(self) -> tuple[str, ...]:
        """The cells of a table, as in HEADINGS."""
        kernel = f"{self.kernel} (fallback)" if self.fallback else self.kernel
        figures = ((self.microseconds, ".1f"), (self.gflops, ".1f"), (self.gigabytes, ".1f"), (self.roof, ".0%"))
        numbers = ("" if value is None else format(value, form) for value, form in figures)
        nodes = " + ".join(map(printable, self.nodes))
        how = printable(self.op_type), kernel, self.layout, self.precision
        return *how, *numbers, self.scaling, nodes, escaped(self.notes), self.compared


HEADINGS = (
    "op", "kernel", "layout", "type", "us", "GFLOP/s", "GB/s", "of roof", "scales", "nodes", "notes", "chosen between",
)  # fmt: skip


@record
class Explanation:
    """How a device runs a model: the steps in their order, and a sentence for each decision. `print` it."""

    device: str
    rows: Sequence[Row] = ()
    decisions: Sequence[str] = field(default=())

    @property
    def fallbacks(self) -> list[Row]:
        """The steps that run without a kernel of the device's own."""
        return [row for row in self.rows if row.fallback]

    def __str__(self) -> str:
        lines = [f"{self.device}: {len(self.rows)} steps, {len(self.fallbacks)} of them fallbacks"]
        lines += map(escaped, self.decisions)
        columns = [column for column in zip(HEADINGS, *(row.cells() for row in self.rows)) if any(column[1:])]
        widths = [max(map(len, column)) for column in columns]
        lines += ["  ".join(c.ljust(width) for c, width in zip(line, widths)).rstrip() for line in zip(*columns)]
        return "\n".join(lines)
