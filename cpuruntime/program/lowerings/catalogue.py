"""Finds the lowering of a node: which module declares those of which operators, imported when a node needs it."""

from cpuruntime.program.lowerings import elementwise  # its many operators are in nearly all models
from cpuruntime.program.plan.lowering import MODULES, TABLE, find_lowering

_OPERATORS = {
    "": {
        "lowerings.columns": "Col2Im",
        "lowerings.depth": "DepthToSpace SpaceToDepth",
        "lowerings.determinant": "Det",
        "lowerings.from_shapes": "ConstantOfShape Range",
        "lowerings.grid_sample": "GridSample",
        "lowerings.indexing": (
            "CumProd CumSum GatherElements GatherND OneHot Scatter ScatterElements ScatterND TopK Trilu"
        ),
        "lowerings.matmul": "MatMul",
        "lowerings.movement": "BitCast Concat Expand Gather Identity Slice Split Transpose",
        "lowerings.normalisation": "LRN LogSoftmax Softmax",
        "lowerings.padding": "Pad Tile",
        "lowerings.pooling": "AveragePool GlobalAveragePool GlobalMaxPool MaxPool",
        "lowerings.recurrent": "GRU LSTM RNN",
        "lowerings.reduction": (
            "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
            "ReduceSum ReduceSumSquare"
        ),
        "lowerings.resize": "Resize",
        "lowerings.reverse_sequence": "ReverseSequence",
        "lowerings.roi_align": "MaxRoiPool RoiAlign",
        "lowerings.window_pool": "MaxUnpool",
    },
    "cpuruntime": {
        "convolution.direct": "Conv",
        "convolution.quantised": "QuantisedConvolution",
        "convolution.transposed_convolution": "ConvTranspose",
        "lowerings.attention": "Attention",
        "lowerings.byte_sums": "ByteSums",
        "lowerings.columns": "DeformColumns",
        "lowerings.byte_table": "ByteTable",
        "lowerings.fused": "Dequantise Elementwise Quantise",
        "lowerings.image": "Image",
        "lowerings.matmul": "FullyConnected",
        "lowerings.movement": "ChannelShuffle Reshape",
        "lowerings.quantised_product": "QuantisedMatMul",
        "lowerings.normalisation": "GroupNorm LayerNorm RmsNorm ScaleShift Softmax",
        "lowerings.pooling": "QuantisedAveragePool",
        "lowerings.window_pool": "WindowPool",
    },
    "ai.onnx.ml": {
        "lowerings.lookup": "LabelEncoder OneHotEncoder",
        "lowerings.tree_ensemble": "TreeEnsembleClassifier TreeEnsembleRegressor",
    },
}
"""Modules of `program/` with the operators of a domain whose lowerings they declare."""

MODULES.update({key: entry.emit.__module__ for key, entry in TABLE.items()})
MODULES.update({
    (domain, op_type): f"cpuruntime.program.{module}"
    for domain, modules in _OPERATORS.items()
    for module, op_types in modules.items()
    for op_type in op_types.split()
})  # fmt: skip

__all__ = ["MODULES", "elementwise", "find_lowering"]
