"""The options that commands about a model share: which model, in which shapes, for which streams."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import cpuruntime as ov
from cpuruntime.cli.inputs import SEED
from cpuruntime.cli.parser import boolean, non_negative, parse_per_device, parse_shapes, positive
from cpuruntime.errors import InvalidArgumentError

DEFAULT_MODEL = "light:resnet50"
LIGHT = "light:"

HINTS = {
    "throughput": "THROUGHPUT",
    "tput": "THROUGHPUT",
    "cumulative_throughput": "CUMULATIVE_THROUGHPUT",
    "ctput": "CUMULATIVE_THROUGHPUT",
    "latency": "LATENCY",
    "none": None,
}
# The properties that options set as they are.
SETTINGS = {
    "number_streams": "NUM_STREAMS",
    "number_threads": "INFERENCE_NUM_THREADS",
    "infer_threads_pinning": "ENABLE_CPU_PINNING",
    "scheduling_core_type": "SCHEDULING_CORE_TYPE",
    "enable_hyper_threading": "ENABLE_HYPER_THREADING",
    "enable_cpu_reservation": "ENABLE_CPU_RESERVATION",
}


def add_model_options(add: Callable[..., Any], default_hint: str) -> None:
    """Adds the options of model, hint, streams and shapes; `default_hint` describes the choice without -hint."""
    add("-m", "--path_to_model", default=DEFAULT_MODEL, metavar="MODEL",
        help="an ONNX file, or light:NAME for a model that the onnx package ships, with seeded random weights "
        f"(default: {DEFAULT_MODEL})")  # fmt: skip
    add("-hint", "--perf_hint", choices=HINTS,
        help=f"what to optimise for; none: the device's default (default: {default_hint})")
    add("-nireq", "--number_infer_requests", type=positive, metavar="N",
        help="number of infer requests in flight (default: the device's optimum)")
    add("-nstreams", "--number_streams", metavar="N", help="number of streams: N or DEVICE:N")
    add("-nthreads", "--number_threads", type=non_negative, metavar="N",
        help="number of threads of all streams together; 0 takes all cores")
    add("-pin", "--infer_threads_pinning", type=boolean, metavar="YES|NO", help="pin threads to cores")
    add("-shape", "--shape", default="", metavar="SHAPES",
        help='input shapes: "input1[1,3,224,224],input2[1,4]", or "[1,3,224,224]" for all inputs')
    add("-b", "--batch_size", type=batch, metavar="N",
        help="batch size of the inputs: N, 1..8, or ? for any; 0 is the model's (default: 0)")


def batch(text: str) -> ov.Dimension | None:
    """The batch of -b: a number, a range, or any; None for 0, the model's own."""
    try:
        dimension = ov.Dimension(text)
    except InvalidArgumentError:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number, a range as 1..8, or ?") from None
    return None if dimension == 0 else dimension


def hint_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The properties that -hint and -nireq set."""
    requests = options.number_infer_requests
    found = {"PERFORMANCE_HINT": HINTS.get(options.perf_hint), "PERFORMANCE_HINT_NUM_REQUESTS": requests}
    return {name: value for name, value in found.items() if value is not None}


def stream_settings(options: argparse.Namespace, device: str) -> dict[str, Any]:
    """The properties that the options of streams and cores set."""
    values = ((name, getattr(options, option, None)) for option, name in SETTINGS.items())
    found = {name: value for name, value in values if value is not None}
    if "NUM_STREAMS" in found:
        found["NUM_STREAMS"] = parse_per_device("-nstreams", found["NUM_STREAMS"], device)
    return found


def source_of(path: str) -> Any:
    """The argument of `Core.read_model` for -m."""
    return ov.light_model(path.removeprefix(LIGHT), SEED) if path.startswith(LIGHT) else path


def reshape(options: argparse.Namespace, model: ov.Model) -> dict[str, str]:
    """Gives the model the shapes of -shape, which are returned by input name, and the batch of -b."""
    shapes = parse_shapes(options.shape, [port.any_name for port in model.inputs])
    if shapes:
        model.reshape(shapes)
    if options.batch_size is not None:
        model.reshape(batched_shapes(model, options.batch_size))
    return shapes


def batched_shapes(model: ov.Model, batch: ov.Dimension | int) -> dict[str, ov.PartialShape]:
    """New shapes, with `batch` in the dimension that an input's layout calls N.

    Of inputs without a layout it is the first dimension, if that is as long as the batch of the others; where no layout
    names a batch, as the first dimension of the first input.
    """
    axes = {port.any_name: port.batch_axis for port in model.inputs if port.node.layout.has_name("N")}
    first = next((port for port in model.inputs if port.any_name in axes or not axes), None)
    if first is None or not len(first.partial_shape):
        raise InvalidArgumentError(f"-b {batch}: the model's first input has no dimension to be the batch.")
    now = first.partial_shape[axes.get(first.any_name, 0)]
    shapes = {}
    for port in model.inputs:
        extents, is_free = list(port.partial_shape), port.node.layout.empty
        if port.any_name in axes or (is_free and extents and extents[0] == now):
            extents[axes.get(port.any_name, 0)] = ov.Dimension(batch)
            shapes[port.any_name] = ov.PartialShape(extents)
    return shapes
