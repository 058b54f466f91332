"""What each layer takes on this processor, measured inside whole models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from cpuruntime.quantize.calibration import Feeds, Runner
from cpuruntime.quantize.form import Layer

_LEAST_SECONDS, _LEAST_COUNT, _MOST_COUNT = 0.5, 5, 100


@dataclass(frozen=True)
class Times:
    """Microseconds of an inference, and of each layer in it with what quantises and dequantises for it."""

    whole: float
    layers: Mapping[str, float]
    precision: str


def measure(model: onnx.ModelProto, layers: list[Layer], feeds: Feeds, precision: str = "f32") -> Times:
    """The least times of several inferences on one thread."""
    settings = {"PERF_COUNT": "YES", "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision,
                "EXECUTION_MODE_HINT": "PERFORMANCE"}  # fmt: skip
    run = Runner(model, settings)
    try:
        return _measured(run, _owners(model, layers), feeds, precision)
    finally:
        run.close()


def _measured(run: Runner, owners: Mapping[str, str], feeds: Feeds, precision: str) -> Times:
    run(feeds)
    steps = [row.nodes for row in run.compiled.explain().rows]
    least: list[float] = []
    whole = float("inf")
    begin, count = time.perf_counter(), 0
    while count < _LEAST_COUNT or (time.perf_counter() - begin < _LEAST_SECONDS and count < _MOST_COUNT):
        start = time.perf_counter()
        run(feeds)
        whole = min(whole, 1e6 * (time.perf_counter() - start))
        found = [1e6 * one.real_time.total_seconds() for one in run.request.profiling_info]
        least = [min(pair) for pair in zip(least, found)] if len(least) == len(found) else found
        count += 1
    by_layer = dict.fromkeys(owners.values(), 0.0)
    for nodes, taken in zip(steps, least):
        named = [name for name in nodes if name in by_layer] or [owners[name] for name in nodes if name in owners][:1]
        for name in named:
            by_layer[name] += taken / len(named)
    return Times(whole, by_layer, precision)


def _owners(model: onnx.ModelProto, layers: list[Layer]) -> dict[str, str]:
    """The layer that a node works for: the layers' own first, then those that quantise for them."""
    names = {layer.name: layer.name for layer in layers}
    helpers: dict[str, str] = {}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.name in names:
            for name in node.input:
                source = makers.get(name)
                while source is not None and source.op_type in ("QuantizeLinear", "DequantizeLinear"):
                    helpers.setdefault(source.name, node.name)
                    source = makers.get(source.input[0])
    return {**helpers, **names}
