"""What each operator means, one row an operator, whichever device runs it.

A new operator needs a row here. An operator without one has the defaults of `Traits`: nothing is known of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from cpuruntime.graph import Node
from cpuruntime.operators import batch_rules as batch
from cpuruntime.operators import identity_rules as identities
from cpuruntime.operators import input_rules, work_rules
from cpuruntime.operators import sign_rules as signs

DOMAIN = "cpuruntime"
"""The domain of the operators that passes make; `passes.operators` describes them."""


class Folded(IntEnum):
    """When results are computed before a model runs; each includes those before it."""

    NEVER = 0
    CONSTANTS = 1
    """When all inputs are constants."""
    SHAPES = 2
    """Also by shape inference, from small integers that follow from shapes."""
    PARTLY = 3
    """Also when only some of these integers are known, since the operator only moves them."""


class AxisRange(Enum):
    """Where `axis` and `axes` may point: at a dimension of the first input, one behind its last, or elsewhere."""

    WITHIN = 0
    BEHIND = 1
    ELSEWHERE = 2


@dataclass(frozen=True)
class Traits:
    """One operator.

    batch: what it does to the axis of samples; None where that is not known, which is as if it mixed them.
    elementwise: each element of the result depends on one element of each input, after broadcasting.
    sign: when no result is negative; None where that is not known.
    finite: it gives a number for any numbers: the unused lanes of blocked tensors, which may hold any, stay numbers.
    epilogue: the attributes that are arguments of its function, where that can be applied to the result of a
        convolution or product before the store; None where it cannot.
    multiply_adds: how many it takes; None for operators that do about one operation for each element of the results.
    weight_reads: how often it reads its weights for one batch; None for once.
    view: it moves no data.
    folded: when its results are computed before the model runs.
    grows: its results may be far larger than its inputs.
    identity: the input that it returns as it is; None where it computes something.
    inputs: a check of the inputs' shapes besides those of ONNX's own inference.
    axis: where its attribute `axis` or `axes` may point.
    crops: its attribute `pads` may be negative.
    shape_input: the index of an input that says nothing but the shape of the result; None where there is none.
    shape_of_first: its results have the shape of the first input, which ONNX's own inference does not say.
    """

    batch: batch.Rule | None = None
    elementwise: bool = False
    sign: signs.Rule | None = None
    finite: bool = False
    epilogue: tuple[str, ...] | None = None
    multiply_adds: work_rules.Rule | None = None
    weight_reads: work_rules.Rule | None = None
    view: bool = False
    folded: Folded = Folded.CONSTANTS
    grows: bool = False
    identity: identities.Rule | None = None
    inputs: input_rules.Rule | None = None
    axis: AxisRange = AxisRange.WITHIN
    crops: bool = False
    shape_input: int | None = None
    shape_of_first: bool = False


def _each(*, shapes: bool = False, **others: Any) -> Traits:
    """An elementwise operator; with `shapes`, shapes are computed with it."""
    folded = Folded.SHAPES if shapes else Folded.CONSTANTS
    return Traits(batch.elementwise, elementwise=True, **{"folded": folded, **others})


def _move(rule: batch.Rule, folded: Folded = Folded.CONSTANTS, **others: Any) -> Traits:
    """An operator whose results are elements of its first input."""
    return Traits(rule, **{"sign": signs.as_first, "folded": folded, **others})


_NEVER, _SHAPES, _PARTLY = Folded.NEVER, Folded.SHAPES, Folded.PARTLY

_ELEMENTWISE = {
    "Abs": _each(finite=True, shapes=True, sign=signs.never),
    "Acos": _each(),
    "Acosh": _each(),
    "Add": _each(finite=True, shapes=True, identity=identities.neutral(0, on_left=True)),
    "And": _each(shapes=True),
    "Asin": _each(),
    "Asinh": _each(finite=True),
    "Atan": _each(finite=True),
    "Atanh": _each(),
    "BitShift": _each(),
    "BitwiseAnd": _each(),
    "BitwiseNot": _each(),
    "BitwiseOr": _each(),
    "BitwiseXor": _each(),
    "Cast": _each(folded=_PARTLY, identity=identities.same_type),
    "CastLike": _each(identity=identities.same_type),
    "Ceil": _each(finite=True, shapes=True),
    "Celu": _each(finite=True),
    "Clip": _each(finite=True, sign=signs.clipped, epilogue=("min", "max")),
    "Cos": _each(finite=True),
    "Cosh": _each(),
    "Div": _each(shapes=True, identity=identities.neutral(1, on_left=False)),
    "Elu": _each(finite=True),
    "Equal": _each(shapes=True),
    "Erf": _each(finite=True),
    "Exp": _each(sign=signs.never),
    "Floor": _each(finite=True, shapes=True),
    "Gelu": _each(finite=True, epilogue=()),
    "Greater": _each(shapes=True),
    "GreaterOrEqual": _each(shapes=True),
    "HardSigmoid": _each(finite=True, sign=signs.never, epilogue=("alpha", "beta")),
    "HardSwish": _each(finite=True, epilogue=()),
    "Identity": _each(folded=_PARTLY, view=True, sign=signs.as_first, identity=identities.always),
    "IsInf": _each(),
    "IsNaN": _each(),
    "LeakyRelu": _each(finite=True, epilogue=("alpha",)),
    "Less": _each(shapes=True),
    "LessOrEqual": _each(shapes=True),
    "Log": _each(),
    "Max": _each(finite=True, shapes=True, sign=signs.as_all, identity=identities.only_input),
    "Mean": _each(),
    "Min": _each(finite=True, shapes=True, sign=signs.as_all, identity=identities.only_input),
    "Mish": _each(finite=True),
    "Mod": _each(shapes=True),
    "Mul": _each(finite=True, shapes=True, identity=identities.neutral(1, on_left=True)),
    "Neg": _each(finite=True, shapes=True),
    "Not": _each(shapes=True),
    "Or": _each(shapes=True),
    "PRelu": _each(finite=True),
    "Pow": _each(identity=identities.neutral(1, on_left=False)),
    "Reciprocal": _each(),
    "Relu": _each(finite=True, sign=signs.never, epilogue=()),
    "Round": _each(finite=True, shapes=True),
    "Selu": _each(finite=True),
    "Shrink": _each(finite=True),
    "Sigmoid": _each(finite=True, sign=signs.never, epilogue=()),
    "Sign": _each(finite=True, shapes=True),
    "Sin": _each(finite=True),
    "Sinh": _each(),
    "Softplus": _each(finite=True, sign=signs.never),
    "Softsign": _each(finite=True),
    "Sqrt": _each(shapes=True, sign=signs.never),
    "Sub": _each(finite=True, shapes=True, identity=identities.neutral(0, on_left=False)),
    "Sum": _each(),
    "Swish": _each(finite=True, epilogue=("alpha",)),
    "Tan": _each(finite=True),
    "Tanh": _each(finite=True, epilogue=()),
    "ThresholdedRelu": _each(finite=True),
    "Where": _each(shapes=True),
    "Xor": _each(),
}

_REDUCTIONS = {
    "ArgMax": Traits(batch.reduced_axis),
    "ArgMin": Traits(batch.reduced_axis),
    "CumSum": Traits(batch.worked_on(1), folded=_SHAPES),
    "Hardmax": Traits(batch.softmax),
    "LogSoftmax": Traits(batch.softmax),
    "ReduceL1": Traits(batch.reduced),
    "ReduceL2": Traits(batch.reduced),
    "ReduceLogSum": Traits(batch.reduced),
    "ReduceLogSumExp": Traits(batch.reduced),
    "ReduceMax": Traits(batch.reduced, folded=_SHAPES),
    "ReduceMean": Traits(batch.reduced),
    "ReduceMin": Traits(batch.reduced, folded=_SHAPES),
    "ReduceProd": Traits(batch.reduced, folded=_SHAPES),
    "ReduceSum": Traits(batch.reduced, folded=_SHAPES),
    "ReduceSumSquare": Traits(batch.reduced),
    "Softmax": Traits(batch.softmax, sign=signs.never),
    "TopK": Traits(batch.along(-1)),
}

_PRODUCTS = {
    "Einsum": Traits(batch.einsum, multiply_adds=work_rules.einsum),
    "Gemm": Traits(batch.general_product, multiply_adds=work_rules.general_product, inputs=input_rules.gemm),
    "MatMul": Traits(batch.product(), multiply_adds=work_rules.product),
    "MatMulInteger": Traits(batch.product(1, (2,), (3,)), multiply_adds=work_rules.product),
    "QLinearMatMul": Traits(batch.product(3, (1, 2), (4, 5)), multiply_adds=work_rules.product),
}

_IMAGES = {
    "AveragePool": Traits(batch.images, sign=signs.as_first),
    "Conv": Traits(batch.images, multiply_adds=work_rules.convolution(), inputs=input_rules.convolution),
    "ConvInteger": Traits(batch.images, multiply_adds=work_rules.convolution(), inputs=input_rules.convolution),
    "ConvTranspose": Traits(
        batch.images, multiply_adds=work_rules.transposed_convolution, inputs=input_rules.convolution, crops=True
    ),
    "DepthToSpace": _move(batch.images),
    "GlobalAveragePool": Traits(batch.images, sign=signs.as_first),
    "GlobalLpPool": Traits(batch.images),
    "GlobalMaxPool": Traits(batch.images, sign=signs.as_first),
    "GridSample": Traits(batch.sampled_grid),
    "LRN": Traits(batch.images),
    "LpPool": Traits(batch.images),
    "MaxPool": Traits(batch.images, sign=signs.max_pooled),
    "MaxUnpool": Traits(crops=True),
    "QLinearConv": Traits(batch.images, multiply_adds=work_rules.convolution(weights=3)),
    "Resize": Traits(batch.resized, shape_input=3, grows=True),
    "RoiAlign": Traits(batch.mixes),
    "SpaceToDepth": _move(batch.images),
    "Upsample": Traits(batch.resized, grows=True),
}

_NORMALISATIONS = {
    "BatchNormalization": Traits(batch.images, inputs=input_rules.batch_normalization),
    "Dropout": Traits(batch.dropout, folded=_NEVER, identity=identities.dropout, shape_of_first=True),
    "GroupNormalization": Traits(batch.images, shape_of_first=True),
    "InstanceNormalization": Traits(batch.images),
    "LayerNormalization": Traits(batch.beneath(-1)),
    "LpNormalization": Traits(batch.along(-1)),
    "MeanVarianceNormalization": Traits(batch.reduced, shape_of_first=True),
    "RMSNormalization": Traits(batch.beneath(-1)),
}

_MOVEMENT = {
    "CenterCropPad": Traits(grows=True),
    "Concat": _move(batch.concatenated, _PARTLY, sign=signs.as_all, identity=identities.only_input),
    "Expand": _move(batch.expanded, _SHAPES, shape_input=1, grows=True, identity=identities.same_shape),
    "Flatten": _move(batch.reshaped, _SHAPES, view=True, axis=AxisRange.BEHIND),
    "Pad": Traits(batch.padded, grows=True, identity=identities.pad, crops=True),
    "Reshape": _move(batch.reshaped, _SHAPES, shape_input=1, view=True),
    "Slice": _move(batch.worked_on(3), _SHAPES, identity=identities.slice_),
    "Split": _move(batch.along(0)),
    "Squeeze": _move(batch.reduced, _PARTLY, view=True),
    "Tile": _move(batch.repeated, _SHAPES, grows=True, identity=identities.same_shape),
    "Transpose": _move(batch.transposed, _SHAPES, identity=identities.transpose),
    "Trilu": _move(batch.triangle),
    "Unsqueeze": _move(batch.unsqueezed, _PARTLY, view=True, axis=AxisRange.ELSEWHERE),
}

_INDEXING = {
    "Gather": _move(batch.gathered, _PARTLY),
    "GatherElements": _move(batch.gathered_elements),
    "GatherND": _move(batch.gathered_slices),
    "OneHot": Traits(batch.one_hot, grows=True, axis=AxisRange.BEHIND),
    "Scatter": Traits(batch.scattered_elements),
    "ScatterElements": Traits(batch.scattered_elements),
    "ScatterND": Traits(batch.scattered_slices, folded=_SHAPES),
}

_RECURRENT = {
    "GRU": Traits(batch.recurrent, multiply_adds=work_rules.recurrent, weight_reads=work_rules.steps),
    "LSTM": Traits(batch.recurrent, multiply_adds=work_rules.recurrent, weight_reads=work_rules.steps),
    "RNN": Traits(batch.recurrent, multiply_adds=work_rules.recurrent, weight_reads=work_rules.steps),
}

_QUANTISATION = {
    "DequantizeLinear": Traits(batch.quantised),
    "DynamicQuantizeLinear": Traits(batch.mixes),
    "QuantizeLinear": Traits(batch.quantised),
}

_SOURCES = {
    "Bernoulli": Traits(batch.mixes, folded=_NEVER),
    "Constant": Traits(view=True),
    "ConstantOfShape": Traits(batch.mixes, folded=_SHAPES),
    "Multinomial": Traits(batch.mixes, folded=_NEVER),
    "NonZero": Traits(batch.mixes, folded=_SHAPES),
    "RandomNormal": Traits(batch.mixes, folded=_NEVER),
    "RandomNormalLike": Traits(batch.mixes, folded=_NEVER),
    "RandomUniform": Traits(batch.mixes, folded=_NEVER),
    "RandomUniformLike": Traits(batch.mixes, folded=_NEVER),
    "Range": Traits(batch.mixes, folded=_SHAPES, grows=True),
    "Shape": Traits(batch.extents, view=True),
    "Size": Traits(batch.extents, folded=_SHAPES),
}

_SUBGRAPHS_AND_SEQUENCES = {
    "ConcatFromSequence": Traits(axis=AxisRange.ELSEWHERE),
    "If": Traits(folded=_NEVER),
    "Loop": Traits(folded=_NEVER),
    "Scan": Traits(folded=_NEVER),
    "SequenceMap": Traits(folded=_NEVER),
    "SplitToSequence": Traits(axis=AxisRange.ELSEWHERE),
}

_MADE_BY_PASSES = {
    "Add": _each(finite=True),
    "Attention": Traits(batch.mixes, multiply_adds=work_rules.attention),
    "ChannelShuffle": _move(batch.mixes),
    "Conv": Traits(batch.mixes, multiply_adds=work_rules.convolution()),
    "ConvTranspose": Traits(batch.mixes, multiply_adds=work_rules.internal_transposed_convolution),
    "Elementwise": Traits(batch.mixes),
    "FullyConnected": Traits(batch.mixes, multiply_adds=work_rules.fully_connected),
    "GroupNorm": Traits(batch.mixes),
    "LayerNorm": Traits(batch.mixes),
    "Reshape": _move(batch.mixes, view=True, identity=identities.same_shape),
    "RmsNorm": Traits(batch.mixes),
    "ScaleShift": Traits(batch.mixes),
    "Silu": _each(finite=True, epilogue=()),
    # Functions that stand in expressions of Elementwise and in epilogues only.
    "GeluTanh": _each(finite=True, epilogue=()),
    "Square": _each(finite=True),
}

_FAMILIES = (
    _ELEMENTWISE, _REDUCTIONS, _PRODUCTS, _IMAGES, _NORMALISATIONS, _MOVEMENT, _INDEXING, _RECURRENT, _QUANTISATION,
    _SOURCES, _SUBGRAPHS_AND_SEQUENCES,
)  # fmt: skip
TRAITS: dict[str, dict[str, Traits]] = {
    "": {op_type: row for family in _FAMILIES for op_type, row in family.items()},
    DOMAIN: _MADE_BY_PASSES,
}
"""The rows by domain and operator."""

_UNKNOWN = Traits()


def traits_of(node: Node) -> Traits:
    """The row of a node's operator."""
    return TRAITS.get(node.domain, {}).get(node.op_type, _UNKNOWN)


def function_traits(name: str) -> Traits:
    """The row of a function by its name in an expression or epilogue, an operator of ONNX or of the passes."""
    return TRAITS[""].get(name) or _MADE_BY_PASSES.get(name, _UNKNOWN)
