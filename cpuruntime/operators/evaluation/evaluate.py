"""Runs one node on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.errors import MESSAGE, Error, ModelError, OutOfMemoryError, UnsupportedError, printable
from cpuruntime.graph import Node
from cpuruntime.operators import control_flow
from cpuruntime.operators.evaluation.functions import run_function
from cpuruntime.operators.evaluation.inputs import Arrays
from cpuruntime.operators.evaluation.reference import run_reference

REFERENCE: dict[str, frozenset[str]] = {
    "": frozenset({"LinearAttention", "TfIdfVectorizer"}),
    "ai.onnx.ml": frozenset({"TreeEnsemble"}),
    "ai.onnx.preview.training": frozenset({"Adagrad", "Adam", "Momentum"}),
}  # fmt: skip
"""Operators by domain for which onnx.reference is known to be right."""


def evaluate(node: Node, arrays: Arrays) -> list[Any]:
    """The node's outputs for the given inputs, one for each input (None where it is absent).

    Tensors are arrays (strings: of objects), sequences are lists, an empty optional is None; an absent output is an
    empty array. The last inputs are those that subgraphs read, as in `node.inputs`. Correct and slow. A node's
    attributes must not change after its first evaluation. Safe to call from several threads. Raises UnsupportedError
    (no implementation), ModelError (the operator refuses the inputs) and OutOfMemoryError.
    """
    try:
        with np.errstate(all="ignore"):
            results = _run(node, arrays)
    except Error:
        raise
    except NotImplementedError as error:
        raise UnsupportedError(f"{node.where}: there is no reference implementation: {error}") from error
    except MemoryError as error:
        message = printable(str(error), MESSAGE).rstrip(".")
        raise OutOfMemoryError(f"{node.where}: {message or 'it needs more memory than there is'}.") from error
    except Exception as error:
        message = printable(str(error), MESSAGE)
        raise ModelError(f"{node.where}: cannot be evaluated: {type(error).__name__}: {message}") from error
    if len(results) < len(node.outputs):
        raise ModelError(f"{node.where}: {len(node.outputs)} outputs are wanted; there are {len(results)}.")
    return [_value(result) if value.name else np.empty(0, np.float32) for value, result in zip(node.outputs, results)]


def _run(node: Node, arrays: Arrays) -> list[Any] | tuple[Any, ...]:
    from cpuruntime.operators.evaluation.families import ML_RULES, RULES

    rules = {"": RULES, "ai.onnx.ml": ML_RULES}.get(node.domain, {})
    if node.op_type in rules:
        result = rules[node.op_type](node, arrays)
        return result if isinstance(result, tuple) else (result,)
    if node.domain == "" and node.op_type in control_flow.OPERATORS:
        return control_flow.run(node, arrays, evaluate)
    if node.op_type in REFERENCE.get(node.domain, ()):
        return run_reference(node, arrays)
    results = run_function(node, arrays, evaluate)
    if results is None:
        raise UnsupportedError(f"{node.where}: it has no kernel and no evaluation here.")
    return results


def _value(result: Any) -> Any:
    if result is None or isinstance(result, list):
        return result
    array = np.asarray(result)
    return array.astype(object) if array.dtype.kind in "SUT" else array
