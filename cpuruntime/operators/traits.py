"""What each operator means, one row an operator or a few that are alike, whichever device runs them.

An operator needs a row to be read from a model at all: what is not listed here neither runs nor is folded.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, IntEnum
from typing import Any

from cpuruntime.graph import Node
from cpuruntime.operators import batch_rules as batch
from cpuruntime.operators import identity_rules as identities
from cpuruntime.operators import input_rules, work_rules
from cpuruntime.operators import sign_rules as signs
from cpuruntime.records import record

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


@record
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
    cost: nanoseconds that its evaluation on arrays takes for each element of inputs and results, about; None where
        each result may take all inputs.
    identity: the input that it returns as it is; None where it computes something.
    inputs: a check of the inputs' shapes besides those of ONNX's own inference.
    axis: where its attribute `axis` or `axes` may point.
    crops: its attribute `pads` may be negative.
    shape_input: the index of an input that says nothing but the shape of the result; None where there is none.
    parameters: the inputs whose contents decide the shapes of the results, or which part of the node runs.
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
    cost: int | None = None
    identity: identities.Rule | None = None
    inputs: input_rules.Rule | None = None
    axis: AxisRange = AxisRange.WITHIN
    crops: bool = False
    shape_input: int | None = None
    parameters: tuple[int, ...] = ()
    shape_of_first: bool = False


def _each(*, shapes: bool = False, **others: Any) -> Traits:
    """An elementwise operator; with `shapes`, shapes are computed with it."""
    folded = Folded.SHAPES if shapes else Folded.CONSTANTS
    return Traits(batch.elementwise, elementwise=True, **{"folded": folded, "cost": 20, **others})


def _move(rule: batch.Rule, folded: Folded = Folded.CONSTANTS, **others: Any) -> Traits:
    """An operator whose results are elements of its first input."""
    return Traits(rule, **{"sign": signs.as_first, "folded": folded, "cost": 10, **others})


def _rows(op_types: str, row: Traits) -> dict[str, Traits]:
    """The same row for several operators."""
    return dict.fromkeys(op_types.split(), row)


_NEVER, _SHAPES, _PARTLY = Folded.NEVER, Folded.SHAPES, Folded.PARTLY
_UNFOLDED = Traits(folded=_NEVER)

_ELEMENTWISE = {
    **_rows("Acos Acosh Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cosh", _each()),
    **_rows("Asin IsInf IsNaN Log Mean Reciprocal Sinh Sum Xor", _each()),
    **_rows("And Equal Greater GreaterOrEqual Less LessOrEqual Mod Not Or Where", _each(shapes=True)),
    "Erf": _each(finite=True, cost=500),
    **_rows("Asinh Atan Celu Cos Elu Mish PRelu Selu Shrink Sin Softsign Tan ThresholdedRelu", _each(finite=True)),
    **_rows("Ceil Floor Neg Round Sign", _each(finite=True, shapes=True)),
    **_rows("Gelu HardSwish Tanh", _each(finite=True, epilogue=())),
    **_rows("LeakyRelu Swish", _each(finite=True, epilogue=("alpha",))),
    **_rows("Max Min", _each(finite=True, shapes=True, sign=signs.as_all, identity=identities.only_input)),
    **_rows("Relu Sigmoid", _each(finite=True, sign=signs.never, epilogue=())),
    "Abs": _each(finite=True, shapes=True, sign=signs.never),
    "Add": _each(finite=True, shapes=True, identity=identities.neutral(0, on_left=True)),
    "Cast": _each(folded=_PARTLY, identity=identities.same_type),
    "CastLike": _each(identity=identities.same_type),
    "Clip": _each(finite=True, sign=signs.clipped, epilogue=("min", "max")),
    "Div": _each(shapes=True, identity=identities.neutral(1, on_left=False)),
    "Exp": _each(sign=signs.never),
    "HardSigmoid": _each(finite=True, sign=signs.never, epilogue=("alpha", "beta")),
    "Identity": _each(folded=_PARTLY, view=True, sign=signs.as_first, identity=identities.always),
    "Mul": _each(finite=True, shapes=True, identity=identities.neutral(1, on_left=True)),
    "Pow": _each(identity=identities.neutral(1, on_left=False)),
    "Softplus": _each(finite=True, sign=signs.never),
    "Sqrt": _each(shapes=True, sign=signs.never),
    "Sub": _each(finite=True, shapes=True, identity=identities.neutral(0, on_left=False)),
}

_REDUCTIONS = {
    **_rows("ArgMax ArgMin", Traits(batch.reduced, cost=100)),
    **_rows("Hardmax LogSoftmax", Traits(batch.softmax, cost=50)),
    **_rows(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceSumSquare",
        Traits(batch.reduced, cost=20, parameters=(1,)),
    ),
    **_rows(
        "ReduceMax ReduceMin ReduceProd ReduceSum", Traits(batch.reduced, folded=_SHAPES, cost=20, parameters=(1,))
    ),
    **_rows("CumProd CumSum", Traits(batch.worked_on(1), folded=_SHAPES, cost=20)),
    "Softmax": Traits(batch.softmax, sign=signs.never, cost=50),
    "TopK": Traits(batch.along(-1), cost=200, parameters=(1,)),
}

_PRODUCTS = {
    "Einsum": Traits(batch.einsum, multiply_adds=work_rules.einsum, cost=20),
    "Gemm": Traits(batch.general_product, multiply_adds=work_rules.general_product, inputs=input_rules.gemm, cost=20),
    "MatMul": Traits(batch.product(), multiply_adds=work_rules.product, cost=20),
    "MatMulInteger": Traits(batch.product(1, (2,), (3,)), multiply_adds=work_rules.product),
    "QLinearMatMul": Traits(batch.product(3, (1, 2), (4, 5)), multiply_adds=work_rules.product),
}

_IMAGES = {
    **_rows("AveragePool GlobalAveragePool GlobalMaxPool", Traits(batch.images, sign=signs.as_first)),
    **_rows("DepthToSpace SpaceToDepth", _move(batch.images)),
    "Col2Im": Traits(batch.images, folded=_NEVER, parameters=(1, 2)),
    "DeformConv": _UNFOLDED,
    **_rows("GlobalLpPool LRN LpPool", Traits(batch.images)),
    **_rows(
        "Conv ConvInteger",
        Traits(batch.images, multiply_adds=work_rules.convolution(), inputs=input_rules.convolution),
    ),
    "ConvTranspose": Traits(
        batch.images, multiply_adds=work_rules.transposed_convolution, inputs=input_rules.convolution, crops=True
    ),
    "GridSample": Traits(batch.sampled_grid),
    "MaxPool": Traits(batch.images, sign=signs.max_pooled),
    "MaxRoiPool": Traits(batch.mixes, folded=_NEVER),
    "MaxUnpool": Traits(batch.mixes, crops=True, parameters=(2,)),
    "QLinearConv": Traits(batch.images, multiply_adds=work_rules.convolution(weights=3)),
    "Resize": Traits(batch.resized, shape_input=3, grows=True, parameters=(1, 2, 3)),
    "RoiAlign": Traits(batch.mixes, folded=_NEVER),
    "Upsample": Traits(batch.resized, grows=True, parameters=(1,)),
}

_NORMALISATIONS = {
    "BatchNormalization": Traits(batch.images, inputs=input_rules.batch_normalization, cost=20),
    "Dropout": Traits(batch.dropout, folded=_NEVER, identity=identities.dropout, shape_of_first=True),
    "GroupNormalization": Traits(batch.images, shape_of_first=True),
    "InstanceNormalization": Traits(batch.images),
    **_rows("LayerNormalization RMSNormalization", Traits(batch.beneath(-1))),
    "LpNormalization": Traits(batch.along(-1)),
    "MeanVarianceNormalization": Traits(batch.reduced, shape_of_first=True),
}

_MOVEMENT = {
    "CenterCropPad": Traits(grows=True, cost=20, parameters=(1,)),
    "Concat": _move(batch.concatenated, _PARTLY, sign=signs.as_all, identity=identities.only_input),
    "Expand": _move(
        batch.expanded, _SHAPES, shape_input=1, grows=True, identity=identities.same_shape, parameters=(1,)
    ),
    "Flatten": _move(batch.reshaped, _SHAPES, view=True, axis=AxisRange.BEHIND),
    "Pad": Traits(batch.padded, cost=20, grows=True, identity=identities.pad, crops=True, parameters=(1, 3)),
    "Reshape": _move(batch.reshaped, _SHAPES, shape_input=1, view=True, parameters=(1,)),
    "Slice": _move(batch.worked_on(3), _SHAPES, identity=identities.slice_, parameters=(1, 2, 3, 4)),
    "Split": _move(batch.along(0), parameters=(1,)),
    "Squeeze": _move(batch.reduced, _PARTLY, view=True, parameters=(1,)),
    "Tile": _move(batch.repeated, _SHAPES, grows=True, identity=identities.same_shape, parameters=(1,)),
    "Transpose": _move(batch.transposed, _SHAPES, identity=identities.transpose),
    "Trilu": _move(batch.triangle),
    "Unsqueeze": _move(batch.extended, _PARTLY, view=True, axis=AxisRange.ELSEWHERE, parameters=(1,)),
}

_INDEXING = {
    "Gather": _move(batch.gathered, _PARTLY),
    "GatherElements": _move(batch.gathered_elements, cost=2000),
    "GatherND": _move(batch.gathered_slices, cost=2000),
    **_rows("Scatter ScatterElements", Traits(batch.scattered_elements, cost=2000)),
    "OneHot": Traits(batch.extended, cost=50, grows=True, axis=AxisRange.BEHIND, parameters=(1,)),
    "ScatterND": Traits(batch.scattered_slices, folded=_SHAPES, cost=2000),
}

_OTHERS = {
    **_rows(
        "GRU LSTM RNN",
        Traits(batch.recurrent, multiply_adds=work_rules.recurrent, weight_reads=work_rules.steps),
    ),
    **_rows("DequantizeLinear QuantizeLinear", Traits(batch.quantised, cost=50)),
    "DynamicQuantizeLinear": Traits(batch.mixes),
    **_rows(
        "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
        Traits(batch.mixes, folded=_NEVER),
    ),
    "Constant": Traits(view=True),
    "ConstantOfShape": Traits(batch.mixes, folded=_SHAPES, cost=20, parameters=(0,)),
    "NonZero": Traits(batch.mixes, folded=_SHAPES, cost=20),
    "Range": Traits(batch.mixes, folded=_SHAPES, cost=100, grows=True, parameters=(0, 1, 2)),
    "Shape": Traits(batch.extents, view=True),
    "Size": Traits(batch.extents, folded=_SHAPES),
    **_rows("ConcatFromSequence SplitToSequence", Traits(axis=AxisRange.ELSEWHERE)),
    "If": Traits(folded=_NEVER, parameters=(0,)),
    **_rows("Loop Scan SequenceMap", _UNFOLDED),
    "BitCast": _move(batch.expanded, sign=None, view=True),
    "EyeLike": Traits(cost=20),
    **_rows("BlackmanWindow HammingWindow HannWindow", Traits(cost=100, parameters=(0,))),
    "Compress": Traits(cost=100),
    "AffineGrid": Traits(parameters=(1,)),
    "DFT": Traits(parameters=(1, 2)),
    "MelWeightMatrix": Traits(parameters=(0, 1, 2, 3, 4)),
    "STFT": Traits(parameters=(1, 3)),
    "Det": Traits(batch.triangle),
    "ReverseSequence": Traits(batch.mixes),
    "Unique": Traits(cost=2000),
    **_rows("Attention CausalConvWithState LinearAttention RotaryEmbedding SwiGLU TensorScatter", _UNFOLDED),
    **_rows("NegativeLogLikelihoodLoss NonMaxSuppression SoftmaxCrossEntropyLoss", _UNFOLDED),
    **_rows("Optional OptionalGetElement OptionalHasElement", _UNFOLDED),
    **_rows("SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength", _UNFOLDED),
    **_rows("StringConcat StringNormalizer StringSplit TfIdfVectorizer", Traits()),
}

_OTHER_DOMAINS = {
    "ai.onnx.ml": {
        **_rows("ArrayFeatureExtractor Binarizer CategoryMapper Imputer Normalizer Scaler", Traits()),
        **_rows("LabelEncoder OneHotEncoder", Traits(batch.images)),
        **_rows("FeatureVectorizer LinearClassifier LinearRegressor", _UNFOLDED),
        **_rows("SVMClassifier SVMRegressor TreeEnsemble", _UNFOLDED),
        **_rows("TreeEnsembleClassifier TreeEnsembleRegressor", replace(_UNFOLDED, batch=batch.images)),
    },
    "ai.onnx.preview": _rows("FlexAttention", _UNFOLDED),
    "ai.onnx.preview.training": _rows("Adagrad Adam Momentum", _UNFOLDED),
}

_MADE_BY_PASSES = {
    **_rows("ByteSums DeformColumns Elementwise GroupNorm Image LayerNorm RmsNorm ScaleShift", Traits(batch.mixes)),
    "WindowPool": Traits(batch.mixes),
    **_rows("ByteTable Dequantise Quantise QuantisedAveragePool Softmax", Traits(batch.mixes)),
    "QuantisedConvolution": Traits(batch.mixes, multiply_adds=work_rules.convolution()),
    "QuantisedMatMul": Traits(batch.mixes, multiply_adds=work_rules.product),
    "Add": _each(finite=True),
    "Attention": Traits(batch.mixes, multiply_adds=work_rules.attention),
    "ChannelShuffle": _move(batch.mixes),
    "Conv": Traits(batch.mixes, multiply_adds=work_rules.convolution()),
    "ConvTranspose": Traits(batch.mixes, multiply_adds=work_rules.internal_transposed_convolution),
    "FullyConnected": Traits(batch.mixes, multiply_adds=work_rules.fully_connected),
    "Reshape": _move(batch.mixes, view=True, identity=identities.same_shape),
    "Silu": _each(finite=True, epilogue=()),
    # Functions that stand in expressions of Elementwise and in epilogues only.
    "GeluTanh": _each(finite=True, epilogue=()),
    "Square": _each(finite=True),
}

TRAITS: dict[str, dict[str, Traits]] = {
    "": _ELEMENTWISE | _REDUCTIONS | _PRODUCTS | _IMAGES | _NORMALISATIONS | _MOVEMENT | _INDEXING | _OTHERS,
    DOMAIN: _MADE_BY_PASSES,
    **_OTHER_DOMAINS,
}
"""The rows by domain and operator."""

REFUSED = {
    "CastMap": "there are no maps. Make the map's values a tensor before.",
    "DictVectorizer": "there are no maps. Make the map's values a tensor before.",
    "ImageDecoder": "the runtime decodes no images. Decode them before, and make the pixels the model's input.",
    "RegexFullMatch": "a pattern could match forever. Match the strings before, and make the result an input.",
    "ZipMap": "there are no maps. Convert the model with zipmap=False, so that probabilities are a tensor.",
}
"""Why operators of ONNX have no row, with the remedy."""

_UNKNOWN = Traits()


def traits_of(node: Node) -> Traits:
    """The row of a node's operator."""
    return TRAITS.get(node.domain, {}).get(node.op_type, _UNKNOWN)


def function_traits(name: str) -> Traits:
    """The row of a function by its name in an expression or epilogue, an operator of ONNX or of the passes."""
    return TRAITS[""].get(name) or _MADE_BY_PASSES.get(name, _UNKNOWN)
