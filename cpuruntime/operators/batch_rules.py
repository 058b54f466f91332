"""What operators do to the batch axis: rules that the rows of `traits` name.

A rule labels axes as an equation of Einsum does. An axis can be that of samples where its label stands once in each
input that is split, in no other input, and once in each result; its samples then stay apart.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from math import prod

from cpuruntime.graph import Node, Value

Term = Sequence[int | str | None]
"""The labels of a value's first axes; None, as beyond the last, where samples would be mixed."""

Terms = tuple[Sequence[Term], Sequence[Term]]
"""Terms of the first inputs; others have no labels. Then those of the outputs; the last stands for further ones."""

Rule = Callable[[Node], Terms | None]
"""The terms of a node whose inputs have known ranks and whose outputs have static shapes; None if it mixes samples."""


def mixes(node: Node) -> None:
    """Results depend on all samples, or it is not known on which, or passes make the operator, when batches are split
    already."""
    return None


def extents(node: Node) -> None:
    """Shape and Size: their results are no part of a batch, but differ between the batch and one sample."""
    return None


def _rank(value: Value | None) -> int:
    return 0 if value is None or value.shape is None else len(value.shape)


def _aligned(value: Value | None) -> list[int | None]:
    """Labels from the last axis on, as values broadcast; none for an axis that is repeated."""
    shape = () if value is None else value.shape or ()
    return [None if extent == 1 else axis - len(shape) for axis, extent in enumerate(shape)]


def _without(rank: int, gone: Container[int]) -> list[int | None]:
    return [None if axis in gone else axis for axis in range(rank)]


def _keeps(term: Term) -> Terms:
    return [term], [term]


def _as_long(node: Node, *places: int) -> list[int | None]:
    """The axes of the result along which these inputs are as long."""
    shapes = [node.inputs[place].shape for place in places]
    ends = enumerate(node.outputs[0].static_shape)
    return [axis if all(shape[axis] == extent for shape in shapes) else None for axis, extent in ends]


def axis_of(node: Node, default: int, rank: int | None = None) -> int:
    """The attribute `axis`, from 0 on."""
    axis = int(node.attributes.get("axis", default))
    return axis + (_rank(node.inputs[0]) if rank is None else rank) if axis < 0 else axis


def _named_axes(node: Node, rank: int, place: int = 1, name: str = "axes") -> list[int] | None:
    """The axes that an attribute or an input names, from 0 on; None where they are not known."""
    given, listed = node.attributes.get(name), node.input(place)
    if given is None and listed is not None and listed.constant is not None:
        given = listed.constant.reshape(-1).tolist()
    return [axis % rank for axis in given] if given and rank else None


def elementwise(node: Node) -> Terms:
    """Inputs broadcast to the result."""
    return [_aligned(value) for value in node.inputs], [range(-_rank(node.outputs[0]), 0)]


def expanded(node: Node) -> Terms:
    """The first input broadcasts to the result."""
    return [_aligned(node.inputs[0])], [range(-_rank(node.outputs[0]), 0)]


def repeated(node: Node) -> Terms:
    """Tile."""
    return [range(_rank(node.inputs[0]))], [_as_long(node, 0)]


def images(node: Node) -> Terms | None:
    """The operator works within what lies beneath the first axis."""
    return _keeps([0]) if len(node.outputs) == 1 and not node.attributes.get("training_mode", 0) else None


def sampled_grid(node: Node) -> Terms:
    """GridSample: an image and its grid."""
    return [[0], [0]], [[0]]


def resized(node: Node) -> Terms | None:
    """Resize and Upsample; a factor just above one would move samples without changing their number."""
    attributes, rank = node.attributes, _rank(node.inputs[0])
    cropped = attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if cropped or attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    given = node.input(2 if node.op_type == "Resize" and node.version >= 11 else 1)
    axes = [axis % rank for axis in attributes.get("axes", range(rank))]
    if given is None or not given.shape or given.shape[0] == 0:
        factors = attributes.get("scales", [1] * rank)
    else:
        factors = [None] * rank if given.constant is None else given.constant
    return [_without(rank, [axis for axis, factor in zip(axes, factors) if factor != 1])], [_as_long(node, 0)]


