"""The graphs of tests/data/exports with seeded weights, and feeds of several shapes for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

FOLDER = Path(__file__).resolve().parent.parent / "data" / "exports"
LARGEST_KEPT = 32
"""Floating-point tensors of more elements are stored without data: their doc_string says how to draw them."""

Feeds = dict[str, np.ndarray]


def names() -> list[str]:
    """Every stored graph."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def load(name: str, seed: int = 0) -> onnx.ModelProto:
    """The model with weights drawn anew; the same for the same seed."""
    model = onnx.load(FOLDER / f"{name}.onnx")
    random = np.random.default_rng(seed)
    for tensor in tensors(model):
        if tensor.doc_string:
            mean, deviation, low, high = json.loads(tensor.doc_string)
            numbers = np.clip(random.normal(mean, deviation, tuple(tensor.dims)), low, high)
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(numbers.astype(dtype), tensor.name))
    return model


def strip(model: onnx.ModelProto) -> None:
    """Takes the data out of large floating-point tensors, in place; numbers that are all the same stay."""
    for tensor in tensors(model):
        tensor.doc_string = ""
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type).kind
        if kind == "f" and prod(tensor.dims) > LARGEST_KEPT:
            numbers = numpy_helper.to_array(tensor).astype(np.float64)
            facts = [float(f"{fact:.4g}") for fact in (numbers.mean(), numbers.std(), numbers.min(), numbers.max())]
            bare = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            bare.doc_string = json.dumps(facts)
            tensor.CopyFrom(bare)


def feeds(model: onnx.ModelProto, seed: int = 1) -> list[Feeds]:
    """Inputs for each of the shapes that the model is tried at, from its metadata.

    That is, for each input and shape, `[kind, shape]` for `draw`, or `["given", numbers]`.
    """
    random = np.random.default_rng(seed)
    stated = {entry.key: entry.value for entry in model.metadata_props}
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.input}
    return [
        {name: _array(random, kind, what, types[name]) for name, (kind, what) in case.items()}
        for case in json.loads(stated["cases"])
    ]


def _array(random: np.random.Generator, kind: str, what: Any, element_type: int) -> np.ndarray:
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    return np.array(what, dtype) if kind == "given" else draw(random, kind, what).astype(dtype)


def draw(random: np.random.Generator, kind: str, shape: list[int]) -> np.ndarray:
    """Numbers of a kind: normal, uniform (0 to 1), `below N` (whole), mask (each row ends with one more 0)."""
    if kind == "normal":
        return random.standard_normal(shape).astype(np.float32)
    if kind == "uniform":
        return random.random(shape, np.float32)
    if kind == "mask":
        rows, length = shape
        return (np.arange(length) < np.maximum(1, length - np.arange(rows))[:, None]).astype(np.int64)
    return random.integers(0, int(kind.removeprefix("below ")), shape)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every initializer and every tensor in an attribute, those of subgraphs and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)
