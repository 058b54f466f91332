"""What `cpuruntime benchmark` prints, laid out as OpenVINO's benchmark_app prints it, and the progress bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import cpuruntime as ov
from cpuruntime.cli.measure import Limits, Measurement
from cpuruntime.errors import escaped, printable

STEPS = (
    "Parsing and validating input arguments",
    "Loading cpuruntime",
    "Setting device configuration",
    "Reading model files",
    "Resizing model to match image sizes and given batch",
    "Configuring input of the model",
    "Loading the model to the device",
    "Querying optimal runtime parameters",
    "Creating infer requests and preparing input tensors",
    "Measuring performance",
    "Dumping statistics report",
)


class Report(logging.Handler):
    """Writes steps and messages to `stream`, each line at once; a logging handler that does the same with records."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    @contextmanager
    def log_included(self) -> Iterator[Report]:
        """A context in which the log records of the package are part of this report."""
        log = logging.getLogger("cpuruntime")
        log.addHandler(self)
        try:
            yield self
        finally:
            log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one log record."""
        self._line(f"[ {record.levelname} ] {record.getMessage()}")

    def step(self, number: int, detail: str = "") -> None:
        """Announces step `number`, counted from 1."""
        suffix = f" ({detail})" if detail else ""
        self._line(f"[Step {number}/{len(STEPS)}] {STEPS[number - 1]}{suffix}")

    def info(self, text: str) -> None:
        self._line(f"[ INFO ] {text}")

    def warning(self, text: str) -> None:
        self._line(f"[ WARNING ] {text}")

    def ports(self, title: str, ports: Iterable) -> None:
        """Names, element types and shapes of a model's inputs or outputs."""
        self.info(f"{title}:")
        for port in ports:
            name, kind = printable(port.any_name), port.element_type.get_type_name()
            self.info(f"    {name} (node: {name}) : {kind} / [...] / {port.partial_shape}")

    def results(self, measurement: Measurement, *, percent: int, batch: int, devices: object) -> None:
        """The closing figures; latencies in microseconds when their average is below a millisecond."""
        unit, scale = ("us", 1000.0) if measurement.average < 1.0 else ("ms", 1.0)

        def latency(value: float) -> str:
            return f"{value * scale:.2f} {unit}"

        title = "Median:        " if percent == 50 else f"{percent} percentile:     "
        self.info(f"Execution Devices:{devices}")
        self.info(f"Count:            {measurement.iterations} iterations")
        self.info(f"Duration:         {measurement.seconds * 1000:.2f} ms")
        self.info("Latency:")
        self.info(f"   {title}{latency(measurement.percentile(percent))}")
        self.info(f"   Average:       {latency(measurement.average)}")
        self.info(f"   Min:           {latency(measurement.latencies[0])}")
        self.info(f"   Max:           {latency(measurement.latencies[-1])}")
        self.info(f"Throughput:   {measurement.throughput(batch):.2f} FPS")

    def _line(self, text: str) -> None:
        print(escaped(text), file=self.stream, flush=True)


class Progress:
    """A bar on a terminal that redraws itself; elsewhere a line for every fifth of the measuring."""

    WIDTH = 30
    REDRAW_SECONDS = 0.2

    def __init__(self, report: Report, limits: Limits) -> None:
        self._report = report
        self._limits = limits
        self._terminal = report.stream.isatty()
        self._next_redraw = 0.0
        self._fifths = 0

    def __call__(self, seconds: float, iterations: int) -> None:
        """Shows the completed part; returns in well under a microsecond when it is too early for a redraw."""
        if seconds < self._next_redraw:
            return
        self._next_redraw = seconds + self.REDRAW_SECONDS
        share = self._limits.share_done(seconds, iterations)
        state = f"{share:4.0%}, {seconds:.1f} s, {iterations} iterations"
        if self._terminal:
            filled = int(share * self.WIDTH)
            self._report.stream.write(f"\r[{'#' * filled}{'.' * (self.WIDTH - filled)}] {state} ")
            self._report.stream.flush()
        elif int(share * 5) > self._fifths:
            self._fifths = int(share * 5)
            self._report.info(f"Progress: {state}")

    def close(self) -> None:
        """Wipes the bar."""
        if self._terminal:
            self._report.stream.write("\r\x1b[K")
            self._report.stream.flush()


@dataclass(frozen=True)
class ProfileRow:
    """One executed node: its mean time over the requests in microseconds and its part of the whole."""

    node: str
    kind: str
    kernel: str
    microseconds: float
    share: float


def profile_rows(profiles: Sequence[Sequence[ov.ProfilingInfo]]) -> list[ProfileRow]:
    """The nodes that ran, by falling time, from the `profiling_info` of each request."""
    times: dict[tuple[str, str, str], list[float]] = {}
    for profile in profiles:
        for entry in profile:
            if entry.status == ov.ProfilingInfo.Status.EXECUTED:
                key = (entry.node_name, entry.node_type, entry.exec_type)
                times.setdefault(key, []).append(entry.real_time.total_seconds() * 1e6)
    means = {key: sum(values) / len(values) for key, values in times.items()}
    total = sum(means.values()) or 1.0
    ordered = sorted(means.items(), key=lambda item: -item[1])
    return [ProfileRow(*key, microseconds, microseconds / total) for key, microseconds in ordered]


def profile_table(rows: Sequence[ProfileRow]) -> list[str]:
    """`rows` as aligned lines, with a line of the total."""
    cells = [("node", "type", "kernel", "time (ms)", "share")]
    for row in rows:
        names = printable(row.node), printable(row.kind), row.kernel
        cells.append((*names, f"{row.microseconds / 1000:.3f}", f"{row.share:.2%}"))
    cells += [("Total", "", "", f"{sum(row.microseconds for row in rows) / 1000:.3f}", f"{1:.2%}")]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    aligned = [(*map(str.ljust, row[:3], widths[:3]), *map(str.rjust, row[3:], widths[3:])) for row in cells]
    return ["  ".join(row) for row in aligned]


def peak_memory_kilobytes() -> int:
    """The most memory this process has had resident so far. (getrusage's figure begins with the parent process's.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])


def stopwatch() -> float:
    """Milliseconds of a steady clock."""
    return time.perf_counter() * 1000
