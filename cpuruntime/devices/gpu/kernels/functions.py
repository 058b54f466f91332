"""What elementwise operators compute, in the dialect: on floats, and on vectors of them where all parts are builtin."""

from __future__ import annotations

from collections.abc import Sequence

# By the names of `ops.fused.FUNCTIONS`; {0}, {1} and so on are the operands. Flags are uchar, 0 or 1.
SMOOTH: dict[str, str] = {
    "": "{0}",
    "Abs": "fabs({0})",
    "Celu": "(fmax({0}, 0.0f) + {1} * expm1(fmin({0}, 0.0f) / {1}))",
    "Clip": "fmin(fmax({0}, {1}), {2})",
    "Elu": "(fmax({0}, 0.0f) + {1} * expm1(fmin({0}, 0.0f)))",
    "Exp": "exp({0})",
    "Gelu": "(0.5f * {0} * (1.0f + erf({0} * 0.70710678f)))",
    "GeluTanh": "({0} * SIGMOID(1.59576912f * {0} * (1.0f + 0.044715f * {0} * {0})))",
    "HardSigmoid": "fmin(fmax({0} * {1} + {2}, 0.0f), 1.0f)",
    "HardSwish": "({0} * fmin(fmax({0} * 0.16666667f + 0.5f, 0.0f), 1.0f))",
    "LeakyRelu": "(fmax({0}, 0.0f) + {1} * fmin({0}, 0.0f))",
    "Mish": "({0} * tanh(log1p(exp(fmin({0}, 20.0f)))))",
    "Relu": "fmax({0}, 0.0f)",
    "Selu": "({2} * (fmax({0}, 0.0f) + {1} * expm1(fmin({0}, 0.0f))))",
    "Sigmoid": "SIGMOID({0})",
    "Silu": "({0} * SIGMOID({0}))",
    "Softplus": "(fmax({0}, 0.0f) + log1p(exp(-fabs({0}))))",
    "Softsign": "({0} / (1.0f + fabs({0})))",
    "Sqrt": "sqrt({0})",
    "Square": "({0} * {0})",
    "Swish": "({0} * SIGMOID({1} * {0}))",
    "Tanh": "tanh({0})",
}
"""Functions that vectors have as well: what may follow a product in its registers."""

FUNCTIONS: dict[str, str] = SMOOTH | {
    "Acos": "acos({0})",
    "Acosh": "acosh({0})",
    "Add": "({0} + {1})",
    "And": "({0} & {1})",
    "Asin": "asin({0})",
    "Asinh": "asinh({0})",
    "Atan": "atan({0})",
    "Atanh": "atanh({0})",
    "Ceil": "ceil({0})",
    "Cos": "cos({0})",
    "Cosh": "cosh({0})",
    "Div": "({0} / {1})",
    "Equal": "(uchar)({0} == {1})",
    "Erf": "erf({0})",
    "Floor": "floor({0})",
    "Greater": "(uchar)({0} > {1})",
    "GreaterOrEqual": "(uchar)({0} >= {1})",
    "IsNaN": "(uchar)({0} != {0})",
    "Less": "(uchar)({0} < {1})",
    "LessOrEqual": "(uchar)({0} <= {1})",
    "Log": "log({0})",
    "Max": "({0} != {0} || {0} > {1} ? {0} : {1})",
    "Min": "({0} != {0} || {0} < {1} ? {0} : {1})",
    "Mul": "({0} * {1})",
    "Neg": "(-{0})",
    "Not": "(uchar)(!{0})",
    "Or": "({0} | {1})",
    "PRelu": "({0} < 0.0f ? {0} * {1} : {0})",
    "Pow": "pow({0}, {1})",
    "Reciprocal": "(1.0f / {0})",
    "Relu": "({0} < 0.0f ? 0.0f : {0})",
    "Round": "rint({0})",
    "Shrink": "({0} > {1} ? {0} - {2} : {0} < -{1} ? {0} + {2} : 0.0f)",
    "Sign": "({0} > 0.0f ? 1.0f : {0} < 0.0f ? -1.0f : {0})",
    "Sin": "sin({0})",
    "Sinh": "sinh({0})",
    "Sub": "({0} - {1})",
    "Tan": "tan({0})",
    "ThresholdedRelu": "({0} > {1} ? {0} : 0.0f)",
    "ToBool": "(uchar)({0} != 0.0f)",
    "ToFloat": "(float)({0})",
    "Where": "({0} ? {1} : {2})",
    "Xor": "({0} ^ {1})",
}

# The same for whole numbers, where the text is another one.
WHOLE: dict[str, str] = {
    name: FUNCTIONS[name]
    for name in (
        "Add", "And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Not", "Or", "Sub", "Where",
        "Xor",
    )
} | {
    "Abs": "({0} < 0 ? -{0} : {0})",
    "Div": "({1} == 0 ? 0 : {1} == -1 ? -{0} : {0} / {1})",
    "Max": "({0} > {1} ? {0} : {1})",
    "Min": "({0} < {1} ? {0} : {1})",
    "Mod": "({1} == 0 || {1} == -1 ? 0 : {0} % {1} + ({0} % {1} != 0 && ({0} % {1} < 0) != ({1} < 0) ? {1} : 0))",
    "Neg": "(-{0})",
    "Relu": "({0} > 0 ? {0} : 0)",
    "Sign": "({0} > 0 ? 1 : {0} < 0 ? -1 : 0)",
}  # fmt: skip


def call(name: str, operands: Sequence[str], functions: dict[str, str] = FUNCTIONS) -> str:
    """A function of operands that are names or numbers, as an expression."""
    return functions[name].format(*operands)


def number(value: float) -> str:
    """A float32 as the dialect writes it."""
    if value != value:
        return "NAN"
    if value in (float("inf"), float("-inf")):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    text = f"{value:.9g}"
    return f"({text if '.' in text or 'e' in text else text + '.0'}f)"
