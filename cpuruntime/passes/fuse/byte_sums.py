"""Products of bytes with integer matrices that end as bytes -> ByteSums: Pillow's resizing by `cpuruntime.preprocess`.

Cast(u8 -> i32), then along the last axis, the one before, or both: MatMul with a constant, a half added, a division by
a power of two, Max with 0 and Min with 255; then Cast to u8. A transposition in front moves behind, to be absorbed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_onnx

_MOST = np.iinfo(np.int32).max


class _Product(NamedTuple):
    """A product along an axis counted from the end, with the matrix [made, extent]; `nodes` are what it consists of."""

    axis: int
    matrix: np.ndarray
    bits: int
    nodes: list[Node]


@sweep
def run(editor: Editor, node: Node) -> None:
    """The products that follow a Cast."""
    if not is_onnx(node, "Cast"):
        return
    source = node.require(0)
    if source.element_type is not Type.u8 or source.shape is None:
        return
    products: list[_Product] = []
    value = node.outputs[0]
    while value.element_type is Type.i32 and (product := _product(editor, value)):
        products.append(product)
        value = product.nodes[-1].outputs[0]
    last = editor.sole_user(value)
    if not products or last is None or not is_onnx(last, "Cast") or last.outputs[0].element_type is not Type.u8:
        return
    moved = source.producer if editor.sole_user(source) is node and is_onnx(source.producer, "Transpose") else None
    for one in (moved, node, *(each for product in products for each in product.nodes)):
        if one is not None:
            editor.remove(one)
    products[0].nodes.append(node)
    editor.replace(last, *_made(editor, products, source, last, moved))


def _made(editor: Editor, products: list[_Product], source: Value, last: Node, moved: Node | None) -> list[Node]:
    """The nodes that make what `last` makes, of the bytes `source`, or of those that `moved` transposes."""
    made, order = [], list(range(len(source.shape or ())))
    if moved is not None:
        source, order = moved.require(0), list(moved.attributes.get("perm") or reversed(order))
    for index, product in enumerate(products):
        axis, name, is_last = order[product.axis], product.nodes[0].name, index == len(products) - 1
        shape = [len(product.matrix) if i == axis else extent for i, extent in enumerate(source.shape or ())]
        result = last.outputs[0] if is_last and moved is None else editor.value(f"{name}/bytes", Type.u8, shape)
        inputs = [source, editor.constant(f"{name}/weights", product.matrix)]
        attributes, merged = {"axis": axis, "bits": product.bits}, [*product.nodes, *([last] if is_last else [])]
        made.append(internal("ByteSums", product.nodes[0], inputs, [result], attributes, merged))
        source = result
    if moved is not None:
        attributes = {"perm": order}
        made.append(Node("Transpose", moved.name, [source], last.outputs, attributes, "", moved.version, moved.origins))
    return made


def _product(editor: Editor, value: Value) -> _Product | None:
    """The product that reads bytes as i32; None where others read on the way, or sums could leave the range of i32."""
    product = editor.sole_user(value)
    if product is None or not is_onnx(product, "MatMul") or value.shape is None or len(value.shape) < 2:
        return None
    is_left = product.require(0) is value
    matrix = product.require(1 if is_left else 0)
    if matrix.constant is None or matrix.constant.ndim != 2 or 0 in matrix.static_shape:
        return None
    nodes, numbers = [product], []
    for op_type in ("Add", "Div", "Max", "Min"):
        before = nodes[-1].outputs[0]
        user = editor.sole_user(before)
        number = user.input(1) if user is not None and is_onnx(user, op_type) else None
        if user is None or number is None or number.constant is None or number.constant.size != 1:
            return None
        if len(user.inputs) != 2 or user.require(0) is not before or user.outputs[0].shape != before.shape:
            return None
        numbers.append(int(number.data.reshape(())))
        nodes.append(user)
    half, whole, *limits = numbers
    bits = whole.bit_length() - 1
    array = matrix.data.T if is_left else matrix.data
    most = int(np.abs(array.astype(np.int64)).sum(1).max()) * 255 + half
    if bits < 1 or (half, whole, limits) != (1 << (bits - 1), 1 << bits, [0, 255]) or most > _MOST:
        return None
    return _Product(-1 if is_left else -2, np.ascontiguousarray(array), bits, nodes)
