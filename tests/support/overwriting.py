"""Infers while other threads overwrite the bound inputs and outputs: `overwriting.py SECONDS`, for all cases together.

All arrays lie between pages that cannot be touched. What comes out means nothing; the process has to live.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from cases.case import Case, Tensor, constant
from support.guard_pages import CONFIG, between_pages, say

import cpuruntime as ov

COORDINATES = np.array([np.nan, np.inf, -np.inf, 3e38, -1e8, 5e-324, -1.0, 2.5])
WRITERS = 3


def gathered(
    operator: str, shape: tuple[int, ...], *more: Tensor, dtype: type = np.int64, **attributes: object
) -> Case:
    return Case(operator, operator, (Tensor((64, 64)), Tensor(shape, dtype, 0, 1), *more), attributes, 1, 18)


def sequence(operator: str, gates: int) -> Case:
    weights = [constant(np.ones((1, gates * 4, inner)) / 9) for inner in (3, 4)]
    lengths = Tensor((2,), np.int32, values=[9, 5])
    return Case(operator, operator, (Tensor((9, 2, 3)), *weights, None, lengths), {"hidden_size": 4}, 1, 18)


# Cases, and at run time integers that are inside, so that inferences get as far as possible between two writes.
CASES = [
    Case("TopK f32", "TopK", (Tensor((4096,)), constant([1024], np.int64)), {}, 2, 18),
    Case("TopK i64", "TopK", (Tensor((4, 512), np.int64), constant([100], np.int64)), {"largest": 0}, 2, 18),
    gathered("Gather", (512,), dtype=np.int32),
    gathered("Gather", (512,)),
    gathered("GatherElements", (64, 64)),
    gathered("GatherND", (512, 2)),
    gathered("ScatterElements", (64, 64), Tensor((64, 64))),
    gathered("ScatterElements", (64, 64), Tensor((64, 64)), reduction="add"),
    gathered("ScatterND", (512, 2), Tensor((512,))),
    gathered("ScatterND", (64, 1), Tensor((64, 64)), reduction="max"),
    Case("OneHot", "OneHot", (Tensor((512,), np.int64, 0, 9), constant(9, np.int64), constant([0, 1])), {}, 1, 18),
    Case("GridSample", "GridSample", (Tensor((1, 2, 16, 16)), Tensor((1, 16, 16, 2))), {"mode": "cubic",
         "padding_mode": "reflection"}, 1, 20),
    Case("GridSample", "GridSample", (Tensor((1, 2, 16, 16)), Tensor((1, 16, 16, 2))), {"mode": "linear"}, 1, 20),
    Case("RoiAlign", "RoiAlign", (Tensor((2, 3, 16, 16)), Tensor((16, 4), low=0, high=9),
         Tensor((16,), np.int64, 0, 2)), {"output_height": 3, "output_width": 3}, 1, 18),
    Case("ArgMax", "ArgMax", (Tensor((64, 64)),), {"axis": 0}, 1, 18),
    Case("CumSum", "CumSum", (Tensor((64, 64), np.int64), constant(1, np.int64)), {}, 1, 18),
    Case("CumSum", "CumSum", (Tensor((64, 64)), Tensor((), np.int64, values=1)), {}, 1, 18),
    Case("Resize", "Resize", (Tensor((1, 3, 9, 9)), None, constant([1, 1, 2, 2])), {"mode": "linear"}, 1, 18),
    Case("ReverseSequence", "ReverseSequence", (Tensor((64, 9)), Tensor((9,), np.int64, 1, 64)), {"batch_axis": 1,
         "time_axis": 0}, 1, 18),
    Case("MaxUnpool", "MaxUnpool", (Tensor((1, 1, 8, 8)), Tensor((1, 1, 8, 8), np.int64, 0, 99)),
         {"kernel_shape": [2, 2], "strides": [2, 2]}, 1, 18),
    Case("Div", "Div", (Tensor((512,), np.int64, 1, 9), Tensor((512,), np.int64, 1, 9)), {}, 1, 18),
    Case("Mod", "Mod", (Tensor((512,), np.int32, 1, 9), Tensor((512,), np.int32, 1, 9)), {}, 1, 18),
    Case("Where", "Where", (Tensor((512,), np.bool_), Tensor((512,)), Tensor((512,))), {}, 1, 18),
    sequence("LSTM", 4),
    sequence("GRU", 3),
]  # fmt: skip


def overwrite(arrays: list[np.ndarray], usual: list[np.ndarray], over: threading.Event, seed: int) -> None:
    """Writes random bits, 2**50, other hostile numbers and the usual content, in turn, to random parts."""
    random = np.random.default_rng(seed)
    for turn in itertools.count():
        if over.is_set():
            return
        for array, content in zip(arrays, usual):
            flat = array.reshape(-1)
            part = slice(int(random.integers(0, flat.size)), None) if turn % 2 else slice(None)
            if turn % 3 == 0:
                np.copyto(flat, content.reshape(-1))
            elif turn % 3 == 1 or array.dtype == bool:
                raw = flat.view(np.uint8)
                raw[:] = random.integers(0, 2 if array.dtype == bool else 256, raw.size, np.uint8)
            elif array.dtype.kind == "f":
                flat[part] = random.choice(COORDINATES)
            else:
                flat[part] = random.choice([2**50, -(2**50), 2**31, -1, 64]).astype(array.dtype)


def start_writers(arrays: list[np.ndarray]) -> Callable[[], None]:
    """Threads that overwrite the arrays until the function that is returned is called."""
    over = threading.Event()
    usual = [array.copy() for array in arrays]
    writers = [threading.Thread(target=overwrite, args=(arrays, usual, over, seed)) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()

    def stop() -> None:
        over.set()
        for writer in writers:
            writer.join()

    return stop


def infer_on(case: Case, device: str, seconds: float) -> int:
    """How many inferences there were, with an error or without."""
    compiled = ov.Core().compile_model(case.model(), device, CONFIG if device == "CPU" else None)
    request = compiled.create_infer_request()
    feeds: Mapping[str, np.ndarray] = case.feeds()
    arrays = []
    for name, array in feeds.items():
        arrays.append(between_pages(array, True))
        request.set_tensor(name, ov.Tensor(arrays[-1], shared_memory=True))
    for index, port in enumerate(compiled.outputs):
        if port.partial_shape.is_static:
            shape, dtype = tuple(port.partial_shape.to_shape()), port.element_type.to_dtype()
            arrays.append(between_pages(np.zeros(shape, dtype), True))
            request.set_output_tensor(index, ov.Tensor(arrays[-1], shared_memory=True))
    stop = start_writers(arrays)
    count, end = 0, time.monotonic() + seconds
    while count < 3 or time.monotonic() < end:
        count += 1
        try:
            request.infer()
        except Exception:  # whatever the reference evaluator raises of such numbers
            continue
    stop()
    return count


if __name__ == "__main__":
    sys.setswitchinterval(1e-5)
    runs = [(case, "CPU") for case in CASES] + [(case, "REFERENCE") for case in CASES if "Gather" in case.name]
    inferences = 0
    for case, device in runs:
        say(f"{case.name} on {device}")
        inferences += infer_on(case, device, float(sys.argv[1]) / len(runs))
    say(f"{inferences} inferences, {WRITERS} writers")
