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

Add = Callable[..., Any]
"""`add_argument` of a parser."""


def add_model_options(add: Add) -> None:
    """Adds -m, the model."""
    add("-m", "--path_to_model", default=DEFAULT_MODEL, metavar="MODEL",
        help="an ONNX file, or light:NAME for a model that the onnx package ships, with seeded random weights "
        f"(default: {DEFAULT_MODEL})")  # fmt: skip


def add_stream_options(add: Add, default_hint: str) -> None:
    """Adds the hint and the options that override it; `default_hint` describes the choice without -hint."""
    add("-hint", "--perf_hint", choices=HINTS, default=None,
        help=f"what to optimise for; none: the device's default (default: {default_hint})")
    add("-nireq", "--number_infer_requests", type=positive, default=None, metavar="N",
        help="number of infer requests in flight (default: the device's optimum)")
    add("-nstreams", "--number_streams", default=None, metavar="N", help="number of streams: N or DEVICE:N")
    add("-nthreads", "--number_threads", type=non_negative, default=None, metavar="N",
        help="number of threads of all streams together; 0 takes all cores")
    add("-pin", "--infer_threads_pinning", type=boolean, default=None, metavar="YES|NO", help="pin threads to cores")


def add_shape_options(add: Add) -> None:
    """Adds -shape and -b."""
    add("-shape", "--shape", default="", metavar="SHAPES",
        help='input shapes: "input1[1,3,224,224],input2[1,4]", or "[1,3,224,224]" for all inputs')
    add("-b", "--batch_size", type=positive, default=None, metavar="N",
        help="first dimension of the inputs (default: the model's)")


def stream_settings(options: argparse.Namespace, device: str) -> dict[str, Any]:
    """The properties that -nstreams, -nthreads and -pin set."""
    found: dict[str, Any] = {}
    if options.number_streams is not None:
        found["NUM_STREAMS"] = parse_per_device("-nstreams", options.number_streams, device)
    if options.number_threads is not None:
        found["INFERENCE_NUM_THREADS"] = options.number_threads
    if options.infer_threads_pinning is not None:
        found["ENABLE_CPU_PINNING"] = options.infer_threads_pinning
    return found


def source_of(path: str) -> Any:
    """The argument of `Core.read_model` for -m."""
    return ov.light_model(path.removeprefix(LIGHT), SEED) if path.startswith(LIGHT) else path


def requested_shapes(options: argparse.Namespace, model: ov.Model) -> dict[str, ov.PartialShape]:
    """The shapes of -shape by input name."""
    names = [port.any_name for port in model.inputs]
    return {name: ov.PartialShape(text) for name, text in parse_shapes(options.shape, names).items()}


def batched_shapes(model: ov.Model, batch: int) -> dict[str, ov.PartialShape]:
    """New shapes, with `batch` first, of the first input and of all inputs that share its first dimension."""
    current = [port.partial_shape for port in model.inputs]
    if not current or len(current[0]) == 0:
        raise InvalidArgumentError(f"-b {batch}: the model's first input has no dimension to be the batch.")
    first = current[0][0]
    return {
        port.any_name: ov.PartialShape([batch, *list(shape)[1:]])
        for port, shape in zip(model.inputs, current)
        if len(shape) and shape[0] == first
    }
