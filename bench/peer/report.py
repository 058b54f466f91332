"""The table on the screen and the JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from cpuruntime.compiler import isa
from peer.mode import Mode
from peer.ratios import Ratio, geometric_mean

# Above this the engines do not compute the same thing, and their speeds say nothing.
LARGEST_ERROR = 1e-3
LARGEST_ANGLE = 0.1
"""The same for models of 8 bits, of 1 - cosine: one value that is rounded the other way changes many behind it."""

# Pause before each slice: spinning threads of the engine measured before need a moment to fall asleep.
SETTLE_SECONDS = 0.1

ALL_MODES = "all modes"

MICROSECONDS_BELOW = 0.1  # milliseconds


@dataclass
class EngineResult:
    """One engine on one model in one mode. `values` has one figure for each round, in the mode's unit."""

    values: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    median: float = 0.0
    error: float | None = None
    """The largest difference to the reference engine's outputs, relative to their largest magnitude.

    Of a model of 8 bits 1 - cosine of both.
    """
    largest_error: float = LARGEST_ERROR
    settings: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    flops: int = 0
    """Floating-point operations of an inference, as layers are usually counted; 0 where it is not known."""
    load_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    idle_cpu_seconds: float = 0.0
    """The most processor time it took in one pause, while the other engines were measured."""
    failure: str = ""

    @property
    def wrong(self) -> bool:
        """True when the outputs differ from the reference engine's by more than rounding."""
        return self.error is not None and not self.error <= self.largest_error


@dataclass
class Result:
    """All engines on one model in one mode; `ratios` has one for each engine but the first that worked.

    `kind` is the model's: "light", "bench", "int8" or "".
    """

    model: str
    kind: str
    mode: Mode
    engines: dict[str, EngineResult]
    ratios: dict[str, Ratio]

    @property
    def faster(self) -> str:
        """The fastest of the other engines that worked; "" if there is none."""
        return min(self.ratios, key=lambda name: self.ratios[name].median, default="")


@dataclass
class Mean:
    """Geometric means of the first engine's ratios over the models of a group: by engine, and to the faster of them.

    `mode` is "all modes" for a mean over those too.
    """

    group: str
    mode: str
    models: int
    ratios: dict[str, float]
    faster: float


class Table:
    """Aligned rows, printed as the results come in: an engine's figure and output error, then the ratios."""

    def __init__(self, models: Sequence[str], modes: Sequence[Mode], engines: Sequence[str]) -> None:
        self._engines = engines
        self._widths = [max(map(len, [*models, "mean of light models"])), max(len(mode.name) for mode in modes)]
        self._widths[1] = max(self._widths[1], len(ALL_MODES))
        self._widths += [max(len(name), 13) for name in engines] + [max(len(name) + 3, 18) for name in engines[1:]]
        self._widths += [9] if len(engines) > 2 else []

    def header(self) -> str:
        cells = ["model", "mode", *self._engines, *(f"vs {name}" for name in self._engines[1:])]
        return self._line([*cells, "vs faster"])

    def row(self, result: Result) -> str:
        figures = [figure(result, name) for name in self._engines]
        ratios = [
            f"{found.median:.3f} ({found.low:.2f}..{found.high:.2f})" if found else "-"
            for found in map(result.ratios.get, self._engines[1:])
        ]
        faster = f"{result.ratios[result.faster].median:.3f}" if result.faster else "-"
        return self._line([result.model, result.mode.name, *figures, *ratios, faster])

    def means(self, results: Sequence[Result]) -> list[str]:
        """A row for each group of models and mode with the geometric means of the ratios."""
        rows = []
        for mean in geometric_means(results):
            cells = [f"{mean.ratios[name]:.3f}" if name in mean.ratios else "-" for name in self._engines[1:]]
            title = f"mean of {mean.group}"
            rows.append(self._line([title, mean.mode, *("" for _ in self._engines), *cells, f"{mean.faster:.3f}"]))
        return rows

    def _line(self, cells: Sequence[str]) -> str:
        """The cells in their columns; the ratio to the faster peer is left out where there is one only."""
        left = [cell.ljust(width) for cell, width in zip(cells[:2], self._widths[:2])]
        right = [cell.rjust(width) for cell, width in zip(cells[2:], self._widths[2:])]
        return "  ".join([*left, *right]).rstrip()


