"""What `cpuruntime benchmark` prints, laid out as OpenVINO's benchmark_app prints it, and the progress bar."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import cpuruntime as ov
from cpuruntime.cli.benchmark.measure import PERCENTILES, Figures, Limits, Measurement
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
            self.info(f"    {name} (node: {name}) : {kind} / {port.node.layout} / {port.partial_shape}")

    def results(self, found: Measurement, percent: float, groups: Sequence[str] = ()) -> None:
        """The closing figures, in microseconds when the average is below a millisecond; of each of `groups`, too."""
        self.info(f"Count:            {found.iterations} iterations")
        self.info(f"Duration:         {found.seconds * 1000:.2f} ms")
        if not found.iterations:
            return
        figures = found.figures()
        unit, scale = ("us", 1000.0) if figures.average < 1.0 else ("ms", 1.0)
        self._latencies("Latency:", figures, percent, unit, scale)
        values = " / ".join(f"{figures.percentile(one) * scale:.2f}" for one in PERCENTILES)
        self.info(f"   {' / '.join(f'p{one:g}' for one in PERCENTILES)}: {values} {unit}")
        queued, executed = (sum(times) / len(times) * scale for times in (found.queued, found.executed))
        self.info(f"   Queued:        {queued:.2f} {unit} on average")
        self.info(f"   Executed:      {executed:.2f} {unit} on average")
        if len(groups) > 1:
            self.info("Latency for each data shape group:")
        for index, group in enumerate(groups if len(groups) > 1 else ()):
            if index in found.groups:
                self._latencies(f"{index + 1}. {printable(group, 200)}", found.figures(index), percent, unit, scale)
        self.info(f"CPU time:         {found.cpu_milliseconds * scale:.2f} {unit} an inference")
        if found.unserved:
            self.warning(
                f"{len(found.unserved)} requests of the load were not served in time; the latencies have the time that "
                "they had waited until then."
            )
        self.info(f"Throughput:   {found.throughput:.2f} FPS")

    def _latencies(self, title: str, figures: Figures, percent: float, unit: str, scale: float) -> None:
        name = "Median:        " if percent == 50 else f"{percent:g} percentile:     "
        self.info(title)
        self.info(f"   {name}{figures.percentile(percent) * scale:.2f} {unit}")
        self.info(f"   Average:       {figures.average * scale:.2f} {unit}")
        self.info(f"   Min:           {figures.least * scale:.2f} {unit}")
        self.info(f"   Max:           {figures.most * scale:.2f} {unit}")

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
            room = shutil.get_terminal_size().columns - 1
            width = min(self.WIDTH, room - len(state) - 4)
            filled = int(share * width)
            bar = f"[{'#' * filled}{'.' * (width - filled)}] {state} " if width > 4 else state
            self._report.stream.write(f"\r{bar[:room]}")
            self._report.stream.flush()
        elif int(share * 5) > self._fifths:
            self._fifths = int(share * 5)
            self._report.info(f"Progress: {state}")

    def close(self) -> None:
        """Wipes the bar."""
        if self._terminal:
            self._report.stream.write("\r\x1b[K")
            self._report.stream.flush()


def fallback_summary(explanation: ov.Explanation) -> str:
    """How many steps have no kernel, by operator; empty when all have one."""
    operators = Counter(row.op_type for row in explanation.fallbacks)
    if not operators:
        return ""
    names = ", ".join(f"{count} {operator}" for operator, count in operators.most_common())
    return f"{operators.total()} of {len(explanation.rows)} steps have no kernel and run slowly: {names}"


def peak_memory_kilobytes() -> int:
    """The most memory this process has had resident so far. (getrusage's figure begins with the parent process's.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])


def stopwatch() -> float:
    """Milliseconds of a steady clock."""
    return time.perf_counter() * 1000
