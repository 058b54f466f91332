"""Models that generate text: compiling plans the beginning of a text and the steps that continue it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from support import exports
from support.judge import Net, check, onnx_runtime_session

import cpuruntime as ov
from cpuruntime.devices.cpu.guesses import states_of
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Graph
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore

LENGTHS = {"length": 0, "s44": 0, "past": 1, "s11": 1, "total": 2, "s85": 2}
"""Which extent has a name in an export: the new tokens, those before them, all of them; else it is 1."""


def feeds_of(model: onnx.ModelProto, tokens: int, past: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(tokens + past)
    sizes = tokens, past, past + tokens
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for port in model.graph.input:
        if port.name in constants:
            continue
        tensor = port.type.tensor_type
        named = {name: sizes[which] for name, which in LENGTHS.items()}
        shape = [dim.dim_value or named.get(dim.dim_param, 1) for dim in tensor.shape.dim]
        is_float = tensor.elem_type == onnx.TensorProto.FLOAT
        feeds[port.name] = random.standard_normal(shape).astype(np.float32) if is_float else np.ones(shape, np.int64)
    return feeds


STEPS, LATER = ([(1, past) for past in several] for several in ((4, 5, 30), (63, 64, 90)))
TEXT = [(9, 0), (17, 0), *STEPS]


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("gpt2_with_past", TEXT),
        ("llama_with_past", TEXT),
        ("llama_with_past_traced", LATER),
        ("whisper_decoder_step", STEPS),
    ],
)
def test_no_inference_of_a_text_plans(
    name: str, lengths: Sequence[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = exports.load(name)
    session, compiled = onnx_runtime_session(model), ov.Core().compile_model(model, "CPU")
    monkeypatch.setattr(Planner, "plan", lambda planner: pytest.fail("an inference has planned"))
    for tokens, past in lengths:
        feeds = feeds_of(model, tokens, past)
        found = compiled(feeds)
        check([found[index] for index in range(len(compiled.outputs))], session.run(None, feeds), 1e-4)


def generator(rows: int = 640) -> Net:
    """A product of any number of tokens, behind those before."""
    n = Net(opset=18)
    past, x = n.input("past", rows), n.input("tokens", rows)
    all_of_it = n("Concat", past, n("MatMul", x, n.weights(rows, rows)), axis=0)
    n.output(all_of_it, n("ReduceMean", all_of_it, n.integers(0)))
    return n


def test_weights_are_packed_once_for_texts_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    large: list[int] = []
    pack = WeightStore.pack

    def packed(self: WeightStore, key: object, size: int, *rest: object) -> object:
        if size > 10**6 and not self.is_packed(key):
            large.append(size)
        return pack(self, key, size, *rest)

    monkeypatch.setattr(WeightStore, "pack", packed)
    compiled = ov.Core().compile_model(generator().model(), "CPU")
    for past, tokens in ((0, 64), (64, 1), (65, 1), (0, 200), (7, 9)):
        x = np.ones((tokens, 640), np.float32)
        assert compiled([np.ones((past, 640), np.float32), x])[0].shape == (past + tokens, 640)
    assert large == [640 * 640 * 4]


def names(graph: Graph) -> Sequence[str]:
    return [graph.inputs[index].name for index in states_of(graph)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2_with_past", ["past_0_key", "past_0_value", "past_1_key", "past_1_value"]),
        ("bert", []),
        ("t5_decoder", []),
        ("wav2vec2", []),
    ],
)
def test_states_of_exports(name: str, expected: list[str]) -> None:
    assert names(read(exports.load(name))) == expected


def test_a_concatenation_that_is_computed_with_is_no_state() -> None:
    n = Net(opset=18)
    x, y = n.input("a", 4), n.input("b", 4)
    n.output(n("Exp", n("Concat", x, y, axis=0)), n("Identity", x))
    assert not names(read(n.model()))
