"""`cpuruntime plan`: the streams that compiling a model would make, and why, on this machine or on a described one."""

from __future__ import annotations

import argparse
from pathlib import Path

import cpuruntime as ov
from cpuruntime.cli.model_options import (
    HINTS,
    add_model_options,
    add_shape_options,
    add_stream_options,
    batched_shapes,
    requested_shapes,
    source_of,
    stream_settings,
)
from cpuruntime.cli.parser import Parser, boolean
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.properties.hint import SchedulingCoreType

DEVICE = "CPU"


def parser() -> argparse.ArgumentParser:
    """The command's options: those about models and streams are the benchmark's."""
    options = Parser(
        prog="cpuruntime plan",
        description="Show the streams that compiling a model would make, and why. On this machine that depends on\n"
        "which processors other models have now.",
        epilog="Properties without an option come from the environment: CPURUNTIME_LATENCY_TARGET_MS=20.",
    )
    add = options.add_argument
    add_model_options(add)
    add_stream_options(add, "the device's default, latency")
    add("-core_type", "--scheduling_core_type", choices=[str(kind) for kind in SchedulingCoreType], default=None,
        help="which cores to use where there are fast and slow ones")
    add("-ht", "--enable_hyper_threading", type=boolean, default=None, metavar="YES|NO",
        help="use several threads of a core")
    add("-reserve", "--enable_cpu_reservation", type=boolean, default=None, metavar="YES|NO",
        help="keep the cores from other models")
    add_shape_options(add)
    add("--topology", type=Path, default=None, metavar="FILE",
        help="plan for the machine described in FILE (default: this machine)")
    add("--record", type=Path, default=None, metavar="FILE",
        help="write the description of this machine, for --topology, and stop")  # fmt: skip
    return options


def run(options: argparse.Namespace) -> None:
    """Prints the plan, or writes the description. Raises cpuruntime.Error or OSError."""
    if options.record is not None:
        options.record.write_text(ov.Topology.read().to_json())
        print(f"This machine is described in {options.record}.")
        return
    topology = None if options.topology is None else described(options.topology)
    config = stream_settings(options, DEVICE)
    if HINTS.get(options.perf_hint):
        config["PERFORMANCE_HINT"] = HINTS[options.perf_hint]
    if options.number_infer_requests is not None:
        config["PERFORMANCE_HINT_NUM_REQUESTS"] = options.number_infer_requests
    for name in ("SCHEDULING_CORE_TYPE", "ENABLE_HYPER_THREADING", "ENABLE_CPU_RESERVATION"):
        if (value := getattr(options, name.lower())) is not None:
            config[name] = value
    core = ov.Core()
    model = core.read_model(source_of(options.path_to_model))
    if shapes := requested_shapes(options, model):
        model.reshape(shapes)
    if options.batch_size:
        model.reshape(batched_shapes(model, options.batch_size))
    print(core.plan_streams(model, DEVICE, config, topology))


def described(path: Path) -> ov.Topology:
    """The machine that a file describes."""
    try:
        return ov.Topology.from_json(path.read_text())
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path} is not text.") from None
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{path}: {error}") from None
