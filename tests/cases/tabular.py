"""The operators of ai.onnx.ml on numbers: scaling, encoding, linear models, support vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases.case import Case, Tensor, constant, integers

ROWS = Tensor((13, 5))
RANDOM = np.random.default_rng(0)
TYPES = (np.float32, np.float64, np.int64, np.int32)
NAN = float("nan")


def numbers(count: int) -> list[float]:
    return [float(number) for number in RANDOM.standard_normal(count).astype(np.float32)]


def case(name: str, operator: str, *inputs: Tensor, outputs: int = 1, opset: int = 1, **attributes: Any) -> Case:
    return Case(name, operator, inputs, attributes, outputs, opset, domain="ai.onnx.ml")


def named(dtype: Any) -> str:
    return np.dtype(dtype).name


MISSING = Tensor((2, 3), values=[[NAN, 1, 2], [3, NAN, NAN]])
KEYS = Tensor((3, 4), np.int64, 0, 7)
FRACTIONS = Tensor((5,), values=[0.5, -0.0, NAN, 2.5, 7])
CLASSES = dict(classlabels_ints=[7, 5, 9])

CASES = [
    *(
        case(f"Scaler of {named(t)}, {count} factors", "Scaler", Tensor((13, 5), t), offset=numbers(count),
             scale=numbers(count))
        for t in TYPES for count in (1, 5)
    ),
    *(
        case(f"Normalizer of {named(t)}, {norm}", "Normalizer", Tensor((6, 5), t, 1, 9), norm=norm)
        for t in TYPES for norm in ("L1", "L2", "MAX")
    ),
    case("Normalizer of zeros", "Normalizer", Tensor((2, 3), values=[[0, 0, 0], [0, 2, 0]]), norm="L2"),
    case("Binarizer", "Binarizer", Tensor((9, 4), step=0.5), threshold=0.5),
    *(
        case(f"Imputer of {'NaN' if wanted != wanted else wanted}, {count} values", "Imputer", x,
             imputed_value_floats=numbers(count), replaced_value_float=wanted)
        for x, wanted in ((MISSING, NAN), (Tensor((4, 3), step=1), 1.0)) for count in (1, 3)
    ),
    case("Imputer of int64", "Imputer", Tensor((4, 3), np.int64, 0, 3), imputed_value_int64s=[8],
         replaced_value_int64=1),
    case("FeatureVectorizer", "FeatureVectorizer", Tensor((4, 2)), Tensor((4, 1)), Tensor((4, 3)),
         inputdimensions=[2, 1, 3]),
    case("ArrayFeatureExtractor", "ArrayFeatureExtractor", ROWS, integers(3, 0, 3, 4)),
    case("ArrayFeatureExtractor of a signal", "ArrayFeatureExtractor", Tensor((9,), np.int64), integers(8, 0)),
    case("ArrayFeatureExtractor of one number", "ArrayFeatureExtractor", ROWS, constant(2, np.int64)),
    case("ArrayFeatureExtractor by an input", "ArrayFeatureExtractor", ROWS, Tensor((2,), np.int64, 0, 2)),
    *(
        case(f"OneHotEncoder of {named(t)}", "OneHotEncoder", Tensor((6, 3), t, 0, 4, step=1), cats_int64s=[2, 0, 3],
             zeros=1)
        for t in TYPES[:3]
    ),
    case("OneHotEncoder of categories only", "OneHotEncoder", Tensor((7,), np.int64, -1, 2), cats_int64s=[0, 1, -1],
         zeros=0),
    case("LabelEncoder, int64 to float32", "LabelEncoder", KEYS, opset=2, keys_int64s=[5, 1, 3],
         values_floats=[1.5, 2.0, 3.5], default_float=-1.0),
    case("LabelEncoder, float32 to int64", "LabelEncoder", FRACTIONS, opset=2, keys_floats=[2.5, 0.5, 0.0],
         values_int64s=[1, 2, 3], default_int64=9),
    case("LabelEncoder, NaN as a key", "LabelEncoder", FRACTIONS, opset=4, keys_floats=[2.5, NAN, 0.0],
         values_floats=[1.0, 2.5, 3.0]),
    *(
        case(f"LinearRegressor to {targets}, {post}", "LinearRegressor", ROWS, coefficients=numbers(5 * targets),
             intercepts=numbers(targets), targets=targets, post_transform=post)
        for targets, post in ((1, "NONE"), (3, "NONE"), (3, "LOGISTIC"), (3, "SOFTMAX"))
    ),
    *(
        case(f"LinearClassifier of three, {post}", "LinearClassifier", ROWS, outputs=2, coefficients=numbers(15),
             intercepts=numbers(3), post_transform=post, **CLASSES)
        for post in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")
    ),
    *(
        case(f"LinearClassifier of two, {post}", "LinearClassifier", ROWS, outputs=2, coefficients=numbers(5),
             intercepts=numbers(1), post_transform=post, classlabels_ints=[3, 8])
        for post in ("NONE", "LOGISTIC")
    ),
]  # fmt: skip
