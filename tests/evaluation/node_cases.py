"""Runs ONNX's own test cases of single operators by the evaluator: `python tests/evaluation/node_cases.py [NAME ...]`.

It prints the cases that differ, and how many do not; with names only those cases with one of them in their name.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from cpuruntime.errors import Error
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Type
from cpuruntime.operators.control_flow import run_graph
from cpuruntime.operators.evaluation.evaluate import evaluate

# Cases that do not hold here, by the beginning of their names.
EXPECTED = {
    "test_bernoulli": "random numbers",
    "test_flexattention_causal_mask": "refused: subgraphs",
    "test_flexattention_prob_mod": "refused: subgraphs",
    "test_flexattention_relative_positional": "refused: subgraphs",
    "test_flexattention_score_mod": "refused: subgraphs",
    "test_flexattention_soft_cap": "refused: subgraphs",
    "test_image_decoder": "refused: the runtime decodes no images",
    "test_regex_full_match": "refused: a pattern could match forever",
    "test_resize_downsample_scales_cubic_align_corners": "the case takes an extent that is not whole",
    "test_resize_downsample_scales_linear_align_corners": "the case takes an extent that is not whole",
}


@cache
def cases() -> list[Any]:
    """All cases of the installed onnx package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return collect_testcases(None)


def _value(data: Any) -> Any:
    if isinstance(data, onnx.TensorProto):
        data = onnx.numpy_helper.to_array(data)
    if isinstance(data, onnx.SequenceProto):
        data = onnx.numpy_helper.to_list(data)
    if data is None or isinstance(data, list):
        return data and [_value(item) for item in data]
    array = np.asarray(data)
    return array.astype(object) if array.dtype.kind in "SUT" else array


def _run(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Any]:
    """The outputs. Inputs that are sequences or optionals are made of tensors in the model itself."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.input[:]
    makers, arrays = [], []

    def made(name: str, kind: onnx.TypeProto, data: Any) -> str:
        if kind.WhichOneof("value") == "optional_type":
            inner = kind.optional_type.elem_type
            given = [] if data is None else [made(f"{name}_held", inner, data)]
            makers.append(onnx.helper.make_node("Optional", given, [name], **({} if given else {"type": inner})))
        elif kind.WhichOneof("value") == "sequence_type":
            items = [made(f"{name}_{index}", kind.sequence_type.elem_type, item) for index, item in enumerate(data)]
            empty = {} if items else {"dtype": kind.sequence_type.elem_type.tensor_type.elem_type}
            op_type = "SequenceConstruct" if items else "SequenceEmpty"
            makers.append(onnx.helper.make_node(op_type, items, [name], **empty))
        else:
            kind = onnx.helper.make_tensor_type_proto(Type(data.dtype).to_onnx(), data.shape)
            changed.graph.input.append(onnx.helper.make_value_info(name, kind))
            arrays.append(data)
        return name

    for info, data in zip(model.graph.input, inputs):
        made(info.name, info.type, data)
    nodes = [*makers, *model.graph.node]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return run_graph(read(changed), arrays, evaluate)


def _same(ours: Any, theirs: Any, rtol: float, atol: float) -> bool:
    if theirs is None or isinstance(theirs, list):
        lists = isinstance(ours, list) and len(ours) == len(theirs or ())
        return ours is None if theirs is None else lists and all(
            _same(a, b, rtol, atol) for a, b in zip(ours, theirs))  # fmt: skip
    if not isinstance(ours, np.ndarray) or ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    if theirs.dtype == object:
        return ours.tolist() == theirs.tolist()
    if theirs.dtype.name in ("bfloat16", "float16"):  # the cases round after each step
        rtol, atol = max(rtol, 1e-2), max(atol, 1e-2)
    if theirs.dtype.kind == "V" or theirs.dtype.name in ("bfloat16", "float16"):
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    return bool(np.allclose(ours, theirs, rtol, max(atol, 1e-6), equal_nan=True))


def differing(names: Sequence[str] = ()) -> tuple[int, dict[str, str]]:
    """How many cases were run, and what is wrong with those that differ, by name."""
    count, found = 0, {}
    for case in cases():
        if names and not any(name in case.name for name in names):
            continue
        for inputs, outputs in case.data_sets:
            count += 1
            try:
                results = _run(case.model, [_value(data) for data in inputs])
            except Error as error:
                found[case.name] = f"{type(error).__name__}: {error}"
                continue
            if not all(_same(a, _value(b), case.rtol, case.atol) for a, b in zip(results, outputs)):
                found[case.name] = f"{results} instead of {outputs}"[:500]
    return count, found


def main() -> None:
    count, found = differing(sys.argv[1:])
    for name, wrong in found.items():
        print(f"{name}: {wrong}")
    print(f"{count - len(found)} of {count} cases hold")


if __name__ == "__main__":
    main()
