"""Compares convolutions of bytes with those of float32 and with other engines, layer by layer, in products a cycle.

    python bench/byte_layers.py                     layers of ResNet-50, one thread
    python bench/byte_layers.py --rounds 100 --json F

A model has several equal layers in a row, quantised as onnxruntime.quantization does, with weights spread as trained
ones are. Engines take turns; the figure is the least processor time of an inference, so that other work on the machine
shows little. A cycle is that of a core that does 16 float32 multiply-adds in it (AVX2).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import cpuruntime as ov
from cpuruntime.cli.parser import Parser, positive
from cpuruntime.program.report.roofs import FmaPeak

# Channels, height and width, kernel.
LAYERS = ((64, 56, 3), (128, 28, 3), (256, 14, 3), (512, 7, 3), (256, 28, 1), (512, 14, 1), (1024, 7, 1))
REPEATS = 4
FLOPS_OF_CYCLE = 32


def layer_model(channels: int, size: int, kernel: int, quantised: bool) -> onnx.ModelProto:
    """REPEATS convolutions in a row, of bytes or of float32."""
    rng = np.random.default_rng(0)
    kind = TensorProto.UINT8 if quantised else TensorProto.FLOAT
    nodes, constants = [], []

    def add(name: str, array: Any, dtype: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    scale, zero = add("scale", 0.02, np.float32), add("zero", 128, np.uint8)
    value, pads = "x", [kernel // 2] * 4
    for i in range(REPEATS):
        spread = rng.laplace(size=(channels, channels, kernel, kernel))
        largest = np.abs(spread).max((1, 2, 3))
        steps = np.rint(spread / largest.reshape(-1, 1, 1, 1) * 127)
        scales = 1 / np.sqrt((steps**2).sum((1, 2, 3)))
        result = "y" if i == REPEATS - 1 else f"y{i}"
        if quantised:
            weights = [add(f"w{i}", steps, np.int8), add(f"s{i}", scales, np.float32)]
            weights.append(add(f"z{i}", np.zeros(channels), np.int8))
            nodes += [
                helper.make_node("DequantizeLinear", [value, scale, zero], [f"a{i}"]),
                helper.make_node("DequantizeLinear", weights, [f"b{i}"], axis=0),
                helper.make_node("Conv", [f"a{i}", f"b{i}"], [f"c{i}"], pads=pads),
                helper.make_node("QuantizeLinear", [f"c{i}", scale, zero], [result]),
            ]
        else:
            weights = [add(f"w{i}", steps * scales.reshape(-1, 1, 1, 1), np.float32)]
            nodes.append(helper.make_node("Conv", [value, *weights], [result], pads=pads))
        value = result
    ends = [helper.make_tensor_value_info(name, kind, [1, channels, size, size]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def engines(path: Path, plain: Path, data: np.ndarray) -> dict[str, Callable[[], Any]]:
    """What runs one inference, by engine; each on one thread."""
    one = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = {
        "cpuruntime f32": _request(ov, plain, one, data.astype(np.float32)),
        "cpuruntime": _request(ov, path, one, data),
        "ONNX Runtime": lambda: session.run(None, {"x": data}),
    }
    try:
        import openvino
    except ImportError:
        return found
    return found | {"OpenVINO": _request(openvino, path, one, data)}


def _request(runtime: Any, path: Path, settings: dict[str, Any], data: np.ndarray) -> Callable[[], Any]:
    request = runtime.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda: request.infer({"x": data})


def measure(layer: tuple[int, int, int], rounds: int, peak: FmaPeak) -> dict[str, float]:
    """Products a cycle of a layer by each engine."""
    channels, size, kernel = layer
    data = np.random.default_rng(1).integers(0, 256, (1, channels, size, size)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{quantised}.onnx") for quantised in (True, False)]
        for path, quantised in zip(paths, (True, False)):
            onnx.save(layer_model(channels, size, kernel, quantised), path)
        runs = engines(*paths, data)
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(rounds):
            peak.measure()
            for name, run in runs.items():
                begin = time.process_time()
                run()
                best[name] = min(best[name], time.process_time() - begin)
    cycles = max(peak.measured) / FLOPS_OF_CYCLE
    products = REPEATS * (channels * size * kernel) ** 2
    return {name: products / seconds / cycles for name, seconds in best.items()}


def parser() -> Parser:
    """The command's options."""
    options = Parser(prog="byte_layers.py", description="Measure convolutions of bytes.")
    options.add_argument("--rounds", type=positive, default=40, help="inferences of each engine (default: 40)")
    options.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures to FILE")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line a layer."""
    given = parser().parse_args(arguments)
    peak, results = FmaPeak(), {}
    for layer in LAYERS:
        channels, size, kernel = layer
        name = f"{kernel}x{kernel}, {channels}, {size}x{size}"
        figures = results[name] = measure(layer, given.rounds, peak)
        print(name.ljust(20), ", ".join(f"{engine} {figure:.1f}" for engine, figure in figures.items()), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
