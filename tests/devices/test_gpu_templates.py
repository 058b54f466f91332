"""Each template of GPU kernels, on PoCL: small models, by their lowerings, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation import gpu_templates
from evaluation.gpu_templates import TUNINGS
from support import gpu_nvrtc
from support.gpu_cases import CASES, model
from support.gpu_harness import Driver, run_model, unavailable
from support.judge import Net, check, onnx_runtime, random_inputs

from cpuruntime import passes
from cpuruntime.devices.gpu.lower import CPU_SHAPED, PIPELINE, lower, reason
from cpuruntime.errors import UnsupportedError
from cpuruntime.frontend.reader import read

RUNS = [
    *((name, "cpu", "f32") for name in CASES),
    *((name, "gpu", "f32") for name in ("products", "attention", "convolutions", "grouped_convolutions", "volumes")),
    ("norms", "gpu", "f32"),
    ("attention", "cpu_last", "f32"),
    *((name, "cpu", "f16") for name in ("products", "convolutions", "norms")),
    ("winograd", "cpu", "f16"), ("convolutions", "gpu", "f16"),
]
TOLERANCES = {"f32": 1e-4, "f16": 5e-3}


@pytest.fixture(scope="module")
def driver() -> Driver:
    reason = unavailable("Portable")
    if reason:
        pytest.skip(reason)
    return Driver("Portable")


@pytest.mark.parametrize(("name", "tuning", "precision"), RUNS)
def test_a_template_computes_what_onnx_says(driver: Driver, name: str, tuning: str, precision: str) -> None:
    small = model(name)
    feeds = random_inputs(small)
    found = run_model(driver, small, feeds, TUNINGS[tuning], precision)
    check(found, onnx_runtime(small, feeds), TOLERANCES[precision])


def test_outputs_that_share_memory_are_copied(driver: Driver) -> None:
    n = Net()
    x = n.input(2, 6)
    y = n("Relu", x)
    n.output(y, n("Reshape", y, n.integers(3, 4)), n("Reshape", x, n.integers(12)), n("Identity", n.weights(2, 3)))
    small = n.model()
    feeds = random_inputs(small)
    check(run_model(driver, small, feeds, CPU_SHAPED), onnx_runtime(small, feeds))


def test_indices_beyond_an_axis_read_nothing_else(driver: Driver) -> None:
    n = Net()
    n.output(n("Gather", n.input(3, 2), n.input(4, dtype=np.int64), axis=0))
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    feeds = {"x0": x, "x1": np.array([2**40, -(2**40), 3, -4])}
    assert run_model(driver, n.model(), feeds, CPU_SHAPED)[0].tolist() == [[4, 5], [0, 1], [4, 5], [0, 1]]


def test_what_has_no_kernel_is_refused_with_a_reason() -> None:
    n = Net()
    n.output(n("Einsum", n.input(3, 4), n.input(3, 4), equation="ij,ij->i"), n("NonZero", n.input(5)))
    n.output(n("Cast", n.input(5), to=11))
    graph = passes.run(read(n.model()), PIPELINE)
    reasons = [found for node in graph.nodes if (found := reason(node))]
    assert reasons == ["no kernel for NonZero", "Cast has no kernel for f64"]
    with pytest.raises(UnsupportedError, match=r"NonZero 'n1_NonZero' .*: GPU has no kernel for NonZero\. Run"):
        lower(graph, None, "f32", CPU_SHAPED)


def test_equal_operators_share_their_kernels() -> None:
    n = Net()
    x = n.input(1, 16, 20, 20)
    for _ in range(6):
        x = n("Relu", n.conv(x, 16, 16, 3, pads=[1, 1, 1, 1]))
    n.output(n("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    lowered = lower(passes.run(read(n.model()), PIPELINE), None, "f32", TUNINGS["cpu_last"])
    assert len({launch.kernel for launch in lowered.launches}) == 3  # border, product, pool
    assert len(lowered.launches) == 13 == len(lowered.nodes)


def test_no_template_has_a_race_and_a_barrier_left_out_is_one() -> None:
    missing = unavailable("Oclgrind")
    if missing:
        pytest.skip(missing)
    assert gpu_templates.reports(["products", "norms"]) == []
    assert gpu_templates.reports(["products"], "product") != []


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_templates_compile_for_nvidia_within_limits(architecture: str) -> None:
    if gpu_nvrtc.folder() is None:
        pytest.skip("the package nvidia-cuda-nvrtc is not installed")
    for kernel in gpu_templates.kernels("f16", ["products", "convolutions", "norms", "movements", "integers"]):
        assert gpu_nvrtc.compiled(kernel, architecture).problem(gpu_nvrtc.Limits()) == ""
