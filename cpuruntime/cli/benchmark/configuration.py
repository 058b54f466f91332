"""The properties that a benchmark compiles with: from options and from files of -load_config."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cpuruntime as ov
from cpuruntime.cli.benchmark.report import Report
from cpuruntime.cli.model_options import hint_settings, stream_settings
from cpuruntime.cli.parser import parse_per_device
from cpuruntime.errors import InvalidArgumentError

Config = dict[str, Any]


def load_config(path: Path, device: str) -> Config:
    """The properties of a device in a JSON file that holds them by device: {"CPU": {"NUM_STREAMS": "2"}}.

    Those of "CPU" hold for "CPU.0" and "CPU(4)", too. Raises InvalidArgumentError for a file of another form.
    """
    try:
        held = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgumentError(f"-load_config {path} cannot be read: {error}") from None
    if not isinstance(held, dict) or not all(isinstance(values, dict) for values in held.values()):
        raise InvalidArgumentError(f'-load_config {path}: it must hold properties by device, as {{"CPU": {{...}}}}.')
    kind = device.partition(":")[0].partition(".")[0].partition("(")[0]
    found = held.get(device, held.get(kind, {}))
    return {name: {"YES": True, "NO": False}.get(value, value) if isinstance(value, str) else value
            for name, value in found.items()}  # fmt: skip


def dump_config(path: Path, device: str, config: Mapping[str, Any]) -> None:
    """Writes the properties of a device to a JSON file that `load_config` reads. Raises OSError."""
    texts = {name: ("NO", "YES")[value] if isinstance(value, bool) else str(value) for name, value in config.items()}
    path.write_text(json.dumps({device: texts}, indent=4) + "\n")


def configured(report: Report, core: ov.Core, options: argparse.Namespace, api: str) -> Config:
    """The properties to compile with; those of options win over those of -load_config."""
    device = options.target_device
    loaded = {} if options.load_config is None else load_config(options.load_config, device)
    config = {**loaded, **hint_settings(options), **_counters(report, options, loaded)}
    if "PERFORMANCE_HINT" not in core.get_property(device, "SUPPORTED_PROPERTIES"):
        config.pop("PERFORMANCE_HINT", None)
        report.warning(f"Device {device} does not support performance hint property(-hint).")
    elif options.perf_hint is None and "PERFORMANCE_HINT" not in loaded:
        config["PERFORMANCE_HINT"] = "LATENCY" if api == "sync" else "THROUGHPUT"
        report.warning(
            "Performance hint was not explicitly specified in command line or config file. "
            f"Device({device}) performance hint will be set to {config['PERFORMANCE_HINT']}."
        )
    explicit = stream_settings(options, device)
    if explicit and "PERFORMANCE_HINT" in config:
        names = ", ".join(explicit)
        report.info(f"{names} given explicitly; the hint {config['PERFORMANCE_HINT']} decides the rest.")
    if options.infer_precision is not None:
        explicit["INFERENCE_PRECISION_HINT"] = parse_per_device("-infer_precision", options.infer_precision, device)
    return {**config, **explicit}


def _counters(report: Report, options: argparse.Namespace, loaded: Mapping[str, Any]) -> Config:
    """PERF_COUNT where an option needs the times of nodes."""
    if options.perf_counts:
        return {"PERF_COUNT": True}
    reasons = {
        "report type": options.report_type if options.report_type != "no_counters" else None,
        "pcsort": options.perf_counts_sort,
        "path of the execution graph": options.exec_graph_path,
    }
    for name, value in reasons.items():
        if value is not None:
            report.warning(f"Performance counters are turned on, since the {name} is {value}.")
            return {"PERF_COUNT": True}
    if loaded.get("PERF_COUNT") is True:
        report.warning("Performance counters are turned on. To print results use -pc.")
    return {}
