"""One operator with attributes and inputs, as ONNX Runtime, shape inference and the evaluator see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import defs, helper
from support.judge import onnx_runtime_session

from cpuruntime.graph import Type

NEWEST = 25
"""The newest opset that variants use: ONNX Runtime refuses those that it does not know."""
OLDEST = 7
_SMALL = 16


@dataclass
class Variant:
    """`inputs` holds None where one is absent; `outputs` says which are there."""

    op_type: str
    opset: int
    inputs: Sequence[np.ndarray | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: Sequence[bool] = (True,)
    domain: str = ""

    def __post_init__(self) -> None:
        self.inputs = [None if array is None else np.asarray(array) for array in self.inputs]

    def __str__(self) -> str:
        inputs = ", ".join("-" if x is None else f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        small = [None if x is None or x.size > 12 else x.tolist() for x in self.inputs[1:]]
        return f"{self.op_type} opset {self.opset} ({inputs}) {small} {self.attributes} {list(self.outputs)}"

    def model(self, judged: bool = False) -> onnx.ModelProto:
        """The model; with `judged`, as ONNX Runtime takes it: types that NumPy lacks stay inside.

        Small integers behind the first input are initializers, so that shapes follow from them.
        """
        inputs, constants, names = [], [], []
        for index, array in enumerate(self.inputs):
            name = "" if array is None else f"x{index}"
            names.append(name)
            if array is None:
                continue
            kind = Type(array.dtype).to_onnx()
            if (index and array.dtype.kind in "iu" and array.size <= _SMALL) or (judged and is_narrow(array.dtype)):
                constants.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
            else:
                inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
        while names and not names[-1]:  # LayerNormalization of ONNX Runtime crashes on an empty name
            names.pop()
        made = [f"y{index}" if there else "" for index, there in enumerate(self.outputs)]
        nodes = [helper.make_node(self.op_type, names, made, "n", domain=self.domain, **self.attributes)]
        outputs = [name for name in made if name]
        if judged:
            nodes += [helper.make_node("Cast", [name], [f"{name}w"], to=onnx.TensorProto.FLOAT)
                      for name in outputs if self._is_narrow_output()]  # fmt: skip
            outputs = [f"{name}w" if self._is_narrow_output() else name for name in outputs]
        graph = helper.make_graph(
            nodes, "variant", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs], constants
        )
        opsets = [helper.make_opsetid("", self.opset if not self.domain else 18)]
        opsets += [helper.make_opsetid(self.domain, self.opset)] if self.domain else []
        return helper.make_model(graph, opset_imports=opsets, ir_version=10 if self.opset < 23 else 11)

    def _is_narrow_output(self) -> bool:
        to = self.attributes.get("to") or self.attributes.get("output_dtype")
        if to is not None:
            return is_narrow(Type.from_onnx(to).to_dtype())
        if self.op_type in ("CastLike", "QuantizeLinear") and self.inputs[-1] is not None:
            return is_narrow(self.inputs[-1].dtype)
        schema = defs.get_schema(self.op_type, self.opset, self.domain)
        first = schema.inputs[0].type_str == schema.outputs[0].type_str
        return first and self.inputs[0] is not None and is_narrow(self.inputs[0].dtype)

    def expected(self) -> list[np.ndarray]:
        """What ONNX Runtime computes; raises its exceptions when it refuses the model or the data."""
        session = onnx_runtime_session(self.model(judged=True))
        wanted = {info.name for info in session.get_inputs()}
        feeds = {f"x{index}": x for index, x in enumerate(self.inputs) if f"x{index}" in wanted}
        return session.run(None, feeds)


def is_narrow(dtype: np.dtype) -> bool:
    """Whether NumPy has no such type of its own."""
    return Type(dtype) is not Type.string and np.dtype(dtype).type.__module__ == ml_dtypes.bfloat16.__module__


@lru_cache(maxsize=1024)
def versions(op_type: str, domain: str = "") -> list[int]:
    """The opsets from which each version of an operator counts, as far as models may use them."""
    found = {
        max(schema.since_version, 1 if domain else OLDEST)
        for schema in defs.get_all_schemas_with_history()
        if schema.name == op_type and schema.domain == domain and not schema.deprecated
    }
    return sorted(version for version in found if version <= NEWEST) or sorted(found)[:1]


class Draw:
    """Random choices for variants: always the same ones for a seed."""

    def __init__(self, seed: Sequence[int]) -> None:
        self.random = np.random.default_rng(seed)

    def number(self, low: int, high: int) -> int:
        """An integer with both bounds."""
        return int(self.random.integers(low, high + 1))

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.random.random() < share)

    def choose(self, *options: Any) -> Any:
        return options[self.number(0, len(options) - 1)]

    def some(self, **options: Any) -> dict[str, Any]:
        """Each of these attributes or not."""
        return {name: data for name, data in options.items() if self.chance() and data is not None}

    def opset(self, op_type: str, domain: str = "", least: int = 1) -> int:
        return self.choose(*[version for version in versions(op_type, domain) if version >= least])

    def shape(self, least: int = 0, most: int = 4, empty: float = 0.05) -> list[int]:
        extents = [self.number(1, 5) for _ in range(self.number(least, most))]
        if extents and self.chance(empty):
            extents[self.number(0, len(extents) - 1)] = 0
        return extents

    def array(self, shape: Sequence[int], dtype: Any = np.float32, scale: float = 2.0, special: float = 0.0) -> Any:
        """Numbers around zero, or of the whole type's range where `scale` reaches so far; some not finite."""
        dtype = np.dtype(dtype)
        if dtype.kind == "b":
            return np.asarray(self.random.random(shape) < 0.5)
        numbers = np.asarray(scale * self.random.standard_normal(shape))
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            numbers = np.clip(np.rint(5 * numbers), max(limits.min, -(2**53)), min(limits.max, 2**53))
        elif special and numbers.size:
            spots = self.random.random(shape) < special
            numbers = np.where(spots, self.random.choice([np.nan, np.inf, -np.inf, 0.0], shape), numbers)
        return np.asarray(numbers).astype(dtype)

    def positive(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        return np.asarray(self.random.uniform(0.3, 2.0, shape)).astype(dtype)

    def indices(self, shape: Sequence[int], extent: int, dtype: Any = np.int64) -> np.ndarray:
        """Positions in an axis, counted from either end."""
        return self.random.integers(-extent, extent, shape).astype(dtype)

    def axis(self, rank: int) -> int:
        return self.number(-rank, rank - 1)

    def axes(self, rank: int, least: int = 1) -> list[int]:
        """Different axes, counted from either end."""
        count = self.number(min(least, rank), rank)
        chosen = self.random.permutation(rank)[:count].tolist()
        return [axis - rank if self.chance() else axis for axis in chosen]
