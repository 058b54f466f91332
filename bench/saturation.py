"""Shows which engines saturate: 8-bit operators on the largest operands, against exact results, by instruction set.

    python bench/saturation.py
    python bench/saturation.py --models resnet50_int8.onnx mobilenet_v2_int8.onnx

A row is an operator in QDQ form whose operands are all at an end of their type's range. cpuruntime runs once for each
instruction set that this machine has, the peers as they come. Fails where cpuruntime is not exact. With --models, says
whether all instruction sets give the same bits for these, as they do where no float32 operator rounds on the way.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import cpuruntime as ov
from cpuruntime.cli.parser import Parser
from cpuruntime.compiler.isa import supported

CHANNELS, OUTPUTS, SIZE = 64, 16, 6
OPERATORS = {
    "1x1": 2.0**-14, "3x3": 2.0**-17, "3x3 depthwise": 2.0**-12, "MatMul": 2.0**-14, "MatMul of two inputs": 2.0**-14,
}  # fmt: skip
"""The scale of the weights: a power of two, so that float32 arithmetic rounds nothing, and results fit a byte."""
# Type of the activations, of the weights, largest weight.
OPERANDS = (("u8", "s8", 127), ("s8", "s8", 127), ("u8", "u8", 255), ("u8", "s8", 64))
DTYPES = {"u8": np.uint8, "s8": np.int8}


Feeds = dict[str, np.ndarray]


def row_model(operator: str, activations: str, weights: str, largest: int) -> tuple[onnx.ModelProto, Feeds]:
    """The model of a row, and its inputs."""
    w = np.full(_weights_shape(operator), largest, DTYPES[weights])
    is_product, feeds = operator.startswith("MatMul"), {}
    shape = (1, SIZE, CHANNELS) if is_product else (1, CHANNELS, SIZE, SIZE)
    x = np.full(shape, np.iinfo(DTYPES[activations]).max, DTYPES[activations])
    feeds["x"] = x
    if operator == "MatMul of two inputs":
        feeds["w"] = w[None]
    constants = {} if "w" in feeds else {"w": w}
    constants |= {"one": np.float32(1), "scale": np.float32(OPERATORS[operator])}
    constants |= {"zero": DTYPES[activations](0), "weight_zero": DTYPES[weights](0)}
    more = dict(group=CHANNELS) if operator == "3x3 depthwise" else {}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "weight_zero"], ["b"]),
        helper.make_node("MatMul" if is_product else "Conv", ["a", "b"], ["c"], **more),
        helper.make_node("QuantizeLinear", ["c", "one", "byte"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "byte"], ["y"]),
    ]
    constants["byte"] = np.uint8(0)
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
    inputs = [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in feeds.items()]
    ends = inputs, [helper.make_tensor_value_info("y", 1, None)]
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "extremes", *ends, arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), feeds


def _weights_shape(operator: str) -> tuple[int, ...]:
    if operator.startswith("MatMul"):
        return CHANNELS, OUTPUTS
    kernel = int(operator[0])
    return (CHANNELS, 1, kernel, kernel) if operator == "3x3 depthwise" else (OUTPUTS, CHANNELS, kernel, kernel)


def exact(operator: str, activations: str, weights: str, largest: int) -> float:
    """What each element of the row's result is, by whole numbers."""
    shape = _weights_shape(operator)
    terms = shape[0] if operator.startswith("MatMul") else int(np.prod(shape[1:]))
    total = terms * int(np.iinfo(DTYPES[activations]).max) * largest * OPERATORS[operator]
    return float(np.clip(np.rint(total), 0, 255))


def rows() -> list[tuple[str, str, str, int]]:
    return [(operator, *operands) for operator in OPERATORS for operands in OPERANDS]


def _cpuruntime(model: bytes, feeds: Feeds) -> np.ndarray:
    compiled = ov.Core().compile_model(model, "CPU", {"COMPILE_MODE": "OPTIMIZED", "INFERENCE_NUM_THREADS": 1})
    return np.array(compiled(feeds)[0])


def _onnxruntime(model: bytes, feeds: Feeds) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def _openvino(model: bytes, feeds: Feeds) -> np.ndarray:
    import openvino

    return np.array(openvino.Core().compile_model(openvino.Core().read_model(model), "CPU")(feeds)[0])


ENGINES: dict[str, Callable[[bytes, Feeds], np.ndarray]] = {
    "cpuruntime": _cpuruntime, "ONNX Runtime": _onnxruntime, "OpenVINO": _openvino,
}  # fmt: skip


def results(engine: str) -> list[float]:
    """Of each row the element that is farthest from the exact result."""
    found = []
    for row in rows():
        model, feeds = row_model(*row)
        values = ENGINES[engine](model.SerializeToString(), feeds).reshape(-1)
        found.append(float(values[np.abs(values - exact(*row)).argmax()]))
    return found


def fingerprint(path: str) -> str:
    """A digest of all outputs of a model for seeded inputs, by cpuruntime."""
    compiled = ov.Core().compile_model(path, "CPU", {"COMPILE_MODE": "OPTIMIZED", "INFERENCE_NUM_THREADS": 1})
    rng = np.random.default_rng(0)
    inputs: list[Any] = []
    for port in compiled.inputs:
        shape, dtype = list(port.shape), port.element_type.to_dtype()
        inputs.append(rng.standard_normal(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype))
    outputs = compiled(inputs)
    return hashlib.sha256(b"".join(np.array(outputs[port]).tobytes() for port in compiled.outputs)).hexdigest()


def _in_process(isa: str, *arguments: str) -> Any:
    """What this command prints in a process of its own for an instruction set, or "" for the engine's choice."""
    environment = os.environ | ({"CPURUNTIME_ISA": isa} if isa else {})
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def instruction_sets() -> list[str]:
    """Those that this processor has."""
    return [isa.name for isa in supported()]


def parser() -> Parser:
    """The command's options."""
    options = Parser(prog="saturation.py", description="Show which engines saturate.")
    options.add_argument("--models", nargs="+", default=[], metavar="FILE", help="models to compare bits of")
    options.add_argument("--engine", choices=tuple(ENGINES), help="print only this engine's results, as JSON")
    options.add_argument("--fingerprint", metavar="FILE", help="print only a digest of this model's outputs, as JSON")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns 1 where cpuruntime is not exact."""
    given = parser().parse_args(arguments)
    if given.engine or given.fingerprint:
        print(json.dumps(results(given.engine) if given.engine else fingerprint(given.fingerprint)))
        return 0
    columns: dict[str, list[float]] = {}
    for isa in instruction_sets():
        columns[f"cpuruntime, {isa}"] = _in_process(isa, "--engine", "cpuruntime")
    for engine in list(ENGINES)[1:]:
        columns[engine] = _in_process("", "--engine", engine)
    wanted = [exact(*row) for row in rows()]
    print("operator, activations, weights, largest | exact |", " | ".join(columns))
    for i, row in enumerate(rows()):
        values = [wanted[i], *(column[i] for column in columns.values())]
        print(", ".join(map(str, row)), "|", " | ".join(f"{value:g}" for value in values))
    failed = any(column != wanted for name, column in columns.items() if name.startswith("cpuruntime"))
    for path in given.models:
        found = {isa: _in_process(isa, "--fingerprint", path)[:16] for isa in instruction_sets()}
        print(Path(path).name, "same bits" if len({*found.values()}) == 1 else "different bits", found)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
