"""The report files of `cpuruntime benchmark`, named and laid out as OpenVINO's benchmark_app writes them."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

import cpuruntime as ov
from cpuruntime.cli.benchmark.measure import PERCENTILES, Measurement
from cpuruntime.cli.benchmark.profiles import TIMES, mean_profile
from cpuruntime.errors import InvalidArgumentError, escaped, printable

KINDS = ("no_counters", "average_counters", "detailed_counters")
MOST_SAMPLES = 100_000
_TITLES = {
    "cmd_options": "Command line parameters",
    "configuration_setup": "Configuration setup",
    "execution_results": "Execution results",
}
_HEADINGS = ("layerName", "execStatus", "layerType", "execType", "realTime (ms)", "cpuTime (ms)")


class Statistics:
    """What a benchmark found, section by section, until it is written; without a `kind` nothing is.

    Args:
        kind: one of KINDS, or None.
        folder: where the files go.
        as_json: JSON rather than CSV.
        say: prints a line.
    """

    def __init__(self, kind: str | None, folder: Path, as_json: bool, say: Callable[[str], None]) -> None:
        if kind is not None and not folder.is_dir():
            raise InvalidArgumentError(f"-report_folder '{folder}': there is no such folder.")
        self._kind, self._folder, self._as_json, self._say = kind, folder, as_json, say
        self.sections: dict[str, dict[str, Any]] = {name: {} for name in _TITLES}
        self._samples: dict[str, Any] = {}

    @property
    def has_counters(self) -> bool:
        """Whether the times of nodes are wanted."""
        return self._kind in KINDS[1:]

    def options(self, arguments: Sequence[str]) -> None:
        """Note the command line."""
        name = ""
        for argument in arguments:
            if argument.startswith("-") and not argument[1:2].isdigit():
                name, separator, value = argument.partition("=")
                self.sections["cmd_options"][name] = value if separator else ""
            elif name:
                before = self.sections["cmd_options"][name]
                self.sections["cmd_options"][name] = f"{before} {argument}".strip()

    def setup(self, values: Mapping[str, Any]) -> None:
        """Note settings; booleans stay what they are."""
        found = {name: value if isinstance(value, bool) else str(value) for name, value in values.items()}
        self.sections["configuration_setup"].update(found)

    def results(self, values: Mapping[str, Any]) -> None:
        """Note results; numbers are written with four decimals."""
        found = {name: f"{value:.4f}" if isinstance(value, float) else str(value) for name, value in values.items()}
        self.sections["execution_results"].update(found)

    def measured(self, measurement: Measurement, percent: float, groups: Sequence[str]) -> None:
        """Note what a loop measured, be it the whole or what there was before an error."""
        self.results({"total execution time (ms)": measurement.seconds * 1000})
        self.results({"total number of iterations": measurement.iterations})
        if not measurement.iterations:
            return
        figures = measurement.figures()
        name = "latency (ms)" if percent == 50 else f"latency ({percent:g} percentile) (ms)"
        self.results({name: figures.percentile(percent), "avg latency": figures.average})
        self.results({"min latency": figures.least, "max latency": figures.most})
        self.results({f"p{one:g} latency (ms)": figures.percentile(one) for one in PERCENTILES})
        self.results({"queued (ms)": float(np.mean(measurement.queued))})
        self.results({"executed (ms)": float(np.mean(measurement.executed))})
        self.results({"processor time of an inference (ms)": measurement.cpu_milliseconds})
        self.results({"requests not served in time": len(measurement.unserved)} if measurement.unserved else {})
        for index, group in enumerate(groups if len(groups) > 1 else ()):
            if index in measurement.groups:
                of_group = measurement.figures(index)
                self.results({f"group {index + 1}": group, f"group {index + 1} avg latency": of_group.average})
                self.results({f"group {index + 1} min latency": of_group.least})
                self.results({f"group {index + 1} max latency": of_group.most})
        self.results({"throughput": measurement.throughput})
        every = -(-measurement.iterations // MOST_SAMPLES)
        self._samples = {"every": every, "latencies (ms)": [round(one, 6) for one in measurement.latencies[::every]]}

    def begin(self) -> None:
        """Write the report before the measuring, for the case that the process is killed. Raises OSError."""
        self.results({"error": "the process ended while it measured"})
        self.write(is_final=False)
        del self.sections["execution_results"]["error"]

    def write(self, is_final: bool = True) -> None:
        """Write the report of settings and results. Raises OSError."""
        if self._kind is None:
            return
        if self._as_json:
            machine = {"version": ov.get_version(), "machine": platform.machine(), "python": platform.python_version()}
            text = json.dumps({**self.sections, "machine": machine, "samples": self._samples})
            self._write("benchmark_report", text, is_final)
            return
        lines: list[Sequence[str]] = []
        for name, values in self.sections.items():
            if values:
                lines += [[_TITLES[name]], *((key, escaped(str(value))) for key, value in values.items()), []]
        self._write("benchmark_report", _csv(lines), is_final)

    def write_counters(self, profiles: Sequence[Sequence[ov.ProfilingInfo]]) -> None:
        """Write the times of nodes: of each request, or their mean. Raises OSError."""
        if not self.has_counters:
            return
        is_mean = self._kind == "average_counters"
        tables = [mean_profile(profiles)] if is_mean else list(profiles)
        name = f"benchmark_{self._kind}_report"
        if self._as_json:
            found = [_as_dict(table) for table in tables]
            content = {"avg_performance": found[0]} if is_mean else {"detailed_performance": found}
            kind = "average" if is_mean else "detailed"
            self._write(name, json.dumps({"report_type": kind, **content}, indent=4))
        else:
            self._write(name, "".join(_as_lines(table) for table in tables))

    def write_sorted(self, rows: Sequence[ov.ProfilingInfo]) -> None:
        """Write the mean times of nodes in the order of -pcsort, with their parts of the whole. Raises OSError."""
        if self._kind is None:
            return
        if self._as_json:
            content = {"report_type": "sorted", "avg_performance": _as_dict(rows, with_share=True)}
            self._write("benchmark_sorted_report", json.dumps(content, indent=4))
        else:
            self._write("benchmark_sorted_report", _as_lines(rows, with_share=True))

    def _write(self, name: str, text: str, is_final: bool = True) -> None:
        path = self._folder / f"{name}.{'json' if self._as_json else 'csv'}"
        path.write_text(text)
        if is_final:
            self._say(f"Statistics report is stored to {path}")


def _milliseconds(time: timedelta) -> str:
    return f"{time / timedelta(milliseconds=1):.3f}"


def _share(one: ov.ProfilingInfo, rows: Sequence[ov.ProfilingInfo]) -> str:
    total = sum((row.real_time for row in rows), timedelta())
    return f"{one.real_time / total if total else 0:.2%}"


def _as_lines(rows: Sequence[ov.ProfilingInfo], with_share: bool = False) -> str:
    lines: list[Sequence[str]] = [(*_HEADINGS, *(["proportion (%)"] if with_share else []))]
    for one in rows:
        names = printable(one.node_name), f"Status.{one.status.name}", printable(one.node_type), one.exec_type
        share = [_share(one, rows)] if with_share else []
        lines.append((*names, _milliseconds(one.real_time), _milliseconds(one.cpu_time), *share))
    total = [sum((getattr(one, field) for one in rows), timedelta()) for field in TIMES]
    lines.append(("Total", "", "", "", *map(_milliseconds, total)))
    return _csv([*lines, []])


def _csv(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=";", lineterminator="\n").writerows(lines)
    return text.getvalue()


def _as_dict(rows: Sequence[ov.ProfilingInfo], with_share: bool = False) -> dict[str, Any]:
    nodes = [
        {
            "name": one.node_name,
            "node_type": one.node_type,
            "status": f"Status.{one.status.name}",
            "real_time": _milliseconds(one.real_time),
            "cpu_time": _milliseconds(one.cpu_time),
            "exec_type": one.exec_type,
            **({"%": _share(one, rows)} if with_share else {}),
        }
        for one in rows
    ]
    real, cpu = (sum((getattr(one, field) for one in rows), timedelta()) for field in TIMES)
    return {"nodes": nodes, "total_real_time": _milliseconds(real), "total_cpu_time": _milliseconds(cpu)}