def along(default: int) -> Rule:
    """Data is worked on along the attribute `axis`."""
    return lambda node: _keeps(_without(_rank(node.inputs[0]), [axis_of(node, default)]))


def beneath(default: int) -> Rule:
    """Data is worked on from the attribute `axis` on."""
    return lambda node: _keeps(range(axis_of(node, default)))


def softmax(node: Node) -> Terms | None:
    """Along one axis, before opset 13 from an axis on."""
    return along(-1)(node) if node.version >= 13 else beneath(1)(node)


def concatenated(node: Node) -> Terms:
    """All inputs are joined along an axis."""
    term = _without(_rank(node.inputs[0]), [axis_of(node, 0)])
    return [term] * len(node.inputs), [term]


def worked_on(place: int, name: str = "axes") -> Rule:
    """CumSum and Slice: data is worked on along the axes that an input or the attribute `name` lists."""

    def rule(node: Node) -> Terms | None:
        axes = _named_axes(node, _rank(node.inputs[0]), place, name)
        return None if axes is None else _keeps(_without(_rank(node.inputs[0]), axes))

    return rule


def padded(node: Node) -> Terms | None:
    """Axes are padded, those that are not stay as they are."""
    amounts, rank = node.input(1), _rank(node.inputs[0])
    given = node.attributes.get("pads") if amounts is None else amounts.constant
    if given is None or node.input(3) is not None:
        return None
    return _keeps([None if given[axis] or given[axis + rank] else axis for axis in range(rank)])


def triangle(node: Node) -> Terms:
    """Matrices of the last two axes."""
    return _keeps(range(_rank(node.inputs[0]) - 2))


def dropout(node: Node) -> Terms | None:
    """Dropout of inference."""
    return _keeps(range(_rank(node.inputs[0]))) if node.input(2) is None else None


def quantised(node: Node) -> Terms | None:
    """Scales are numbers for all elements, or lie along an axis."""
    scale, rank = node.inputs[1].shape, _rank(node.inputs[0])
    if len(scale) > 1:
        return None
    along_axis: Term = () if scale in ((), (1,)) else [axis_of(node, 1)]
    return [range(rank), along_axis, along_axis], [range(rank)]


def reduced(node: Node) -> Terms | None:
    """The axes that attributes or the second input name are reduced or removed; ArgMax and ArgMin reduce one."""
    is_search = node.op_type in ("ArgMax", "ArgMin")
    gone = [axis_of(node, 0)] if is_search else _named_axes(node, _rank(node.inputs[0]))
    if gone is None:
        return None
    left = _without(_rank(node.inputs[0]), gone)
    keeps = node.op_type != "Squeeze" and node.attributes.get("keepdims", 1)
    return [left], [left if keeps else [axis for axis in left if axis is not None]]


def extended(node: Node) -> Terms | None:
    """Unsqueeze and OneHot: new axes come between those that there are."""
    rank = _rank(node.outputs[0])
    new = [axis_of(node, -1, rank)] if node.op_type == "OneHot" else _named_axes(node, rank)
    return None if new is None else ([[axis for axis in range(rank) if axis not in new]], [_without(rank, new)])


def reshaped(node: Node) -> Terms | None:
    """Axes with as many elements before them hold samples in one order."""
    shapes = [value.static_shape if value.is_static else () for value in (node.inputs[0], node.outputs[0])]
    if any(0 in shape for shape in shapes):
        return None
    before, after = ([prod(s[:j]) if s[j] > 1 else None for j in range(len(s))] for s in shapes)
    return [before], [after]


def transposed(node: Node) -> Terms:
    """The axes move."""
    axes = range(_rank(node.inputs[0]))
    return [axes], [node.attributes.get("perm") or axes[::-1]]


