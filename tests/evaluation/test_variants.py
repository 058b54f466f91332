"""Evaluation, inferred shapes and ONNX Runtime agree on random variants; `judge_variants.py` runs more of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluation.disagreements import DISAGREEMENTS
from evaluation.judge_variants import judge, make
from evaluation.variants import GENERATORS, variant
from onnx import helper

from cpuruntime.frontend.reader import read
from cpuruntime.operators.control_flow import OPERATORS as CONTROL_FLOW
from cpuruntime.operators.control_flow import run_graph
from cpuruntime.operators.evaluation.evaluate import REFERENCE, evaluate
from cpuruntime.operators.evaluation.families import ML_RULES, RULES
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


@pytest.mark.parametrize(
    "op_type",
    ["BatchNormalization", "Cast", "ConvTranspose", "GroupNormalization", "LRN", "LSTM", "MaxPool", "Softmax"],
)
def test_subgraphs_compute_what_their_operators_do(op_type: str) -> None:
    """All of them once ran in onnx.reference, which gets these wrong."""
    for seed in range(10):
        v = variant(op_type, seed)
        outer = onnx.ModelProto.FromString(v.model().SerializeToString())
        body = helper.make_graph(list(outer.graph.node), "body", [], list(outer.graph.output))
        names = [info.name for info in outer.graph.output]
        del outer.graph.node[:]
        outer.graph.node.append(helper.make_node("If", ["which"], names, then_branch=body, else_branch=body))
        outer.graph.input.append(helper.make_tensor_value_info("which", onnx.TensorProto.BOOL, []))
        graph = read(outer)
        feeds = [v.inputs[int(value.name[1:])] for value in graph.inputs[:-1]]
        found = run_graph(graph, [*feeds, np.array(True)], evaluate)
        expected = [array for array, there in zip(evaluate(make(v), list(v.inputs)), v.outputs) if there]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours.astype(float), theirs.astype(float), 1e-5, 1e-5)
