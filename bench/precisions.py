"""Compares INFERENCE_PRECISION_HINT bf16 with f32, and both with OpenVINO's, on one thread: times and errors.

    python bench/precisions.py                             BERT-base and ResNet-50
    python bench/precisions.py bench:vit_tiny model.onnx   other models, named as for peers.py

The models take turns; the figure is the least processor time of an inference, so that other work on the machine shows
little. Errors are those of all outputs against cpuruntime's in f32, root mean square over root mean square. Below stand
the times of cpuruntime's steps by what they compute, the least of a few measurements, and how long an inference would
take if its products of bf16 numbers ran at the peak of the core, as products in registers do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import cpuruntime
from cpuruntime.cli.parser import Parser, positive
from cpuruntime.compiler.isa import bf16_products
from cpuruntime.program.report.roofs import FmaPeak
from peer.engines import installed
from peer.models import ModelFile, expand, prepare

PRECISIONS = ("f32", "bf16")
MEASUREMENTS = 3
PEAKS = 15


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog="precisions.py", description="Compare models in bf16 with the same in f32.")
    parser.add_argument("models", nargs="*", default=["bench:bert_base", "light:resnet50"], help="default: two models")
    parser.add_argument("--rounds", type=positive, default=15, help="times that each model is run (default: 15)")
    return parser


def compiled(path: Path) -> dict[str, Any]:
    """The compiled models by the name of the engine and the precision."""
    engines: dict[str, Any] = {"cpuruntime": cpuruntime}
    if installed("openvino"):
        import openvino

        engines["openvino"] = openvino
    found = {}
    for name, engine in engines.items():
        for precision in PRECISIONS:
            config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
            found[f"{name} {precision}"] = engine.Core().compile_model(str(path), "CPU", config)
    return found


def in_turns(requests: dict[str, Any], rounds: int) -> dict[str, float]:
    """Seconds of each request."""
    least = dict.fromkeys(requests, float("inf"))
    for _ in range(rounds):
        for name, request in requests.items():
            before = time.process_time()
            request.infer()
            least[name] = min(least[name], time.process_time() - before)
    return least


def groups(path: Path, model: Any) -> dict[str, float]:
    """Microseconds of the steps by what they compute."""
    graph = onnx.load(str(path)).graph
    shapes = {each.name: each.dims for each in graph.initializer}
    pointwise = {
        node.name for node in graph.node if node.op_type == "Conv" and all(n == 1 for n in shapes[node.input[1]][2:])
    }
    best: dict[str, float] = {}
    for _ in range(MEASUREMENTS):
        found = {"1x1 convolutions": 0.0, "other convolutions": 0.0, "products by weights": 0.0, "the rest": 0.0}
        for row in model.explain(measure=True).rows:
            name = {"Conv": "other convolutions", "FullyConnected": "products by weights"}.get(row.op_type, "the rest")
            name = "1x1 convolutions" if pointwise & {*row.nodes} else name
            found[name] += row.microseconds or 0.0
        best = {name: min(took, best.get(name, took)) for name, took in found.items()}
    return best


def at_peak(model: Any, peak: float) -> tuple[float, float]:
    """The share of the inference that is not products of bf16 numbers, and the seconds of these at `peak` a second.

    Winograd's method, which forms fewer products, is among the rest.
    """
    rest = taken = products = 0.0
    for rows in zip(*(model.explain(measure=True).rows for _ in range(MEASUREMENTS))):
        row = min(rows, key=lambda row: row.microseconds or 0.0)
        seconds = (row.microseconds or 0.0) * 1e-6
        taken += seconds
        if row.precision == "bf16" and row.gflops and row.kernel != "winograd":
            products += seconds * row.gflops * 1e9 / peak
        else:
            rest += seconds
    return rest / taken, products


def lines(file: ModelFile, rounds: int) -> Iterator[str]:
    """What is found about a model."""
    models = compiled(file.path)
    with np.load(file.inputs) as arrays:
        inputs = {name: arrays[key] for name, key in zip(file.names, arrays.files)}
    requests = {name: model.create_infer_request() for name, model in models.items()}
    outputs = {}
    for name, request in requests.items():
        request.infer(inputs)
        count = len(models[name].outputs)
        outputs[name] = [np.array(request.get_output_tensor(index).data, np.float64) for index in range(count)]
    seconds = in_turns(requests, rounds)
    first = next(iter(models))
    yield f"{file.name:<20} {'ms':>9} {'x f32':>6} {'error':>8}"
    for name, took in seconds.items():
        lost = max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(outputs[name], outputs[first]))
        yield f"{name:<20} {took * 1e3:9.2f} {seconds[f'{name.split()[0]} f32'] / took:6.2f} {lost:8.1e}"
    plain, rounded = (groups(file.path, models[f"cpuruntime {precision}"]) for precision in PRECISIONS)
    for name, took in plain.items():
        if took:
            yield f"{name:<20} {took / 1e3:9.2f} -> {rounded[name] / 1e3:.2f}: {took / rounded[name]:.2f} x f32"
    if bf16_products():
        core = FmaPeak(pairs=True)
        peak = max(core.measure() for _ in range(PEAKS))
        rest, products = at_peak(models["cpuruntime bf16"], peak)
        least = seconds["cpuruntime bf16"] * rest + products
        text = f"products at the peak {least * 1e3:8.2f}: {peak * 1e-9:.0f} GFLOP/s of bf16"
        if other := seconds.get("openvino bf16"):
            text += f", {other / least:.2f} x openvino, now {other / seconds['cpuruntime bf16']:.2f}"
        yield text


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a few lines for each model."""
    options = parser().parse_args(arguments)
    for name in expand(options.models):
        with tempfile.TemporaryDirectory(prefix="cpuruntime-precisions-") as folder:
            for line in lines(prepare(name, Path(folder)), options.rounds):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
