"""Float32 matrices of products -> constants in fewer bits, where the user asks for that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from cpuruntime.graph import Compressed, Graph, Node, Type, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import all_f32, is_onnx
from cpuruntime.records import record

SMALL = 64 * 1024
"""Elements: smaller matrices are read from a cache, however large their numbers are; arbitrary."""


@record
class WeightStorage:
    """How constant matrices of products lie in memory.

    Attributes:
        kind: "u8", "u4", "f16" or "bf16"; "" as the model has them.
        group: weights of a column that share a scale; ignored for 16 bits.
        quantises_rows: whether products of few rows with integer weights take the rows as 16-bit integers.
        only: the names of the matrices that are meant; None for all.
        smallest: elements; smaller matrices stay as they are.
    """

    kind: str = ""
    group: int = 32
    quantises_rows: bool = True
    only: frozenset[str] | None = None
    smallest: int = SMALL


class _Product(NamedTuple):
    """A product by a constant: `source` has it, transposed if it is `turned`, by a Gemm's transB if `swapped`."""

    node: Node
    source: Value
    swapped: bool
    turned: bool


def _products(nodes: Iterable[Node], smallest: int = SMALL) -> Iterator[_Product]:
    for node in nodes:
        if not is_onnx(node, "MatMul", "Gemm"):
            continue
        right, swapped = node.require(1), bool(node.op_type == "Gemm" and node.attributes.get("transB", 0))
        source, turned = right, swapped
        if is_onnx(right.producer, "Transpose") and right.producer.require(0).constant is not None:
            source, turned = right.producer.require(0), not turned
        if _suits(source, smallest):
            yield _Product(node, source, swapped, turned)


def _convolutions(nodes: Iterable[Node]) -> Iterator[Node]:
    """Those of float32 by constants."""
    for node in nodes:
        if is_onnx(node, "Conv") and all_f32(*node.inputs) and node.require(1).constant is not None:
            yield node


def products_of(graph: Graph) -> dict[str, frozenset[str]]:
    """The names of the float32 weights that could have fewer bits, with those of the nodes that they are in."""
    found: dict[str, set[str]] = {}
    for product in _products(graph.nodes):
        found.setdefault(product.source.name, set()).add(product.node.name)
    for node in _convolutions(graph.nodes):
        found.setdefault(node.require(1).name, set()).add(node.name)
    return {name: frozenset(nodes) for name, nodes in found.items()}


def run(graph: Graph, storage: WeightStorage) -> bool:
    """Constant right sides of MatMul and Gemm become compressed ones, of 8 or 4 bits in groups or of 16 bits.

    Where that is bf16, convolutions of float32 by constants and products of two computed values get it as their
    `precision`, to which they may round.
    """
    editor = Editor(graph)
    rounded = storage.kind == "bf16" and _allow_rounding(editor, storage.only)
    made: dict[tuple[Value, bool], Value] = {}
    for node, source, swapped, turned in _products(editor.nodes(), storage.smallest):
        if storage.only is not None and source.name not in storage.only:
            continue
        if (source, turned) not in made:
            array = np.asarray(source.data)
            matrix = compressed(array.T if turned else array, storage)
            if matrix is None:
                continue
            made[source, turned] = editor.constant(f"{source.name}/{storage.kind}", matrix)
        if swapped:
            node.attributes = {**node.attributes, "transB": 0}
        editor.set_input(node, 1, made[source, turned])
    return editor.finish() or rounded


def _allow_rounding(editor: Editor, only: frozenset[str] | None) -> bool:
    """Gives nodes their precision; whether there are any."""
    found = [node for node in _convolutions(editor.nodes()) if only is None or node.require(1).name in only]
    if only is None:
        found += [node for node in editor.nodes() if is_onnx(node, "MatMul") and all_f32(*node.inputs)]
    for node in found:
        node.attributes = {**node.attributes, "precision": "bf16"}
    return bool(found)


def errors_of(graph: Graph) -> dict[str, float]:
    """By the names of weights that have fewer bits, or will be rounded, what that loses of them; see `Compressed`."""
    found = {}
    for value in graph.constants():
        if isinstance(value.constant, Compressed) and value.constant.error is not None:
            found[value.name.rpartition("/")[0]] = value.constant.error
    for node in _convolutions(graph.nodes):
        if "precision" in node.attributes:
            array = np.asarray(node.require(1).data)
            rounded = array.astype(Type.bf16.to_dtype()).astype(np.float32)
            found[node.require(1).name] = _relative(rounded.reshape(-1), array.reshape(-1))
    return found


def _suits(value: Value, smallest: int) -> bool:
    return (
        value.element_type is Type.f32 and value.constant is not None and value.constant.ndim == 2
        and value.constant.size >= smallest and not isinstance(value.constant, Compressed)
    )  # fmt: skip


def compressed(array: np.ndarray, storage: WeightStorage) -> Compressed | None:
    """A float32 matrix [K, N] in fewer bits; None where its numbers are not finite or leave float16."""
    size = np.abs(array).max()
    if not np.isfinite(size) or (storage.kind == "f16" and size > np.finfo(np.float16).max):
        return None
    make = {"u8": _bytes, "u4": _nibbles}.get(storage.kind)
    if make is None:
        numbers = array.astype(Type(storage.kind).to_dtype())
        return _with_error(partial(Compressed, storage.kind, numbers), array)
    groups = -(-len(array) // storage.group)
    padded = np.zeros((groups * storage.group, array.shape[1]), np.float32)
    padded[: len(array)] = array
    numbers, scales, zeros = make(padded.reshape(groups, storage.group, -1))
    numbers = numbers.reshape(padded.shape)[: len(array)]
    how = partial(Compressed, storage.kind, numbers, storage.group, scales, zeros, storage.quantises_rows)
    return _with_error(how, array)


def _with_error(make: partial[Compressed], array: np.ndarray) -> Compressed:
    return make(error=_relative(np.asarray(make()), array))


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The root mean square of the differences over that of what is wanted."""
    whole = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(found - wanted)) / whole if whole else 0.0


def _bytes(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Symmetric: the largest of a group is 127 steps from zero."""
    scales = _scale(np.abs(groups).max(1), 127)
    numbers = np.rint(groups / scales[:, None]) + np.float32(128)
    return numbers.astype(np.uint8), scales, 128


def _nibbles(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """15 steps from the least of a group, or 0, to the largest, or 0."""
    least, largest = np.minimum(groups.min(1), 0), np.maximum(groups.max(1), 0)
    scales = _scale(largest - least, 15)
    zeros = np.rint(-least / scales)
    numbers = np.clip(np.rint(groups / scales[:, None]) + zeros[:, None], 0, 15)
    return numbers.astype(np.uint8), scales, zeros.astype(np.uint8)


def _scale(ranges: np.ndarray, steps: int) -> np.ndarray:
    """Of groups of zeros, and of numbers too small for a scale, 1: these become zero."""
    tiny = np.finfo(np.float32).tiny
    return np.where(ranges / steps > tiny, ranges / np.float32(steps), np.float32(1)).astype(np.float32)
