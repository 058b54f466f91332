"""Compares products of few rows by weights in float32, in 16, 8 and 4 bits: times, bandwidth and errors.

    python bench/few_rows.py                            one row by 4096 x 9216, one thread
    python bench/few_rows.py --inner 768 --columns 3072 --rows 4

Models take turns; the figure is the least processor time of an inference, so that other work on the machine shows
little. Errors are those of the whole result.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import cpuruntime as ov
from cpuruntime.cli.parser import Parser, positive

STORED: dict[str, tuple[float, dict[str, Any]]] = {
    "f32": (4, {}),
    "f16": (2, {"INFERENCE_PRECISION_HINT": "f16"}),
    "bf16": (2, {"INFERENCE_PRECISION_HINT": "bf16"}),
    "i8": (1 + 4 / 64, {"WEIGHTS_PRECISION": "i8"}),
    "u4": (0.5 + 5 / 32, {"WEIGHTS_PRECISION": "u4"}),
}
"""Bytes of a weight with its part of a scale and a zero point, and what asks for them."""


def product(rows: int, inner: int, columns: int) -> onnx.ModelProto:
    """A MatMul by random weights."""
    weights = np.random.default_rng(0).standard_normal((inner, columns), np.float32) / np.float32(np.sqrt(inner))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", (rows, inner)), ("y", (rows, columns)))
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def parser() -> Parser:
    """The command's options."""
    parser = Parser(prog="few_rows.py", description="Compare products by weights in fewer bits with those of float32.")
    add = parser.add_argument
    add("--rows", type=positive, default=1, help="of the left side (default: 1)")
    add("--inner", type=positive, default=4096, help="columns of the left side (default: 4096)")
    add("--columns", type=positive, default=9216, help="of the right side (default: 9216)")
    add("--rounds", type=positive, default=30, help="times that each model is run (default: 30)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each storage."""
    options = parser().parse_args(arguments)
    model = product(options.rows, options.inner, options.columns)
    x = np.random.default_rng(1).standard_normal((options.rows, options.inner), np.float32)
    one = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "COMPILE_MODE": "OPTIMIZED"}
    requests = {}
    for name, (_, asked) in STORED.items():
        requests[name] = ov.Core().compile_model(model, "CPU", {**one, **asked}).create_infer_request()
        requests[name].infer({"x": x})
    least = dict.fromkeys(requests, float("inf"))
    for _ in range(options.rounds):
        for name, request in requests.items():
            before = time.process_time()
            request.infer()
            least[name] = min(least[name], time.process_time() - before)
    wanted = requests["f32"].get_output_tensor().data
    print(f"{'weights':<8} {'us':>9} {'x f32':>6} {'GB/s':>6} {'error':>8}")
    for name, seconds in least.items():
        lost = np.linalg.norm(requests[name].get_output_tensor().data - wanted) / np.linalg.norm(wanted)
        speed = STORED[name][0] * options.inner * options.columns / seconds / 1e9
        print(f"{name:<8} {seconds * 1e6:9.1f} {least['f32'] / seconds:6.2f} {speed:6.1f} {lost:8.1e}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
