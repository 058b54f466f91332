"""Measures what an iteration of a Loop or Scan costs beyond its kernels, for bodies whose shapes stay the same.

    python bench/loops.py
    python bench/loops.py --iterations 100000 --rounds 3

The Loop has a carried state, a condition that is computed in each iteration, and a scan output; the Scan has a state, a
scan input and a scan output. The kernels are the body's program, run alone by one thread. ONNX Runtime is measured
beside, in turns, where it is installed. Exits with 1 when an iteration costs more than the limit.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import cpuruntime as ov
from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.streams.thread_group import ThreadGroup
from kernel.program import Runnable, optimised
from peer.engines import installed
from peer.ratios import rotated

WIDTH = 64
_OPSETS = [helper.make_opsetid("", 17)]
_TYPES = {"i": (TensorProto.INT64, []), "c": (TensorProto.BOOL, []), "n": (TensorProto.INT64, [])}

Infer = Callable[[], list[np.ndarray]]


def loop_body() -> onnx.GraphProto:
    """Iteration i, condition c, state s -> condition, state and a row; the condition holds for 2**40 iterations."""
    nodes = [
        helper.make_node("Less", ["i", "last"], ["c_next"]),
        helper.make_node("MatMul", ["s", "w"], ["p"]),
        helper.make_node("Add", ["p", "bias"], ["q"]),
        helper.make_node("Tanh", ["q"], ["s_next"]),
        helper.make_node("Add", ["s_next", "s"], ["row"]),
    ]
    return _body(nodes, ["i", "c", "s"], ["c_next", "s_next", "row"])


def scan_body() -> onnx.GraphProto:
    """State s and a row x of the scan input -> state and a row."""
    nodes = [
        helper.make_node("MatMul", ["s", "w"], ["p"]),
        helper.make_node("Add", ["p", "x"], ["q"]),
        helper.make_node("Tanh", ["q"], ["s_next"]),
        helper.make_node("Add", ["s_next", "s"], ["row"]),
    ]
    return _body(nodes, ["s", "x"], ["s_next", "row"])


def loop(iterations: int) -> tuple[onnx.ModelProto, list[np.ndarray]]:
    """A model with the Loop, and its inputs."""
    node = helper.make_node("Loop", ["n", "", "s"], ["end", "rows"], "loop", body=loop_body())
    return _model([node], ["n", "s"]), [np.array(iterations), _floats(1, WIDTH)]


def scan(iterations: int) -> tuple[onnx.ModelProto, list[np.ndarray]]:
    """A model with the Scan, and its inputs."""
    node = helper.make_node("Scan", ["s", "xs"], ["end", "rows"], "scan", body=scan_body(), num_scan_inputs=1)
    return _model([node], ["s", "xs"]), [_floats(1, WIDTH), _floats(iterations, 1, WIDTH)]


SUBJECTS = {"Loop": (loop, loop_body), "Scan": (scan, scan_body)}


def _body(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
    weights = {"w": _floats(WIDTH, WIDTH) / (2 * WIDTH**0.5), "bias": _floats(1, WIDTH), "last": np.array(2**40)}
    read = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items() if name in read]
    return helper.make_graph(nodes, "body", [_port(n) for n in inputs], [_port(n) for n in outputs], tensors)


def _model(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "loops", [_port(n) for n in inputs], [_port("end"), _port("rows")])
    return helper.make_model(graph, opset_imports=_OPSETS, ir_version=8)


def _port(name: str) -> onnx.ValueInfoProto:
    many: list[int | str] = ["iterations"] if name in ("xs", "rows") else []
    return helper.make_tensor_value_info(name, *_TYPES.get(name[0], (TensorProto.FLOAT, [*many, 1, WIDTH])))


def _floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def kernel_microseconds(body: onnx.GraphProto, seconds: float = 0.2) -> float:
    """What the program of a body takes on this thread: the median over `seconds`."""
    model = helper.make_model(body, opset_imports=_OPSETS, ir_version=8)
    runnable = Runnable(optimised(ov.Core().read_model(model).graph))
    job = runnable.instance.whole
    assert job is not None, "the body has a step without a kernel"
    group = ThreadGroup(1)
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        group.run(job)
        times.append(job.elapsed)
    return statistics.median(times) / 1000


def engines_of(model: onnx.ModelProto, inputs: Sequence[np.ndarray]) -> dict[str, Infer]:
    """Each installed engine's inference, on one thread."""
    one = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", {**one, "COMPILE_MODE": "OPTIMIZED"}).create_infer_request()
    found: dict[str, Infer] = {"cpuruntime": lambda: [*request.infer(list(inputs)).values()]}
    if installed("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        feeds = {port.name: array for port, array in zip(session.get_inputs(), inputs)}
        found["onnxruntime"] = lambda: session.run(None, feeds)
    return found


def parser() -> Parser:
    """The command's options."""
    options = Parser(prog="loops.py", description="Measure what an iteration of a loop costs beyond its kernels.")
    add = options.add_argument
    add("-m", "--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="the models (default: all)")
    add("--iterations", type=positive, default=10_000, help="of each inference (default: 10000)")
    add("--rounds", type=positive, default=5, help="inferences of each engine; one more comes before (default: 5)")
    add("--limit", type=positive_seconds, default=5.0, metavar="US", help="beyond kernels, at most (default: 5)")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when an iteration costs more than the limit or the engines' results differ."""
    options = parser().parse_args(arguments)
    is_right = True
    for name in options.models:
        build, body = SUBJECTS[name]
        engines = engines_of(*build(options.iterations))
        expected = {engine: infer() for engine, infer in engines.items()}
        for results in expected.values():
            for one, other in zip(results, expected["cpuruntime"], strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
        times: dict[str, list[float]] = {engine: [] for engine in engines}
        for turn in range(options.rounds):
            for engine in rotated(list(engines), turn):
                began = time.perf_counter()
                engines[engine]()
                times[engine].append((time.perf_counter() - began) * 1e6 / options.iterations)
        kernels = kernel_microseconds(body())
        beyond = statistics.median(times["cpuruntime"]) - kernels
        each = ", ".join(f"{engine} {statistics.median(taken):.2f} us" for engine, taken in times.items())
        print(f"{name}, {options.iterations} iterations: {each} each; the kernels alone {kernels:.2f} us.")
        print(f"{name}: {beyond:.2f} us beyond the kernels; the limit is {options.limit:g} us.", flush=True)
        is_right = is_right and beyond <= options.limit
    return int(not is_right)


if __name__ == "__main__":
    sys.exit(main())
