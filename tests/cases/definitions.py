"""Operators that are written out as ONNX defines them: attention, rotary embedding, losses, crops, grids."""

from __future__ import annotations

import numpy as np

from cases.case import Case, Tensor, constant, integers

QUERY, KEY = Tensor((2, 4, 5, 8)), Tensor((2, 4, 7, 8))
SHARED = Tensor((2, 2, 7, 8))
CLASSES = Tensor((3, 4), np.int64, 0, 5)

CASES = [
    Case("Attention", "Attention", (QUERY, KEY, KEY), opset=23),
    Case("Attention, causal with shared heads", "Attention", (QUERY, SHARED, SHARED), dict(is_causal=1), opset=23),
    Case("Attention with a mask", "Attention", (QUERY, KEY, KEY, Tensor((5, 7))), dict(scale=0.3), opset=23),
    Case("Attention with a mask of flags", "Attention", (QUERY, KEY, KEY, Tensor((2, 1, 5, 7), np.bool_)), opset=23),
    Case(
        "Attention with the past", "Attention", (QUERY, KEY, KEY, None, Tensor((2, 4, 3, 8)), Tensor((2, 4, 3, 8))),
        outputs=3, opset=23,
    ),
    Case(
        "Attention of rows, with a soft cap", "Attention", (Tensor((2, 5, 32)), Tensor((2, 7, 32)), Tensor((2, 7, 32))),
        dict(q_num_heads=4, kv_num_heads=4, softcap=2.0), opset=23,
    ),
    Case(
        "RotaryEmbedding", "RotaryEmbedding", (Tensor((2, 3, 4, 8)), Tensor((50, 4)), Tensor((50, 4)),
        Tensor((2, 4), np.int64, 0, 50)), opset=23,
    ),
    Case(
        "RotaryEmbedding, interleaved", "RotaryEmbedding",
        (Tensor((2, 4, 24)), Tensor((2, 4, 2)), Tensor((2, 4, 2))),
        dict(interleaved=1, num_heads=3, rotary_embedding_dim=4), opset=23,
    ),
    Case("CenterCropPad", "CenterCropPad", (Tensor((9, 4, 3)), integers(6, 7)), dict(axes=[0, 1])),
    *(
        Case(f"AffineGrid {len(size) - 2}d {corners}", "AffineGrid",
             (Tensor((2, len(size) - 2, len(size) - 1)), integers(*size)), dict(align_corners=corners))
        for size in ((2, 3, 4, 5), (2, 3, 4, 5, 6)) for corners in (0, 1)
    ),
    Case("LayerNormalization with statistics", "LayerNormalization", (Tensor((3, 4, 9)), Tensor((9,)), Tensor((9,))),
         outputs=3),
    Case("Dropout", "Dropout", (Tensor((3, 4)),)),
    Case("Dropout with a mask", "Dropout", (Tensor((3, 4)), constant(0.1), constant(False, np.bool_)), outputs=2),
    Case("GlobalLpPool", "GlobalLpPool", (Tensor((2, 3, 4, 5)),)),
    Case("OneHot of float32", "OneHot", (Tensor((3,), high=5, low=0, step=1), constant(5), constant([1, 7]))),
    Case("EyeLike", "EyeLike", (Tensor((3, 5), np.int64),), dict(k=1)),
    Case("Gemm float64", "Gemm", tuple(Tensor(s, np.float64) for s in ((5, 3), (5, 4), (4,))),
         dict(transA=1, alpha=0.5, beta=2.0)),
    Case("ReduceLogSumExp float64", "ReduceLogSumExp", (Tensor((3, 9), np.float64), integers(1))),
    Case("Softmax float64", "Softmax", (Tensor((3, 9), np.float64),)),
    Case("HannWindow", "HannWindow", (constant(12, np.int64),)),
    Case("NegativeLogLikelihoodLoss", "NegativeLogLikelihoodLoss", (Tensor((3, 5, 4)), CLASSES)),
    Case("SoftmaxCrossEntropyLoss", "SoftmaxCrossEntropyLoss", (Tensor((3, 5, 4)), CLASSES, Tensor((5,), high=2))),
]  # fmt: skip
