"""The rows of operators: every operator with a kernel has one, and what it says agrees with the kernels."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import defs

from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.evaluation.evaluate import evaluate
from cpuruntime.operators.evaluation.families import RULES
from cpuruntime.operators.traits import DOMAIN, TRAITS, Folded, function_traits, traits_of
from cpuruntime.ops.elementwise import BINARY, UNARY
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.program.lowerings.catalogue import MODULES

ONNX = TRAITS[""]


@pytest.mark.parametrize(("domain", "op_type"), sorted(MODULES))
def test_every_operator_with_a_lowering_has_a_row_with_a_batch_rule(domain: str, op_type: str) -> None:
    assert op_type in TRAITS[domain]
    assert TRAITS[domain][op_type].batch is not None


def test_the_rows_are_of_operators_that_there_are() -> None:
    names = {schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == ""}
    assert set(ONNX) <= names
    assert set(TRAITS[DOMAIN]) - {op for domain, op in MODULES if domain == DOMAIN} == {"GeluTanh", "Square"}


def test_kernels_by_element_are_those_of_elementwise_rows() -> None:
    kernels = {op for op, _ in UNARY | BINARY} - {"FMod", "ShiftLeft", "ShiftRight"}
    assert {op for op in kernels if not function_traits(op).elementwise} == set()


@pytest.mark.parametrize("op_type", sorted(op for op in ONNX if op in ACTIVATIONS))
def test_functions_whose_rows_are_finite_give_numbers_for_numbers(op_type: str) -> None:
    """And only those: a wrong row lets NaN into lanes without a channel, or keeps blocked tensors out."""
    numbers = np.linspace(-100, 100, 8001, dtype=np.float32)
    node = Node(op_type, "n", [Value("x", Type.f32, (8001,))], [Value("y", Type.f32, (8001,))], {}, "", 24)
    (results,) = evaluate(node, [numbers])
    assert ONNX[op_type].finite == np.isfinite(results).all()


def test_epilogues_take_the_arguments_that_their_functions_have() -> None:
    for rows in TRAITS.values():
        for name, row in rows.items():
            if row.epilogue is not None:
                assert row.epilogue == tuple(ACTIVATIONS[name].parameters)


def test_what_moves_integers_that_are_not_known_can_be_evaluated_on_objects() -> None:
    assert {op for op, row in ONNX.items() if row.folded is Folded.PARTLY} <= set(RULES)


def test_rows_belong_to_a_domain() -> None:
    add = Node("Add", "n", [], [], {}, "com.example", 1)
    assert traits_of(add).batch is None
    assert not traits_of(add).elementwise
