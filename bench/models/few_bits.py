"""Models whose matrix products have weights of 4 or 8 bits, as ONNX Runtime writes them: MatMulNBits."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

DOMAIN, BLOCK = "com.microsoft", 32


def with_few_bits(model: onnx.ModelProto, bits: int, level: int = 0) -> onnx.ModelProto:
    """The model with MatMulNBits in place of each MatMul by an initializer, in blocks of 32 with zero points.

    `level` is their `accuracy_level`: with 4 ONNX Runtime takes the other side as 8-bit integers.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, weights = made.graph, {tensor.name: tensor for tensor in made.graph.initializer}
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            continue
        tensor = weights[node.input[1]]
        matrix = numpy_helper.to_array(tensor)
        inner, columns = matrix.shape
        names = [f"{tensor.name}/{part}" for part in ("numbers", "scales", "zeros")]
        graph.initializer.extend(map(numpy_helper.from_array, _quantised(matrix, bits), names))
        graph.initializer.remove(tensor)
        sizes = dict(K=inner, N=columns, bits=bits, block_size=BLOCK, accuracy_level=level)
        product = helper.make_node(
            "MatMulNBits", [node.input[0], *names], list(node.output), node.name, domain=DOMAIN, **sizes
        )
        node.CopyFrom(product)
    made.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return made


def _quantised(matrix: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of a matrix [K, N], whose K are whole pairs of blocks, their scales and zero points, packed."""
    columns, steps = matrix.shape[1], 2**bits - 1
    blocks = np.ascontiguousarray(matrix.T).reshape(columns, -1, BLOCK)
    least, largest = np.minimum(blocks.min(2), 0), np.maximum(blocks.max(2), 0)
    scales = np.maximum(largest - least, np.float32(1e-10)) / np.float32(steps)
    zeros = np.rint(-least / scales)
    numbers = np.clip(np.rint(blocks / scales[..., None]) + zeros[..., None], 0, steps).astype(np.uint8)
    shifts = _packed(zeros.astype(np.uint8), bits)
    return _packed(numbers, bits), scales.astype(np.float32).reshape(-1), shifts.reshape(-1)


def _packed(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Along the last axis two numbers of 4 bits in a byte, the first in its lower half."""
    return numbers if bits == 8 else numbers[..., ::2] | numbers[..., 1::2] << 4