def product(right: int = 1, left_scales: Sequence[int] = (), right_scales: Sequence[int] = ()) -> Rule:
    """A product of matrices, the first input and that at `right`, with parameters for each row or column of them."""

    def rule(node: Node) -> Terms:
        a, b = node.inputs[0], node.inputs[right]
        terms: list[Term] = [()] * len(node.inputs)
        terms[0] = [*_aligned(a)[:-2], -2, None] if _rank(a) > 1 else ()
        terms[right] = [*_aligned(b)[:-2], None, -1] if _rank(b) > 1 else ()
        for places, of, label in ((left_scales, 0, -2), (right_scales, right, -1)):
            for place in places:
                if (value := node.input(place)) is not None and value.shape not in ((), (1,)):
                    terms[place] = [label] if _rank(value) == 1 else terms[of]
        batch = max(_rank(a), _rank(b), 2) - 2
        return terms, [[*range(-batch - 2, -2), *[-2] * (_rank(a) > 1), *[-1] * (_rank(b) > 1)]]

    return rule


def general_product(node: Node) -> Terms:
    """Gemm."""
    left, right = [-2, None], [None, -1]
    turned = (node.attributes.get(name, 0) for name in ("transA", "transB"))
    terms = [term[::-1] if turn else term for term, turn in zip((left, right), turned)]
    return [*terms, _aligned(node.input(2))], [[-2, -1]]


def einsum(node: Node) -> Terms | None:
    """The terms of the equation."""
    terms, arrow, result = node.attributes["equation"].replace(" ", "").partition("->")
    if "." in terms:
        return None
    if not arrow:
        result = "".join(sorted(letter for letter in set(terms) - {","} if terms.count(letter) == 1))
    return terms.split(","), [result]


def gathered(node: Node) -> Terms:
    """Slices of data by indices."""
    rank, indices = _rank(node.inputs[0]), range(-_rank(node.inputs[1]), 0)
    axis = axis_of(node, 0)
    return [_without(rank, [axis]), indices], [[*range(axis), *indices, *range(axis + 1, rank)]]


def gathered_elements(node: Node) -> Terms:
    """Elements along an axis by an index each."""
    rank, axis = _rank(node.inputs[0]), axis_of(node, 0)
    result = _as_long(node, 0)
    result[axis] = axis
    return [_without(rank, [axis]), range(rank)], [result]


def scattered_elements(node: Node) -> Terms:
    """Updates along an axis by an index each."""
    term = _without(_rank(node.inputs[0]), [axis_of(node, 0)])
    return [term] * 3, [_as_long(node, 1, 2)]


def gathered_slices(node: Node) -> Terms | None:
    """GatherND: slices of data by tuples of indices, for each index of the leading `batch_dims`."""
    last, rank, common = node.inputs[1].shape[-1], _rank(node.inputs[0]), range(node.attributes.get("batch_dims", 0))
    if last is None:
        return None
    indices = [*common, *range(len(common) + 1 - _rank(node.inputs[1]), 0)]
    beneath_slice = range(len(common) + last, rank)
    return [[*common, *[None] * last, *beneath_slice], indices], [[*indices, *beneath_slice]]


def scattered_slices(node: Node) -> Terms | None:
    """ScatterND: slices are written to data by tuples of indices."""
    last, rank = node.inputs[1].shape[-1], _rank(node.inputs[0])
    if last is None:
        return None
    data, outer = _without(rank, range(last)), [None] * (_rank(node.inputs[1]) - 1)
    return [data, (), [*outer, *range(last, rank)]], [data]


def recurrent(node: Node) -> Terms:
    """LSTM, GRU and RNN: sequences, their lengths and initial states; all outputs, final states, and cells."""
    first = node.attributes.get("layout", 0)
    state = [0] if first else [None, 0]
    return [state, (), (), (), [0], state, state], [state if first else [None, None, 0], state]
