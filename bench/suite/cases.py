"""The cases of ONNX's backend test suite as the installed onnx package has them, family by family.

A family is a module that generates cases of one operator, as "node.relu", or a folder of files, as "simple".
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node

FILES = ("simple", "pytorch-converted", "pytorch-operator", "real")
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
DataSet = tuple[Sequence[Any], Sequence[Any]]


@dataclass(frozen=True)
class Case:
    """A model with inputs and the outputs they should give. `kind` is a row of the report."""

    name: str
    kind: str
    operator: str
    model: onnx.ModelProto
    data_sets: Sequence[DataSet]
    rtol: float
    atol: float


def families() -> list[str]:
    """Every family, in the order of their names."""
    prefix = node.__name__ + "."
    modules = pkgutil.walk_packages(node.__path__, prefix)
    return [*sorted("node." + module.name.removeprefix(prefix) for module in modules), *FILES]


def cases(family: str) -> Iterator[Case]:
    """The cases of a family; those that are generated are the same each time."""
    return _stored(family) if family in FILES else _generated(family)


def _generated(family: str) -> Iterator[Case]:
    name = node.__name__ + family.removeprefix("node")
    found = node._NodeTestCases
    before = len(found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(name)
    made = found[before:]
    del found[before:]
    # A module generates its cases when it is imported: the next import is to be the first again.
    sys.modules.pop(name)
    for case in made:
        node._existing_names.pop(case.name, None)
        sets = [tuple([_array(value) for value in side] for side in data) for data in case.data_sets]
        kind = "node, expanded" if "_expanded" in case.name else "node"
        yield Case(case.name, kind, _operator(case.model, family), case.model, sets, case.rtol, case.atol)


def _stored(family: str) -> Iterator[Case]:
    for folder in sorted(path for path in (DATA / family).iterdir() if path.is_dir()):
        facts = folder / "data.json"
        limits = json.loads(facts.read_text()) if facts.exists() else {}
        if "url" in limits:
            path = DATA / "light" / Path(limits["url"]).name
            model = onnx.load(path)
            sets = [_light(model, path)]
        else:
            model = onnx.load(folder / "model.onnx")
            sets = [_data_set(model, path) for path in sorted(folder.glob("test_data_set_*"))]
        operator = _operator(model, family)
        yield Case(folder.name, family, operator, model, sets, limits.get("rtol", 1e-3), limits.get("atol", 1e-7))


def _light(model: onnx.ModelProto, path: Path) -> DataSet:
    """A light model comes with outputs for the numbers from 0 to 1 in order."""
    shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in inputs_of(model)]
    arrays = [np.linspace(0, 1, int(np.prod(shape)), False).astype(np.float32).reshape(shape) for shape in shapes]
    return arrays, [numpy_helper.to_array(onnx.load_tensor(f"{path.with_suffix('')}_output_0.pb"))]


def _data_set(model: onnx.ModelProto, folder: Path) -> DataSet:
    sides = (("input", model.graph.input), ("output", model.graph.output))
    found = [
        [
            _read(path, value.type)
            for index, value in enumerate(values)
            if (path := folder / f"{side}_{index}.pb").exists()
        ]
        for side, values in sides
    ]
    return found[0], found[1]


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs without a default."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in defaults]


def _operator(model: onnx.ModelProto, family: str) -> str:
    nodes = model.graph.node
    return nodes[0].op_type if len(nodes) == 1 else f"({family.removeprefix('node.')})"


def _array(value: Any) -> Any:
    """Tensors and scalars as arrays; lists and None as they are."""
    if value is None or isinstance(value, list):
        return value
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
