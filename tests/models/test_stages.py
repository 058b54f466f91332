"""Models whose shapes depend on data, and control flow, against ONNX Runtime: several inferences of one model."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.judge import Net, check, onnx_runtime_session

import cpuruntime as ov
from cpuruntime.testing.probes import device_of

random = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def compare_all(net: Net | onnx.ModelProto, runs: Sequence[Sequence[Any]], **config: Any) -> ov.CompiledModel:
    """Each run twice, in turns, by one compiled model; what was handed out before stays as it was."""
    model = net.model() if isinstance(net, Net) else net
    names, session = [info.name for info in model.graph.input], onnx_runtime_session(model)
    compiled = ov.Core().compile_model(model, "CPU", config)
    kept = []
    for arrays in [*runs, *runs]:
        feeds = dict(zip(names, map(np.asarray, arrays)))
        results = compiled(dict(feeds))
        found, wanted = [results[index] for index in range(len(compiled.outputs))], session.run(None, feeds)
        check(found, wanted)
        kept.append(([np.array(array) for array in found], found))
    for copies, found in kept:
        for copy, array in zip(copies, found):
            np.testing.assert_array_equal(copy, array)
    return compiled


PARAMETERS = {
    "Reshape": (lambda n, x, p: n("Reshape", x, p), [ints(2, 12), ints(-1), ints(4, 3, 2)]),
    "Expand": (lambda n, x, p: n("Expand", x, p), [ints(2, 1, 4, 6), ints(1)]),
    "Tile": (lambda n, x, p: n("Tile", x, p), [ints(1, 2), ints(3, 1), ints(0, 2)]),
    "TopK": (lambda n, x, p: n.many(2, "TopK", x, p)[1], [ints(2), ints(6)]),
    "Pad": (lambda n, x, p: n("Pad", x, p), [ints(1, 0, 0, 2), ints(0, -1, 2, 0)]),
    "Slice": (lambda n, x, p: n("Slice", x, p, n.integers(9, 9)), [ints(0, 0), ints(1, 3), ints(4, 4)]),
    "Squeeze": (lambda n, x, p: n("Squeeze", n("Unsqueeze", x, p), p), [ints(0), ints(1, 3)]),
    "Unsqueeze": (lambda n, x, p: n("Unsqueeze", x, p), [ints(0), ints(-1, 1)]),
    "ReduceSum": (lambda n, x, p: n("ReduceSum", x, p, keepdims=0), [ints(0), ints(1), ints(0, 1)]),
    "Split": (lambda n, x, p: n("Neg", n.many(2, "Split", x, p)[0]), [ints(1, 3), ints(4, 0)]),
    "ConstantOfShape": (lambda n, x, p: n("ConstantOfShape", p), [ints(2, 3), ints(5)]),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_at_run_time(name: str) -> None:
    """Each is an input, and in the middle of the model: a product before and a sum after."""
    build, values = PARAMETERS[name]
    n = Net(opset=18)
    x = n("MatMul", n.input(4, 5), n.weights(5, 6))
    one = n.constant(1, np.int64 if name == "TopK" else np.float32)
    n.output(n("Add", build(n, x, n.input("count", dtype=np.int64)), one))
    compiled = compare_all(n, [(floats(4, 5), value) for value in values])
    rows = {row.op_type: row.kernel for row in compiled.explain().rows}
    assert "numpy" not in [rows.get("MatMul"), rows.get("FullyConnected"), rows.get("Add")]


def test_parameters_that_are_computed_from_others_and_from_data() -> None:
    """A target from two inputs by shape arithmetic; k from the number of positive elements."""
    n = Net(opset=18)
    x, a, b = n.input(4, 6), n.input(dtype=np.int64), n.input(1, dtype=np.int64)
    less = n("Unsqueeze", n("Sub", a, n.constant(1, np.int64)), n.integers(0))
    target = n("Concat", n("Mul", b, n.integers(2)), less, axis=0)
    flat = n("Reshape", x, n.integers(-1))
    positive = n("ReduceSum", n("Cast", n("Greater", flat, n.constant(0)), to=onnx.TensorProto.INT64), n.integers(0))
    n.output(n("Relu", n("Reshape", x, target)), *n.many(2, "TopK", flat, positive))
    x = np.where(floats(4, 6) > 0, floats(4, 6), 1).astype(np.float32)
    compare_all(n, [(x, np.int64(7), ints(2)), (-x, np.int64(13), ints(1)), (abs(x) + 1, np.int64(4), ints(4))])


def test_shapes_that_follow_from_data() -> None:
    n = Net(opset=18)
    x = n("MatMul", n.input("rows", 5), n.weights(5, 6))
    places = n("Transpose", n("NonZero", n("Relu", x)), perm=[1, 0])
    values = n("GatherND", x, places)
    n.output(values, n("Softmax", n("Reshape", values, n.integers(1, -1))), n("ReduceSum", values, keepdims=0))
    n.output(places)
    compare_all(n, [(floats(rows, 5),) for rows in (4, 9, 1)])


def test_a_range_of_numbers_that_are_lists_of_one() -> None:
    """ONNX Runtime takes them where they are computed, as in the definition of AffineGrid."""
    n = Net()
    limit = n("Gather", n("Shape", n.input("rows", 2)), n.integers(0))
    n.output(n("Range", n.integers(0), limit, n.integers(2)), n("Range", n.integers(1), n.integers(9), n.integers(3)))
    compiled = ov.Core().compile_model(n.model(), "CPU")
    for rows in (5, 2, 1):
        found = compiled([floats(rows, 2)])
        np.testing.assert_array_equal(found[0], np.arange(0, rows, 2))
        np.testing.assert_array_equal(found[1], [1, 4, 7])


def test_compress_and_unique() -> None:
    n = Net(opset=17)
    x = n.input("rows", 3)
    chosen = n("Compress", x, n("Greater", n("ReduceMax", x, axes=[1], keepdims=0), n.constant(0.5)), axis=0)
    values, _, inverse, counts = n.many(4, "Unique", n("Round", n("Reshape", x, n.integers(-1))))
    n.output(n("Exp", chosen), n("Neg", values), inverse, counts)
    compare_all(n, [(floats(rows, 3),) for rows in (6, 2, 1)])


def body_of(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str], **constants: Any
) -> onnx.GraphProto:
    """A body: i... are int64 scalars, c... bool scalars, others float tensors of unknown shape."""
    types = {"i": (onnx.TensorProto.INT64, []), "c": (onnx.TensorProto.BOOL, [])}
    ports = [
        [helper.make_tensor_value_info(name, *types.get(name[0], (onnx.TensorProto.FLOAT, None))) for name in names]
        for names in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return helper.make_graph(nodes, "body", *ports, tensors)


node = helper.make_node


def test_branches_of_different_shapes() -> None:
    """The condition is an input, and computed; each branch has weights of its own."""
    n = Net()
    x = n("Relu", n.input(2, 4))
    branches = {}
    for name, axis in (("then_branch", 1), ("else_branch", 0)):
        nodes = [node("MatMul", [x, "w"], ["y"]), node("Concat", ["y", "y"], ["v"], axis=axis)]
        branches[name] = body_of(nodes, [], ["v"], w=floats(4, 3 + axis))
    outer = n("If", n.input(dtype=np.bool_), **branches)
    inner = n("If", n("Greater", n("ReduceSum", x, keepdims=0), n.constant(4)), **branches)
    n.output(n("Neg", outer), n("Neg", inner))
    small, large = floats(2, 4) * 0.1, np.abs(floats(2, 4)) + 1
    compare_all(n, [(small, True), (large, True), (small, False), (large, False)])


def test_a_loop_with_two_states_scan_outputs_and_captures() -> None:
    """The states swap their values; one scan output is written by a kernel, the other is a captured value."""
    weights = floats(4, 4) / 2
    nodes = [
        node("MatMul", ["va", "w"], ["t"]), node("Tanh", ["t"], ["vc"]), node("Identity", ["va"], ["vd"]),
        node("Identity", ["bias"], ["vs"]), node("ReduceSum", ["vc"], ["sum"], keepdims=0),
        node("Less", ["sum", "limit"], ["c2"]), node("Add", ["vc", "bias"], ["vr"]),
    ]  # fmt: skip
    body = body_of(nodes, ["i", "c", "va", "vb"], ["c2", "vc", "vd", "vr", "vs"], w=weights)
    n = Net()
    x, bias, count = n.input(3, 4), n.input(4, name="bias"), n.input(dtype=np.int64)
    n.input(name="limit")
    n.output(*n.many(4, "Loop", count, "", x, n("Neg", x), body=body))
    x, bias = floats(3, 4), floats(4)
    limits = ((1, 9), (7, 99), (40, 99), (9, -1))
    compare_all(n, [(x, bias, np.int64(count), np.float32(limit)) for count, limit in limits])


def test_a_loop_whose_state_grows_and_a_loop_in_a_loop() -> None:
    nodes = [node("Add", ["vx", "va"], ["vy"]), node("Identity", ["c1"], ["c2"])]
    inner = body_of(nodes, ["i1", "c1", "vx"], ["c2", "vy"])
    nodes = [
        node("Loop", ["i", "", "va"], ["vt"], body=inner), node("Concat", ["va", "vt"], ["vb"], axis=0),
        node("Identity", ["c"], ["c3"]), node("ReduceMax", ["vb"], ["vs"], keepdims=0),
    ]  # fmt: skip
    n = Net()
    x, count = n.input("length"), n.input(dtype=np.int64)
    n.output(*n.many(2, "Loop", count, "", x, body=body_of(nodes, ["i", "c", "va"], ["c3", "vb", "vs"])))
    compare_all(n, [(floats(3), np.int64(4)), (floats(2), np.int64(1)), (floats(3), np.int64(0))])


def test_a_loop_that_picks_rows_by_its_counter() -> None:
    """No stage is planned for each number of the counter, even where a shape is computed from it."""
    nodes = [
        node("Gather", ["rows", "i"], ["r"]), node("Add", ["va", "r"], ["vb"]), node("Identity", ["c"], ["c2"]),
        node("Unsqueeze", ["i", "zero"], ["first"]), node("Add", ["first", "one"], ["last"]),
        node("Slice", ["rows", "first", "last"], ["vs"]),
    ]  # fmt: skip
    body = body_of(nodes, ["i", "c", "va"], ["c2", "vb", "vs"], zero=ints(0), one=ints(1))
    n = Net()
    n.input("n", 3, name="rows")
    count, x = n.input(dtype=np.int64), n.input(3)
    n.output(*n.many(2, "Loop", count, "", x, body=body))
    compiled = compare_all(n, [(floats(30, 3), np.int64(30), floats(3)), (floats(5, 3), np.int64(2), floats(3))])
    assert len(device_of(compiled).programs.cached()) < 12


@pytest.mark.parametrize("directions", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("axes", [(0, 0), (1, 1), (1, -1)])
def test_scans(axes: tuple[int, int], directions: tuple[int, int]) -> None:
    nodes = [node("Add", ["va", "vr"], ["vb"]), node("Mul", ["vb", "scale"], ["vs"])]
    body = body_of(nodes, ["va", "vr"], ["vb", "vs"])
    n = Net()
    x, first = n.input(5, 5), n.input(5)
    n.input(name="scale")
    attributes = dict(
        body=body, num_scan_inputs=1, scan_input_axes=[axes[0]], scan_output_axes=[axes[1]],
        scan_input_directions=[directions[0]], scan_output_directions=[directions[1]],
    )  # fmt: skip
    n.output(*n.many(2, "Scan", first, x, **attributes))
    compare_all(n, [(floats(5, 5), floats(5), np.float32(scale)) for scale in (2, 3)])


def test_sequences_flow_between_nodes() -> None:
    body = body_of([node("Relu", ["va"], ["vb"])], ["va"], ["vb"])
    n = Net(opset=17)
    x = n.input("rows", 4)
    parts = n("SplitToSequence", n("MatMul", x, n.weights(4, 4)), axis=0, keepdims=1)
    grown = n("SequenceInsert", n("SequenceMap", parts, body=body), n("Neg", x))
    length = n("SequenceLength", grown)
    n.output(n("Exp", n("ConcatFromSequence", grown, axis=0)), length, n("SequenceAt", grown, n.constant(0, np.int64)))
    compare_all(n, [(floats(rows, 4),) for rows in (3, 1)])


def test_wrong_data_are_errors_that_name_the_node() -> None:
    n = Net(opset=18)
    n.output(n("Reshape", n.input(4, 6), n.input("count", dtype=np.int64)))
    compiled = ov.Core().compile_model(n.model(), "CPU")
    for target in (ints(5, 5), ints(-1, 5), ints(-2, 3)):
        with pytest.raises(ov.InvalidArgumentError, match="Reshape 'n0_Reshape'"):
            compiled([floats(4, 6), target])
    assert compiled([floats(4, 6), ints(24)])[0].shape == (24,)


def endless() -> onnx.ModelProto:
    n = Net()
    body = body_of([node("Add", ["va", "va"], ["vb"]), node("Identity", ["c"], ["c2"])], ["i", "c", "va"], ["c2", "vb"])
    n.output(n("Loop", "", n.input(dtype=np.bool_), n.input(2), body=body))
    return n.model()


@pytest.mark.parametrize("device", ["CPU", "REFERENCE"])
@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_endless_loops_end(end: str, device: str) -> None:
    compiled = ov.Core().compile_model(endless(), device)
    request = compiled.create_infer_request()
    feeds = [np.array(True), floats(2)]
    if end == "cancel":
        request.start_async(feeds)
        threading.Timer(0.3, request.cancel).start()
        with pytest.raises(ov.CancelledError):
            request.wait()
    else:
        request.start_async(feeds, deadline_ms=300)
        with pytest.raises(ov.DeadlineExceededError):
            request.wait()
    began = time.perf_counter()
    results = request.infer([np.array(False), feeds[1]])
    np.testing.assert_array_equal(results[0], feeds[1])
    assert time.perf_counter() - began < 60


def test_a_state_that_changes_its_type_is_named() -> None:
    nodes = [node("Cast", ["va"], ["vb"], to=onnx.TensorProto.DOUBLE), node("Identity", ["c"], ["c2"])]
    n = Net()
    n.output(n("Loop", n.input(dtype=np.int64), "", n.input(2), body=body_of(nodes, ["i", "c", "va"], ["c2", "vb"])))
    with pytest.raises(ov.ModelError, match=r"Loop 'n0_Loop' .*state variable 0"):
        ov.Core().compile_model(n.model(), "CPU")


def test_profiling_and_explain_know_all_stages() -> None:
    n = Net(opset=18)
    x = n("MatMul", n.input(4, 5), n.weights(5, 6))
    n.output(n("Transpose", n("NonZero", x), perm=[1, 0]))
    compiled = ov.Core().compile_model(n.model(), "CPU", {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    assert {row.status for row in request.profiling_info} == {row.NOT_RUN for row in request.profiling_info}
    request.infer([floats(4, 5)])
    rows = {row.node_name: row for row in request.profiling_info}
    assert {"n0_MatMul", "n1_NonZero", "n2_Transpose"} <= set(rows)
    assert all(row.status == row.EXECUTED and row.real_time.total_seconds() > 0 for row in rows.values())
    explanation = compiled.explain()
    assert {"NonZero", "Transpose"} <= {row.op_type for row in explanation.rows}
    assert "shapes depend on data" in str(explanation)


def test_strings_flow_through_the_evaluator() -> None:
    n = Net(opset=20)
    joined = n("StringConcat", n.input(2, dtype=np.object_), n.input(2, dtype=np.object_))
    n.output(joined)
    compiled = ov.Core().compile_model(n.model(), "CPU")
    found = compiled([np.array(["a", "b"], object), np.array(["c", "é"], object)])[0]
    assert found.tolist() == ["ac", "bé"]


def test_many_contents_of_a_parameter_stay_within_the_budget() -> None:
    n = Net(opset=18)
    n.output(n("Relu", n("Reshape", n.input(4, 6), n.input("count", dtype=np.int64))))
    compiled = ov.Core().compile_model(n.model(), "CPU", {"PROGRAM_CACHE_MB": 1})
    targets = [(24,), (2, 12), (12, 2), (3, 8), (8, 3), (4, 6), (6, 4), (1, 24), (24, 1)]
    x = floats(4, 6)
    for target in [ints(*target, *[1] * ones) for ones in range(20) for target in targets]:
        np.testing.assert_array_equal(compiled([x, target])[0], np.maximum(x, 0).reshape(target))
    assert 1 < len(device_of(compiled).programs.cached()) < 175


def sequence_model(*nodes: onnx.NodeProto, inputs: Sequence[onnx.ValueInfoProto], output: str) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", list(inputs), [helper.make_empty_tensor_value_info(output)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


FLOAT = onnx.TensorProto.FLOAT


def test_sequences_are_inputs_and_outputs() -> None:
    """The tensors of a result are its own: those of a loop, and of the next inference, do not change them."""
    body = body_of(
        [node("SequenceAt", ["s", "i"], ["a"]), node("Relu", ["a"], ["b"]), node("SequenceInsert", ["v", "b"], ["w"]),
         node("Identity", ["c"], ["c2"])], ["i", "c", "v"], ["c2", "w"],
    )  # fmt: skip
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    body.input[2].CopyFrom(helper.make_tensor_sequence_value_info("v", FLOAT, None))
    body.output[1].CopyFrom(helper.make_tensor_sequence_value_info("w", FLOAT, None))
    nodes = [node("SequenceLength", ["s"], ["n"]), node("SequenceEmpty", [], ["none"])]
    model = sequence_model(*nodes, node("Loop", ["n", "", "none"], ["y"], body=body), inputs=[sequence], output="y")
    compiled = ov.Core().compile_model(model, "CPU")
    inputs = [[floats(3), floats(3), floats(3)], [floats(2, 2)], []]
    kept = [compiled({"s": arrays})[0] for arrays in inputs]
    for arrays, found in zip(inputs, kept):
        assert len(found) == len(arrays)
        for array, result in zip(arrays, found):
            np.testing.assert_array_equal(result, np.maximum(array, 0))
    with pytest.raises(ov.InvalidArgumentError, match="a list of arrays is needed"):
        compiled({"s": 3})
    (converted,) = compiled({"s": [np.array([-1.0, 2.0])]})[0]
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted, [0, 2])
    with pytest.raises(ov.UnsupportedError, match="'s' is a sequence; device REFERENCE"):
        ov.Core().compile_model(model, "REFERENCE")


def test_an_optional_may_be_absent() -> None:
    tensor = helper.make_tensor_type_proto(FLOAT, [3])
    optional = helper.make_value_info("o", helper.make_optional_type_proto(tensor))
    compiled = ov.Core().compile_model(
        sequence_model(node("OptionalHasElement", ["o"], ["y"]), inputs=[optional], output="y"), "CPU"
    )
    assert not compiled({"o": None})[0]
    assert compiled({"o": floats(3)})[0]
    assert not compiled({"o": None})[0]
    nothing = sequence_model(node("OptionalHasElement", [""], ["y"]), inputs=[], output="y")
    assert not ov.Core().compile_model(nothing, "CPU")()[0]


def test_a_result_may_be_the_input_of_the_next_inference() -> None:
    """In its memory: what waits for a shape still reads the input when the first stage has written its result."""
    n = Net(opset=18)
    x = n.input("rows", 4, name="x")
    doubled = n("Add", x, x)
    n.output(doubled, n("GatherND", x, n("Transpose", n("NonZero", doubled), perm=[1, 0])))
    request = ov.Core().compile_model(n.model(), "CPU").create_infer_request()
    first = floats(5, 4)
    request.infer({"x": first})
    for power in range(1, 5):
        results = request.infer({"x": request.get_output_tensor(0).data}, share_inputs=True)
        np.testing.assert_array_equal(results[0], first * 2 ** (power + 1))
        np.testing.assert_array_equal(results[1], (first * 2**power).ravel())
