"""The tables on the screen; the same rows go to the JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpuruntime.program.report.roofs import FmaPeak, ReadRoof
from kernel.describe import describe
from kernel.measure import Timing
from kernel.work import COMPUTE, Flops, flops, moved_bytes

Row = dict[str, Any]
GOAL = 0.9
NOISY = 0.03  # of the peak: a wider spread means other load on the machine


@dataclass(frozen=True)
class Column:
    """A column of a table: the row's key, its heading and how it is written; text is aligned to the left."""

    key: str
    heading: str
    form: str = "s"

    def cell(self, row: Row) -> str:
        value = row.get(self.key)
        return "" if value is None else format(value, self.form)


def table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Aligned lines."""
    cells = [[c.heading for c in columns], *([c.cell(row) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = []
    for line in cells:
        aligned = (t.ljust(w) if c.form == "s" else t.rjust(w) for t, w, c in zip(line, widths, columns))
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


COMPUTE_COLUMNS = (
    Column("layer", "layer"),
    Column("count", "n", "d"),
    Column("tile", "tile"),
    Column("microseconds", "us", ".1f"),
    Column("gflops", "GFLOP/s", ".1f"),
    Column("best", "best", ".1f"),
    Column("in_program", "in model", ".1f"),
    Column("nominal", "of peak", ".1%"),
    Column("useful", "useful", ".1%"),
    Column("executed", "executed", ".1%"),
    Column("best_nominal", "best of best", ".1%"),
)
MEMORY_COLUMNS = (
    Column("layer", "step"),
    Column("kernel", "kernel"),
    Column("count", "n", "d"),
    Column("kilobytes", "KB", ".0f"),
    Column("microseconds", "us", ".1f"),
    Column("bandwidth", "GB/s", ".1f"),
    Column("best", "best", ".1f"),
    Column("in_program", "in model", ".1f"),
    Column("roof", "roof", ".1f"),
    Column("share", "of roof", ".0%"),
)


def compute_row(timing: Timing, peak: FmaPeak) -> Row:
    """One kind of convolution or product."""
    work = flops(timing.step)
    return {
        "layer": describe(timing.step),
        "kernel": timing.step.kernel.name,
        "count": timing.count,
        "tile": timing.step.notes.replace("tile ", "").replace(", chunk ", " by "),
        "microseconds": timing.median * 1e6,
        "gflops": work.nominal / timing.median / 1e9,
        "best": work.nominal / timing.best / 1e9,
        "in_program": work.nominal / timing.within / 1e9,
        "nominal": timing.share(work.nominal),
        "useful": timing.share(work.useful),
        "executed": timing.share(work.executed),
        "best_nominal": work.nominal / timing.best / max(peak.measured),
        "in_program_microseconds": timing.within * 1e6,
    }


def total_row(timings: Sequence[Timing], name: str) -> Row:
    """All steps of all kinds together: their flops over their time."""
    works = [flops(timing.step) for timing in timings]
    time = sum(timing.median * timing.count for timing in timings)
    within = sum(timing.within * timing.count for timing in timings)
    best = sum(timing.best * timing.count for timing in timings)
    peak = statistics.median(p for timing in timings for p in timing.peaks)

    def total(kind: str) -> int:
        return sum(getattr(work, kind) * timing.count for work, timing in zip(works, timings))

    shares = {kind: total(kind) / time / peak for kind in Flops.__dataclass_fields__}
    return {
        "layer": name,
        "count": sum(timing.count for timing in timings),
        "microseconds": time * 1e6,
        "gflops": total("nominal") / time / 1e9,
        "best": total("nominal") / best / 1e9,
        "in_program": total("nominal") / within / 1e9,
        "in_program_microseconds": within * 1e6,
        **shares,
    }


def memory_row(timing: Timing, roof: ReadRoof) -> Row:
    """One kind of step whose time is that of its memory."""
    size = moved_bytes(timing.step)
    limit = roof.measure(size)
    return {
        "layer": describe(timing.step),
        "kernel": timing.step.kernel.name,
        "count": timing.count,
        "kilobytes": size / 1e3,
        "microseconds": timing.median * 1e6,
        "bandwidth": size / timing.median / 1e9,
        "best": size / timing.best / 1e9,
        "in_program": size / timing.within / 1e9,
        "roof": limit / 1e9,
        "share": size / timing.median / limit,
    }


def case_row(timing: Timing) -> Row:
    """One kind of step of a test case: both its memory and, where it has such work, its arithmetic."""
    step, size = timing.step, moved_bytes(timing.step)
    return {
        "layer": describe(step),
        "kernel": step.kernel.name,
        "count": timing.count,
        "kilobytes": size / 1e3,
        "microseconds": timing.median * 1e6,
        "bandwidth": size / timing.median / 1e9,
        "gflops": flops(step).nominal / timing.median / 1e9 if step.kernel.family in COMPUTE else None,
    }


def peak_lines(peak: FmaPeak) -> list[str]:
    """The peak with its spread over the whole measurement, and a warning when that is wide."""
    values = [value / 1e9 for value in peak.measured]
    low, *_, high = statistics.quantiles(values, n=20)
    middle = statistics.median(values)
    lines = [
        f"FMA peak {middle:.1f} GFLOP/s (median of {len(values)}; first {values[0]:.1f}, last {values[-1]:.1f}, "
        f"5..95 % {low:.1f}..{high:.1f}, best {max(values):.1f})"
    ]
    if high - low > NOISY * middle:
        lines.append("The peak was not steady: something else ran on this machine; repeat it on a quiet one.")
    return lines


def goal_line(rows: Sequence[Row]) -> str:
    """How many kinds of layers reach the goal."""
    reached, best = (sum(row[key] >= GOAL for row in rows) for key in ("nominal", "best_nominal"))
    missed = [row["layer"] for row in rows if row["nominal"] < GOAL]
    text = f"{reached} of {len(rows)} kinds of layers at {GOAL:.0%} of peak or more, {best} in their best call"
    return text + (f"; below: {'; '.join(missed)}" if missed else "")