def figure(result: Result, name: str) -> str:
    """What was measured of an engine, with its unit."""
    engine = result.engines[name]
    if engine.failure:
        return "failed"
    if result.mode.is_latency and engine.median < MICROSECONDS_BELOW:
        return f"{1000 * engine.median:.2f} us"
    digits = 0 if engine.median >= 1000 else 2 if engine.median >= 1 else 3
    return f"{engine.median:,.{digits}f} {result.mode.unit}"


def geometric_means(results: Sequence[Result]) -> list[Mean]:
    """The means over the light models, if there are others too, and over all; in each mode, and in all if several."""
    compared = [result for result in results if result.ratios]
    light = [result for result in compared if result.kind == "light"]
    groups = {"light models": light} if 0 < len(light) < len(compared) else {}
    means = []
    for group, members in {**groups, "all models": compared}.items():
        modes = list(dict.fromkeys(result.mode.name for result in members))
        for mode in [*modes, ALL_MODES] if len(modes) > 1 else modes:
            means.append(_mean(group, mode, [r for r in members if mode in (r.mode.name, ALL_MODES)]))
    return means


def _mean(group: str, mode: str, results: Sequence[Result]) -> Mean:
    ratios: dict[str, list[float]] = {}
    for result in results:
        for name, found in result.ratios.items():
            ratios.setdefault(name, []).append(found.median)
    faster = geometric_mean(result.ratios[result.faster].median for result in results)
    by_engine = {name: geometric_mean(values) for name, values in ratios.items()}
    return Mean(group, mode, len({result.model for result in results}), by_engine, faster)


def remarks(result: Result) -> list[str]:
    """What a reader must know before trusting the row: failures, wrong outputs, engines that did not idle."""
    lines = []
    for name, engine in result.engines.items():
        where = f"{result.model} {result.mode.name}: {name}"
        if engine.failure:
            lines.append(f"{where} failed: {engine.failure}")
        if engine.wrong:
            lines.append(f"{where} gives other outputs: relative error {engine.error:.1e}")
        if engine.idle_cpu_seconds > SETTLE_SECONDS * len(os.sched_getaffinity(0)):
            lines.append(f"{where} used {engine.idle_cpu_seconds:.2f} s of processor time in the others' turn")
    return lines


def facts(results: Sequence[Result]) -> list[str]:
    """Settings, load time, peak memory and output error of each engine, one line each."""
    lines = []
    for result in results:
        for name, engine in result.engines.items():
            if engine.failure:
                continue
            settings = ", ".join(f"{key} {value}" for key, value in engine.settings.items())
            error = "reference" if engine.error is None else f"error {engine.error:.1e}"
            lines.append(
                f"{result.model} {result.mode.name} {name}: {settings}; load {engine.load_seconds:.2f} s, "
                f"peak memory {engine.peak_memory_mb:.0f} MB, {error}"
            )
    return lines


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, versions, time."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    versions: dict[str, str | None] = {}
    for package in ("cpuruntime", "openvino", "onnxruntime", "numba", "llvmlite", "numpy", "onnx"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": model,
        "isa": isa.current().name,
        "allowed_cores": sorted(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def write_json(path: Path, settings: dict[str, Any], facts: dict[str, Any], results: Sequence[Result]) -> None:
    """Everything that was measured, slice by slice."""
    document = {
        "machine": facts,
        "settings": settings,
        "results": [_plain(result) for result in results],
        "geometric_means": [asdict(mean) for mean in geometric_means(results)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _plain(result: Result) -> dict[str, Any]:
    return asdict(result) | {"mode": result.mode.name, "unit": result.mode.unit, "faster": result.faster}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
