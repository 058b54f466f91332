"""Compares a product and a 3x3 convolution of device GPU with NumPy's, on a driver that runs on the processor.

    python bench/gpu_beside_numpy.py
    python bench/gpu_beside_numpy.py --device GPU.1 --seconds 5

Both take turns, and the shortest time of each counts: on the device that of the kernels alone. NumPy's convolution is a
copy of what lies under each window, and a product. Also printed is what it takes to submit a launch in a program of 60.
Exits with 1 where the device has less than 0.8 of NumPy's speed or a wrong result, or a launch takes more than 3 us.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view

import cpuruntime as ov
from gpu_check import KERNEL_TIMES, LAUNCHES, LIMITS, kernel_seconds, launches

LEAST, MOST = 0.8, 3.0
SIZE, CHANNELS, SIDE = 1024, 64, 56


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="GPU", help="the device (default: GPU)")
    options.add_argument("--seconds", type=float, default=4.0, help="of each comparison (default: 4)")
    return options


def cases() -> Iterator[tuple[str, onnx.ModelProto, np.ndarray, Callable[[], np.ndarray]]]:
    """A name, a model of one node, its input, and what computes the same by NumPy."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((2, SIZE, SIZE), np.float32)
    yield f"product of {SIZE}", of_node("MatMul", x, weights), x, lambda: x @ weights
    image = rng.standard_normal((1, CHANNELS, SIDE, SIDE), np.float32)
    filters = rng.standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32)
    windows = sliding_window_view(np.pad(image[0], ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2)).transpose(0, 3, 4, 1, 2)
    matrix = filters.reshape(CHANNELS, -1)
    model = of_node("Conv", image, filters, pads=[1] * 4)
    yield f"3x3 convolution, {CHANNELS} channels of {SIDE}x{SIDE}", model, image, (
        lambda: matrix @ windows.reshape(CHANNELS * 9, -1)
    )  # fmt: skip


def of_node(op: str, x: np.ndarray, weights: np.ndarray, **attributes: object) -> onnx.ModelProto:
    """A model of one node with constant weights."""
    kind = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", x.shape), ("y", None))]
    node = onnx.helper.make_node(op, ["x", "w"], ["y"], **attributes)
    constants = [onnx.numpy_helper.from_array(weights, "w")]
    graph = onnx.helper.make_graph([node], op, ends[:1], ends[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)


def holds(
    device: str, name: str, model: onnx.ModelProto, x: np.ndarray, reference: Callable[[], np.ndarray], seconds: float
) -> bool:
    """Prints the times of a case: whether the device is right and fast enough."""
    ours, theirs = [], []
    with ov.Core().compile_model(model, device, KERNEL_TIMES) as compiled:
        request = compiled.create_infer_request()
        end = time.perf_counter() + seconds
        while not ours or time.perf_counter() < end:
            request.infer(x)
            ours.append(kernel_seconds(request))
            begin = time.perf_counter()
            wanted = reference()
            theirs.append(time.perf_counter() - begin)
        error = np.abs(request.results[0].reshape(wanted.shape) - wanted).max() / np.abs(wanted).max()
    share = min(theirs) / min(ours)
    print(f"{name}: {min(ours) * 1e3:.2f} ms, NumPy {min(theirs) * 1e3:.2f} ms: {share:.2f} of its speed; largest "
          f"difference {error:.1e} of the largest result")  # fmt: skip
    return share >= LEAST and error <= LIMITS["f32"]


def main() -> int:
    """The command."""
    options = parser().parse_args()
    found = [holds(options.device, *case, options.seconds) for case in cases()]
    cost = launches(options.device)
    print(f"program of {LAUNCHES} kernels: {cost:.1f} us a kernel to submit")
    return int(not all(found) or cost > MOST)


if __name__ == "__main__":
    sys.exit(main())
