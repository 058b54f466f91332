"""Evaluation, inferred shapes and ONNX Runtime agree on random variants; `judge_variants.py` runs more of them."""

from __future__ import annotations

import pytest
from evaluation.disagreements import DISAGREEMENTS
from evaluation.judge_variants import judge
from evaluation.variants import GENERATORS, variant

from cpuruntime.operators.control_flow import OPERATORS as CONTROL_FLOW
from cpuruntime.operators.evaluation.evaluate import ML_RULES, REFERENCE, RULES
from cpuruntime.operators.traits import TRAITS

VARIANTS = 5
# Operators that ONNX Runtime does not know; ONNX's own cases judge them.
NOT_JUDGED: set[str] = set()
# Operators without a generator: random ones, sequences, optionals, strings, and those of opset 26.
NOT_GENERATED = {
    "Bernoulli", "BitCast", "ConcatFromSequence", "Constant", "CumProd", "DeformConv", "Det", "Multinomial", "Optional",
    "OptionalGetElement", "OptionalHasElement", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
    "SequenceLength", "SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit", "SwiGLU", "Swish",
}  # fmt: skip


@pytest.mark.parametrize("op_type", sorted(GENERATORS))
def test_random_variants(op_type: str) -> None:
    verdicts = [(variant(op_type, seed), judge(variant(op_type, seed))) for seed in range(VARIANTS)]
    assert [f"{v}: {verdict.wrong}" for v, verdict in verdicts if verdict.wrong] == []
    judged = sum(not verdict.refused for _, verdict in verdicts)
    assert (judged == 0) == (op_type in NOT_JUDGED), verdicts[0][1].refused


def test_every_operator_has_a_generator() -> None:
    assert (set(RULES) | set(ML_RULES)) - set(GENERATORS) == NOT_GENERATED


def test_every_operator_that_is_read_can_be_evaluated() -> None:
    by_function = {"Attention", "CausalConvWithState", "RotaryEmbedding"}
    assert set(TRAITS[""]) - set(RULES) - set(CONTROL_FLOW) == by_function | REFERENCE[""]


def test_disagreements_are_of_operators_with_variants() -> None:
    assert set(DISAGREEMENTS) <= set(GENERATORS)
