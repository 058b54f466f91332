"""Functions of one value of bytes that end in bytes become tables."""

from __future__ import annotations

import numpy as np

from cpuruntime.errors import Error
from cpuruntime.graph import Node, Value
from cpuruntime.operators import shape_inference
from cpuruntime.operators.evaluation.quantised import TABLE as QUANTISED
from cpuruntime.operators.traits import traits_of
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_internal, is_onnx
from cpuruntime.passes.quantise.scales import BYTES

MOST_NODES = 32
"""Of one table; arbitrary."""


@sweep
def run(editor: Editor, node: Node) -> None:
    """DequantizeLinear, elementwise operators of one tensor and numbers, QuantizeLinear -> ByteTable: its 256 results
    are those of the operators, evaluated."""
    output = node.outputs[0]
    if not is_onnx(node, "QuantizeLinear") or output.element_type not in BYTES or not output.is_static:
        return
    chain: list[Node] = []
    sources: set[Value] = set()
    if not _collect(node, output.static_shape, chain, sources) or len(sources) != 1:
        return
    (source,) = sources
    every = np.arange(256, dtype=np.uint8).view(source.element_type.to_dtype())
    try:
        table = _evaluated(chain, source, every)
    except Error:
        return  # a later pass says what is wrong
    if table.shape != every.shape or table.dtype != output.element_type.to_dtype():
        return
    constant = editor.constant(f"{node.name}/table", table)
    merged = [one for one in chain if not is_onnx(one, "DequantizeLinear")]
    editor.replace(node, internal("ByteTable", node, [source, constant], [output], merged=merged))


def _collect(node: Node, shape: tuple[int, ...], chain: list[Node], sources: set[Value]) -> bool:
    """Adds to `chain` what `node` is computed by, in order, and to `sources` the bytes it starts from. Whether the node
    is an elementwise function of one value of `shape` and of numbers."""
    if node in chain:
        return True
    if len(node.outputs) != 1 or node.outputs[0].shape != shape or len(chain) >= MOST_NODES:
        return False
    quantised = is_onnx(node, "DequantizeLinear", "QuantizeLinear")
    if not quantised and not is_internal(node, "ByteTable") and not (node.domain == "" and traits_of(node).elementwise):
        return False
    if node.attributes.get("block_size", 0):
        return False
    inputs = node.inputs[:1] if is_internal(node, "ByteTable") else node.inputs
    for value in inputs:
        if value is None or (value.constant is not None and value.constant.size == 1):
            continue
        is_start = is_onnx(node, "DequantizeLinear") or is_internal(node, "ByteTable")
        maker = value.producer
        if maker is not None and _collect_all(maker, shape, chain, sources):
            continue
        if not is_start or value.constant is not None or value.element_type not in BYTES or value.shape != shape:
            return False
        sources.add(value)
        if len(sources) > 1:
            return False
    chain.append(node)
    return True


def _collect_all(node: Node, shape: tuple[int, ...], chain: list[Node], sources: set[Value]) -> bool:
    """As `_collect`, and without a trace where it fails."""
    found, starts = list(chain), set(sources)
    if _collect(node, shape, found, starts):
        chain[:] = found
        sources |= starts
        return True
    return False


def _evaluated(chain: list[Node], source: Value, every: np.ndarray) -> np.ndarray:
    """The last result for each byte."""
    arrays = {source: every}

    def array(value: Value | None) -> np.ndarray | None:
        if value is None or value in arrays:
            return None if value is None else arrays[value]
        return value.data if value.data.size > 1 else value.data.reshape(())

    for node in chain:
        if is_internal(node, "ByteTable"):
            result = QUANTISED["ByteTable"](node, [arrays[node.require(0)], node.require(1).data])
        else:
            with np.errstate(all="ignore"):
                (result,) = shape_inference.evaluate(node, [array(value) for value in node.inputs])
        arrays[node.outputs[0]] = result
    return arrays[chain[-1].outputs[0]]
