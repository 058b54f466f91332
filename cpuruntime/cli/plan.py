"""`cpuruntime plan`: the streams that compiling a model would make, and why, on this machine or on a described one."""

from __future__ import annotations

import argparse
from pathlib import Path

import cpuruntime as ov
from cpuruntime.cli.model_options import add_model_options, hint_settings, reshape, source_of, stream_settings
from cpuruntime.cli.parser import Parser, boolean, positive_seconds
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
    add_model_options(add, "the device's default, latency")
    add("-core_type", "--scheduling_core_type", choices=[kind.value for kind in SchedulingCoreType],
        help="which cores to use where there are fast and slow ones")
    add("-ht", "--enable_hyper_threading", type=boolean, metavar="YES|NO", help="use several threads of a core")
    add("-reserve", "--enable_cpu_reservation", type=boolean, metavar="YES|NO", help="keep the cores from other models")
    add("--topology", type=Path, metavar="FILE", help="plan for the machine described in FILE (default: this machine)")
    add("--scaling", action="store_true",
        help="predict latency and throughput for 1 to 96 cores, or for those of --topology, from times of the model's "
        "kernels on one core of this machine, and list what is assumed")  # fmt: skip
    add("--record", type=Path, metavar="FILE",
        help="write the description of this machine, for --topology, and stop")  # fmt: skip
    add("--cluster", type=Path, metavar="FILE",
        help="say how many nodes device RAY needs for -rate and --latency-target; FILE says what a node is: JSON with "
        "the path of its topology and, as measured, request_ms on a stream and trip_ms there and back")  # fmt: skip
    add("-rate", "--rate", type=positive_seconds, metavar="N", help="requests a second, for --cluster")
    add("--latency-target", type=positive_seconds, metavar="MS",
        help="milliseconds within which 99 %% of the requests are to be over, for --cluster")  # fmt: skip
    return options


def run(options: argparse.Namespace) -> None:
    """Prints the plan, or writes the description. Raises cpuruntime.Error or OSError."""
    if options.record is not None:
        options.record.write_text(ov.Topology.read().to_json())
        print(f"This machine is described in {options.record}.")
        return
    config = hint_settings(options) | stream_settings(options, DEVICE)
    core = ov.Core()
    model = core.read_model(source_of(options.path_to_model))
    reshape(options, model)
    if options.cluster is None:
        topology = None if options.topology is None else described(options.topology)
        print(core.plan_streams(model, DEVICE, config, topology))
        if options.scaling:
            from cpuruntime.devices.cpu.scaling import scaling_of  # not above: it loads kernels

            print(scaling_of(model.graph, topology))
        return
    from cpuruntime.cli.cluster_plan import of_file  # not above: most plans are for one machine

    config = {"PERFORMANCE_HINT": "THROUGHPUT", **config}

    def planned(path: Path) -> ov.StreamPlan:
        return core.plan_streams(model, DEVICE, config, described(path))

    print(of_file(options.cluster, options, model, planned))


def described(path: Path) -> ov.Topology:
    """The machine that a file describes."""
    try:
        return ov.Topology.from_json(path.read_text())
    except FileNotFoundError:
        raise InvalidArgumentError(f"There is no topology file {path}.") from None
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path} is not text.") from None
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{path}: {error}") from None
