"""Runs a case on an engine, and says in a word and a reason how it went."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.runner import Runner

from cpuruntime import errors
from suite.cases import Case, inputs_of

ENGINES = ("cpuruntime", "onnxruntime", "openvino")
PASSED = ("kernels", "fallback", "pass")
OUTCOMES = (*PASSED, "wrong", "unsupported", "error", "internal error", "foreign error", "crash", "hang")
"""`kernels` and `fallback` are cpuruntime's ways to pass. An error of another type than its own is foreign."""

# The results of these, and of what is made of them, are random: only their types and shapes are compared.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
# Types that NumPy itself lacks: the other engines cannot be given arrays of them.
NEW_TYPES = {
    TensorProto.BFLOAT16,
    *(number for name, number in TensorProto.DataType.items() if name.startswith(("FLOAT8", "FLOAT4"))),
    *(TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2),
}
Run = Callable[[dict[str, Any]], list[Any]]


def installed(name: str) -> bool:
    """True when the engine's package can be imported."""
    return importlib.util.find_spec(name) is not None


def attempt(engine: str, case: Case) -> tuple[str, str]:
    """An outcome, and the reason in a line: the error, the difference, or the operators without a kernel."""
    try:
        passed, reason = _attempt(engine, case)
    except errors.UnsupportedError as error:
        return "unsupported", _line(error)
    except errors.InternalError as error:
        return "internal error", _line(error)
    except errors.Error as error:
        return "error", _line(error)
    except Exception as error:  # whatever an engine raises is a result
        return "foreign error" if engine == "cpuruntime" else "error", f"{type(error).__name__}: {_line(error)}"
    return passed, reason


def _attempt(engine: str, case: Case) -> tuple[str, str]:
    if engine == "cpuruntime":
        return _cpuruntime(case)
    prepare = _onnxruntime if engine == "onnxruntime" else _openvino
    for inputs, outputs in case.data_sets:
        names = [value.name for value in inputs_of(case.model)]
        model = _of_old_types(case.model, dict(zip(names, inputs)))
        feeds = {name: array for name, array in zip(names, inputs) if name in {v.name for v in model.graph.input}}
        wrong = _difference(case, prepare(model)(feeds), [_old(array) for array in outputs])
        if wrong:
            return "wrong", wrong
    return "pass", ""


def _cpuruntime(case: Case) -> tuple[str, str]:
    import cpuruntime as ov

    one = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "TUNING_BUDGET_MS": 0, "COMPILE_MODE": "OPTIMIZED"}
    compiled = ov.Core().compile_model(case.model, "CPU", one)
    names = [value.name for value in inputs_of(case.model)]
    for inputs, outputs in case.data_sets:
        found = compiled(dict(zip(names, inputs)))
        wrong = _difference(case, [found[index] for index in range(len(compiled.outputs))], outputs)
        if wrong:
            return "wrong", wrong
    fallbacks = sorted({row.op_type for row in compiled.explain().fallbacks})
    return ("fallback", ", ".join(fallbacks)) if fallbacks else ("kernels", "")


def _onnxruntime(model: onnx.ModelProto) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def _openvino(model: onnx.ModelProto) -> Run:
    import openvino

    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", config)

    def run(feeds: dict[str, Any]) -> list[Any]:
        found = compiled(feeds)
        return [found[index] for index in range(len(compiled.outputs))]

    return run


def _of_old_types(model: onnx.ModelProto, feeds: dict[str, Any]) -> onnx.ModelProto:
    """The model with inputs of new types as initializers, and with outputs of new types cast to float32."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for value in [value for value in graph.input if value.type.tensor_type.elem_type in NEW_TYPES]:
        graph.input.remove(value)
        tensor = numpy_helper.from_array(np.asarray(feeds[value.name]), value.name)
        graph.initializer.append(tensor)
    for value in graph.output:
        if value.type.tensor_type.elem_type in NEW_TYPES:
            node = helper.make_node("Cast", [value.name], [f"{value.name} as float32"], to=TensorProto.FLOAT)
            graph.node.append(node)
            value.name = node.output[0]
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return changed


def _old(array: Any) -> Any:
    new = isinstance(array, np.ndarray) and helper.np_dtype_to_tensor_dtype(array.dtype) in NEW_TYPES
    return array.astype(np.float32) if new else array


def _difference(case: Case, found: list[Any], expected: Any) -> str:
    """What is wrong with the outputs, by the rules of the suite's own runner; "" if nothing is."""
    if any(node.op_type in RANDOM for node in _nodes(case.model.graph)):
        facts = [[(array.dtype, array.shape) for array in arrays] for arrays in (found, expected)]
        return "" if facts[0] == facts[1] else "another type or shape"
    try:
        for one, other in zip(expected, found, strict=True):
            Runner.assert_similar_outputs(*_as_lists(one, other), case.rtol, case.atol)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        return _line(error) or "another result"
    return ""


def _as_lists(expected: Any, found: Any) -> tuple[list[Any], list[Any]]:
    """The tensors of an output: of a sequence all, which cpuruntime gives as an array of objects."""
    if isinstance(expected, list):
        return expected, found.tolist() if isinstance(found, np.ndarray) and found.dtype == object else found
    return [expected], [found]


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
