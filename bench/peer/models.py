"""The model files and the inputs that all engines get."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import cpuruntime as ov
import models
from cpuruntime.cli.inputs import SEED, random_array
from cpuruntime.cli.model_options import batched_shapes
from cpuruntime.cli.parser import parse_shapes
from cpuruntime.errors import InvalidArgumentError, ModelNotFoundError
from cpuruntime.frontend.light_models import LIGHT_MODELS, full_name
from models.quantised import QUANTISED, build_quantised, quantised

BUILT = {"light": ov.light_model, "bench": models.build, "int8": build_quantised}
SETS = {"light": LIGHT_MODELS, "bench": tuple(models.MODELS), "int8": tuple(QUANTISED)}


@dataclass(frozen=True)
class ModelFile:
    """`inputs` is an .npz file with a random array for each of `names`; `batch` the first input's first dimension.

    `kind` is "light", "bench", "int8" or, for a file of the user's, "".
    """

    kind: str
    name: str
    path: Path
    names: tuple[str, ...]
    inputs: Path
    batch: int


def expand(specifications: Iterable[str]) -> list[str]:
    """The specifications with `light`, `bench` and `int8` replaced by those of all such models, each once.

    Raises InvalidArgumentError or ModelNotFoundError where there is no such model: before anything is measured.
    """
    found: dict[str, None] = {}
    for specification in specifications:
        kind, _, name = specification.partition(":")
        if specification in SETS:
            found.update(dict.fromkeys(f"{kind}:{each}" for each in SETS[kind]))
            continue
        if kind == "light":
            specification = f"light:{full_name(name)}"
        elif kind == "bench":
            models.find(name)
        elif kind == "int8":
            quantised(name)
        elif not Path(specification).is_file():
            raise ModelNotFoundError(f"There is no model file '{specification}'.")
        found[specification] = None
    return list(found)


def prepare(
    specification: str, folder: Path, *, shape: str = "", batch: int | None = None, extent: int = 0
) -> ModelFile:
    """Writes what the engines need to `folder`: the model, unless it is a file already that stays as it is, and inputs.

    `specification` is a path, light:NAME, bench:NAME or int8:NAME. `shape` and `batch` change the input shapes in the
    model's copy, since not every engine can reshape; an open batch of a bench model is 1 unless they say otherwise.
    With `extent` open shapes stay open, and inputs have that extent there.
    Raises InvalidArgumentError or ModelNotFoundError.
    """
    kind, _, name = specification.partition(":")
    built = kind in BUILT
    if built:
        model = BUILT[kind](name, SEED)
        batch = batch or int(not shape and not extent and _has_open_shape(model))
    else:
        if not Path(specification).is_file():
            raise ModelNotFoundError(f"There is no model file '{specification}'.")
        name = Path(specification).stem
        model = onnx.load(specification, load_external_data=bool(shape or batch))
    changed = _set_shapes(model, shape, batch)
    path = Path(specification).resolve()
    if changed or built:
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
    inputs = _inputs(model, extent)
    np.savez(folder / f"{name}-inputs.npz", *inputs.values())
    first = next(iter(inputs.values()), np.empty(0))
    size = first.shape[0] if first.ndim > 1 else 1
    return ModelFile(kind if built else "", name, path, tuple(inputs), folder / f"{name}-inputs.npz", size)


def _graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _has_open_shape(model: onnx.ModelProto) -> bool:
    return any(not size.dim_value for value in _graph_inputs(model) for size in value.type.tensor_type.shape.dim)


def _set_shapes(model: onnx.ModelProto, shape: str, batch: int | None) -> bool:
    """Changes the input shapes, and the targets of Reshape nodes that state the old ones; false without a change."""
    if not shape and not batch:
        return False
    reshaped = ov.Core().read_model(model)
    names = [port.any_name for port in reshaped.inputs]
    reshaped.reshape({name: ov.PartialShape(text) for name, text in parse_shapes(shape, names).items()})
    if batch:
        reshaped.reshape(batched_shapes(reshaped, batch))
    for value in _graph_inputs(model):
        sizes = reshaped.input(value.name).partial_shape
        value.type.tensor_type.ClearField("shape")
        for size in sizes:
            dimension = value.type.tensor_type.shape.dim.add()
            if size.is_static:
                dimension.dim_value = size.get_length()
    _set_reshape_targets(model.graph, reshaped)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return True


def _set_reshape_targets(graph: onnx.GraphProto, reshaped: ov.Model) -> None:
    targets = {}
    for node in reshaped.graph.nodes:
        target = node.input(1)
        if node.op_type == "Reshape" and target is not None and target.constant is not None:
            targets[node.outputs[0].name] = target.constant
    for node in graph.node:
        if node.op_type == "Reshape" and node.output[0] in targets:
            node.input[1] = f"{node.output[0]}/target"
            graph.initializer.append(onnx.numpy_helper.from_array(targets[node.output[0]], node.input[1]))


def _inputs(model: onnx.ModelProto, extent: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(SEED)
    arrays = {}
    limits = {entry.key: entry.value for entry in model.metadata_props}
    for value in _graph_inputs(model):
        tensor = value.type.tensor_type
        sizes = [dimension.dim_value or extent for dimension in tensor.shape.dim]
        if not all(sizes):
            raise InvalidArgumentError(f"Input '{value.name}' has an open shape; give it with -shape or -b.")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        limit = limits.get(models.LIMIT + value.name)
        if limit:
            arrays[value.name] = generator.integers(0, int(limit), sizes, dtype)
        else:
            arrays[value.name] = random_array(tuple(sizes), dtype, generator)
    return arrays
