"""What operators do to the batch axis: rules that the rows of `traits` name.

A value is split when it consists of equal parts along one axis, each of which depends on one sample of the batch only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from cpuruntime.graph import Node, Value

Axes = Sequence[int | None]
"""For each input of a node the axis along which it is split, None for one that is not."""

EXTENTS = -1
"""In place of an axis: the value is no part of a batch, but is computed from its extents, and so not the same for one
sample. Rules are not asked about such inputs."""

Rule = Callable[[Node, Axes], int | list[int] | None]
"""The axis along which all outputs, or each of them, are split when at least one input is; None if samples are mixed.

The node's outputs have static shapes.
"""


def mixes(node: Node, axes: Axes) -> None:
    """The result depends on all samples, or which parts of it belong to one sample is not known."""
    return None


def extents(node: Node, axes: Axes) -> int:
    """Shape and Size."""
    return EXTENTS


def elementwise(node: Node, axes: Axes) -> int | None:
    """Inputs broadcast to the result: their axes of samples meet, and what is not split has one extent for all."""
    rank = len(node.outputs[0].static_shape)
    inputs = [(value.shape, axis) for value, axis in zip(node.inputs, axes) if value is not None]
    if any(shape is None for shape, _ in inputs):
        return None
    found = {axis + rank - len(shape) for shape, axis in inputs if shape is not None and axis is not None}
    axis = found.pop()
    for shape, split in inputs:
        own = axis - rank + len(shape or ())
        if own >= 0 and shape and shape[own] != (1 if split is None else node.outputs[0].static_shape[axis]):
            return None
    return None if found else axis


def expanded(node: Node, axes: Axes) -> int | None:
    """Data is repeated along other axes than that of samples."""
    rank, axis = len(node.outputs[0].static_shape), axes[0]
    if axis is None or not _only(axes, 0):
        return None
    moved = axis + rank - _rank(node.inputs[0])
    return moved if node.outputs[0].static_shape[moved] == _extent(node, 0, axis) else None


def _only(axes: Axes, *places: int) -> bool:
    """Whether the inputs at `places` are split and no others."""
    return all((axis is not None) == (place in places) for place, axis in enumerate(axes))


def _rank(value: Value | None) -> int:
    """The rank of an input; 0 where it is unknown, so that no axis is in it."""
    return 0 if value is None or value.shape is None else len(value.shape)


def _extent(node: Node, place: int, axis: int | None) -> int | None:
    """The extent of an input along an axis, None where it is unknown."""
    value = node.input(place)
    return None if axis is None or value is None or value.shape is None else value.shape[axis]


def images(node: Node, axes: Axes) -> int | None:
    """Only the data is split; the operator works within what lies beneath the first axis."""
    return 0 if axes[0] == 0 and _only(axes, 0) and len(node.outputs) == 1 else None


def normalised_batch(node: Node, axes: Axes) -> int | None:
    """BatchNormalization, when it is not training."""
    return None if node.attributes.get("training_mode", 0) else images(node, axes)


def same_extent(node: Node, axes: Axes) -> int | None:
    """Data is repeated, but not along the axis of samples."""
    axis = axes[0]
    return axis if _only(axes, 0) and _extent(node, 0, axis) == node.outputs[0].static_shape[axis or 0] else None


def resized(node: Node, axes: Axes) -> int | None:
    """Resize and Upsample; a factor just above one would move samples without changing their number."""
    axis = same_extent(node, axes)
    cropped = node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if axis is None or cropped or node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    given = node.input(2 if node.op_type == "Resize" and node.version >= 11 else 1)
    if given is None or not given.shape or given.shape[0] == 0:
        factors = node.attributes.get("scales")
        return axis if factors is None or factors[axis] == 1 else None
    resized_axes = [each % _rank(node.inputs[0]) for each in node.attributes.get("axes", range(_rank(node.inputs[0])))]
    if axis not in resized_axes:
        return axis
    return axis if given.constant is not None and given.constant[resized_axes.index(axis)] == 1 else None


def axis_of(node: Node, default: int, rank: int) -> int:
    """The attribute `axis`, from 0 on."""
    axis = int(node.attributes.get("axis", default))
    return axis + rank if axis < 0 else axis


def along(default: int) -> Rule:
    """Data is worked on along the attribute `axis`, which is not that of samples."""

    def rule(node: Node, axes: Axes) -> int | None:
        return axes[0] if _only(axes, 0) and axis_of(node, default, _rank(node.inputs[0])) != axes[0] else None

    return rule


def beneath(default: int) -> Rule:
    """Data is worked on from the attribute `axis` on, behind that of samples."""

    def rule(node: Node, axes: Axes) -> int | None:
        axis = axes[0]
        first = axis_of(node, default, _rank(node.inputs[0]))
        return axis if _only(axes, 0) and axis is not None and axis < first else None

    return rule


def softmax(node: Node, axes: Axes) -> int | None:
    """Along one axis, before opset 13 from an axis on."""
    return along(-1)(node, axes) if node.version >= 13 else beneath(1)(node, axes)


def cumulative(node: Node, axes: Axes) -> int | None:
    """Along the axis that the second input names."""
    given = node.inputs[1]
    if given is None or given.constant is None or not _only(axes, 0):
        return None
    return axes[0] if int(given.constant.reshape(-1)[0]) % _rank(node.inputs[0]) != axes[0] else None


def reduced(node: Node, axes: Axes) -> int | None:
    """The axes that an attribute or the second input names are reduced or removed; the axis of samples is not."""
    return _without(node, axes, _named_axes(node, _rank(node.inputs[0])))


def reduced_axis(node: Node, axes: Axes) -> int | None:
    """ArgMax and ArgMin, which reduce one axis."""
    return _without(node, axes, [axis_of(node, 0, _rank(node.inputs[0]))])


def _without(node: Node, axes: Axes, gone: list[int] | None) -> int | None:
    axis = axes[0]
    if gone is None or axis is None or axis in gone or not _only(axes, 0):
        return None
    keeps = node.op_type != "Squeeze" and node.attributes.get("keepdims", 1)
    return axis if keeps else axis - sum(each < axis for each in gone)


def unsqueezed(node: Node, axes: Axes) -> int | None:
    """New axes come before or behind that of samples."""
    rank = len(node.outputs[0].static_shape)
    new = _named_axes(node, rank)
    if new is None or not _only(axes, 0):
        return None
    return [axis for axis in range(rank) if axis not in new][axes[0] or 0]


def _named_axes(node: Node, rank: int) -> list[int] | None:
    """The axes that an attribute or the second input names, from 0 on; None where they are not known."""
    given, listed = node.attributes.get("axes"), node.input(1)
    if given is None and listed is not None and listed.constant is not None:
        given = listed.constant.reshape(-1).tolist()
    return [axis % rank for axis in given] if given and rank else None


def reshaped(node: Node, axes: Axes) -> int | None:
    """An axis of the result has as many elements before it as that of samples, and so holds the samples in order."""
    value, axis, shape = node.inputs[0], axes[0], node.outputs[0].static_shape
    if not _only(axes, 0) or value is None or not value.is_static or 0 in shape:
        return None
    before = prod(value.static_shape[:axis])
    return next((j for j in range(len(shape)) if shape[j] > 1 and prod(shape[:j]) == before), None)


def transposed(node: Node, axes: Axes) -> int:
    """The axis moves."""
    order = list(node.attributes.get("perm") or range(_rank(node.inputs[0]))[::-1])
    return order.index(axes[0])


def product(left: int = 0, right: int = 1, numbers: Sequence[int] = ()) -> Rule:
    """A product of matrices, whose operands are the inputs `left` and `right`.

    With `numbers`, inputs that must have one element, only the left operand may be split.
    """

    def rule(node: Node, axes: Axes) -> int | None:
        ranks = {place: _rank(node.inputs[place]) for place in (left, right)}
        rank = max(*ranks.values(), 2)
        split = [place for place in ranks if axes[place] is not None]
        plain = all((value := node.input(place)) is None or value.shape in ((), (1,)) for place in numbers)
        if 0 in ranks.values() or not _only(axes, *split) or not plain or (numbers and right in split):
            return None
        found = set()
        for place in split:  # in the product, where a vector is a row on the left and a column on the right
            vector = place == left and ranks[place] == 1
            found.add((axes[place] or 0) + rank - max(ranks[place], 2) + vector)
        axis = found.pop()
        inner, is_batch = {left: rank - 1, right: rank - 2}, axis < rank - 2
        if found or any(axis == inner[place] for place in split) or (len(split) > 1 and not is_batch):
            return None
        for place in ranks if is_batch else ():
            own = axis - rank + ranks[place]
            extent = node.outputs[0].static_shape[axis] if place in split else 1
            if own >= 0 and _extent(node, place, own) != extent:
                return None
        return axis - (axis == rank - 1 and ranks[left] == 1)

    return rule


def general_product(node: Node, axes: Axes) -> int | None:
    """Gemm: rows of the first matrix or columns of the second are samples, and the bias is one for all."""
    transposed_a, transposed_b = node.attributes.get("transA", 0), node.attributes.get("transB", 0)
    if _only(axes, 0) and axes[0] == (1 if transposed_a else 0):
        axis = 0
    elif _only(axes, 1) and axes[1] == (0 if transposed_b else 1):
        axis = 1
    else:
        return None
    bias = node.input(2)
    index = axis - 2 + _rank(bias)
    return axis if bias is None or index < 0 or _extent(node, 2, index) == 1 else None


def einsum(node: Node, axes: Axes) -> int | None:
    """One letter counts samples: that of all split operands, of the result, and of no other operand."""
    terms, arrow, result = node.attributes["equation"].replace(" ", "").partition("->")
    operands = terms.split(",")
    if "." in terms or len(operands) != len(axes):
        return None
    if not arrow:
        result = "".join(sorted(letter for letter in set(terms) - {","} if terms.count(letter) == 1))
    letters = {operand[axis] for operand, axis in zip(operands, axes) if axis is not None}
    letter = letters.pop()
    meets = [operand.count(letter) == (axis is not None) for operand, axis in zip(operands, axes)]
    return result.index(letter) if not letters and letter in result and all(meets) else None


def concatenated(node: Node, axes: Axes) -> int | None:
    """All inputs are split along one axis, and joined along another."""
    axis = axes[0]
    same = axis is not None and all(each == axis for each in axes)
    return axis if same and axis_of(node, 0, _rank(node.inputs[0])) != axis else None


def gathered(node: Node, axes: Axes) -> int | None:
    """Slices of one table by indices that are split, or slices of split data along another axis."""
    axis = axis_of(node, 0, _rank(node.inputs[0]))
    data, indices = axes
    if data is None:
        return axis + (indices or 0)
    if indices is not None or axis == data:
        return None
    return data if data < axis else data + _rank(node.inputs[1]) - 1


def gathered_elements(node: Node, axes: Axes) -> int | None:
    """Elements along an axis by an index each."""
    axis = axis_of(node, 0, _rank(node.inputs[0]))
    if axes[0] is None:
        return axes[1] if axes[1] == axis else None
    same = axes[0] == axes[1] != axis and _extent(node, 0, axes[0]) == _extent(node, 1, axes[0])
    return axes[0] if same else None


def scattered_elements(node: Node, axes: Axes) -> int | None:
    """Updates along an axis by an index each: data, indices and updates of one sample belong together."""
    axis = axes[0]
    if axis is None or any(each != axis for each in axes) or axis == axis_of(node, 0, _rank(node.inputs[0])):
        return None
    return axis if len({_extent(node, place, axis) for place in range(3)}) == 1 else None


def gathered_slices(node: Node, axes: Axes) -> int | None:
    """GatherND: tuples of indices that are split, or data that is split along an axis that they do not index."""
    last = _extent(node, 1, -1)
    batch_dims = node.attributes.get("batch_dims", 0)
    data, indices = axes
    if last is None:
        return None
    if data is None:
        return indices if indices is not None and batch_dims <= indices < _rank(node.inputs[1]) - 1 else None
    if indices is not None:
        return data if data == indices < batch_dims else None
    beneath_slice = data - batch_dims - last
    return _rank(node.inputs[1]) - 1 + beneath_slice if beneath_slice >= 0 else None


def scattered_slices(node: Node, axes: Axes) -> int | None:
    """ScatterND: the slices that are written are split, and the tuples of indices are the same for all samples."""
    last, data, updates = _extent(node, 1, -1), axes[0], axes[2]
    if last is None or data is None or not _only(axes, 0, 2) or data < last:
        return None
    return data if updates == _rank(node.inputs[1]) - 1 + data - last else None


def one_hot(node: Node, axes: Axes) -> int | None:
    """A new axis comes before or behind that of samples."""
    axis = axes[0]
    if axis is None or not _only(axes, 0):
        return None
    return axis + (axis_of(node, -1, _rank(node.inputs[0]) + 1) <= axis)


def triangle(node: Node, axes: Axes) -> int | None:
    """Matrices of the last two axes."""
    return axes[0] if _only(axes, 0) and (axes[0] or 0) < _rank(node.inputs[0]) - 2 else None


def sliced(node: Node, axes: Axes) -> int | None:
    """Other axes than that of samples are cut."""
    listed = node.input(3)
    given = node.attributes.get("axes") if listed is None else None if listed.constant is None else listed.constant
    rank = _rank(node.inputs[0])
    return axes[0] if given is not None and _only(axes, 0) and axes[0] not in [a % rank for a in given] else None


def padded(node: Node, axes: Axes) -> int | None:
    """Other axes than that of samples are padded."""
    axis, amounts, rank = axes[0], node.input(1), _rank(node.inputs[0])
    given = node.attributes.get("pads") if amounts is None else None if amounts.constant is None else amounts.constant
    if given is None or axis is None or node.input(3) is not None or not _only(axes, 0):
        return None
    return None if given[axis] or given[axis + rank] else axis


def dropout(node: Node, axes: Axes) -> int | None:
    """Dropout of inference."""
    return axes[0] if node.input(2) is None and _only(axes, 0) else None


def quantised(node: Node, axes: Axes) -> int | None:
    """Scales are numbers for all elements, or lie along another axis than that of samples."""
    if not _only(axes, 0):
        return None
    scale, rank = node.inputs[1], _rank(node.inputs[0])
    if scale is not None and scale.shape in ((), (1,)):
        return axes[0]
    return axes[0] if _rank(scale) == 1 and axis_of(node, 1, rank) != axes[0] else None


def sampled_grid(node: Node, axes: Axes) -> int | None:
    """GridSample: an image and its grid."""
    return 0 if list(axes) == [0, 0] else None


def recurrent(node: Node, axes: Axes) -> list[int] | None:
    """LSTM, GRU and RNN: sequences, their lengths and initial states are split along their batch axis."""
    first = node.attributes.get("layout", 0)
    wanted = {0: 0 if first else 1, 4: 0, 5: 0 if first else 1, 6: 0 if first else 1}
    for place, axis in enumerate(axes):
        if axis != (wanted.get(place) if node.inputs[place] is not None else None):
            return None
    return [0] * 3 if first else [2, 1, 1]


def unsplit(node: Node, axes: Axes) -> None:
    """Operators that passes make: batches are split before."""
    return None
