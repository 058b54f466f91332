"""Compares `cpuruntime.preprocess` with OpenVINO's PrePostProcessor: random chains of steps, and the time of one.

    python bench/preprocessing.py --chains 200
    python bench/preprocessing.py --time

Left out is what OpenVINO 2026.4 does not take (gray images of layouts but NHWC and NCHW, padding of bytes, RGBX as
NCHW, other layouts than these for Pillow's ways), or does wrongly (cubic ways of images of rank 3, pixels half way
between two nearest).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import onnx
from onnx import helper

import cpuruntime.preprocess
from cpuruntime.cli.parser import Parser, positive
from peer.engines import installed

try:
    import cv2
except ImportError:
    cv2 = None

ALGORITHMS = ("RESIZE_LINEAR", "RESIZE_NEAREST", "RESIZE_CUBIC", "RESIZE_BILINEAR_PILLOW", "RESIZE_BICUBIC_PILLOW")
FRAME, MEAN, SCALE = (1080, 1920, 3), [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
YUV = ("NV12_SINGLE_PLANE", "NV12_TWO_PLANES", "I420_SINGLE_PLANE", "I420_THREE_PLANES")


class Chain:
    """A random chain: what the user's tensor is like, steps as (method, arguments), the model's input, the data.

    `Words` stands for an enumeration's member: each engine takes its own.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.batch, self.height, self.width = 1, 2 * int(rng.integers(4, 30)), 2 * int(rng.integers(4, 30))
        self.color = str(rng.choice(["", "RGB", "BGR", "RGBX", "BGRX", "GRAY", *YUV]))
        self.channels = {"GRAY": 1, "RGBX": 4, "BGRX": 4}.get(self.color, 3)
        self.layout = "NHWC" if self.color in (*YUV, "RGBX", "BGRX") else str(rng.choice(["NHWC", "NCHW", "HWC"]))
        self.type = str(rng.choice(["u8", "u8", "f32"]))
        self.sizes = {"N": 1, "H": self.height, "W": self.width, "C": self.channels}
        self.arrays = self._arrays()
        self.first_layout, self.first_shape = self.layout, [self.sizes[name] for name in self.layout]
        self.steps: list[tuple[str, tuple[Any, ...]]] = []
        self.now = self.type
        if self.color in (*YUV, "RGBX", "BGRX"):
            self._convert_color()
        for _ in range(int(rng.integers(1, 6))):
            getattr(self, str(rng.choice([name for name in dir(self) if name.startswith("_add_")])))()
        self.last_layout = str(rng.choice(["NCHW", "NHWC"])) if len(self.layout) == 4 else "NCHW"
        self.out_layout = str(rng.choice(["NCHW", "NHWC"]))

    def _arrays(self) -> list[np.ndarray]:
        height, width = self.height, self.width
        shapes = {
            "NV12_SINGLE_PLANE": [(1, height * 3 // 2, width, 1)],
            "I420_SINGLE_PLANE": [(1, height * 3 // 2, width, 1)],
            "NV12_TWO_PLANES": [(1, height, width, 1), (1, height // 2, width // 2, 2)],
            "I420_THREE_PLANES": [(1, height, width, 1), *[(1, height // 2, width // 2, 1)] * 2],
        }.get(self.color, [tuple(self.sizes[name] for name in self.layout)])
        dtype = np.uint8 if self.type == "u8" else np.float32
        return [self.rng.integers(0, 256, shape).astype(dtype) for shape in shapes]

    def _convert_color(self) -> None:
        target = str(self.rng.choice(["RGB", "BGR"]))
        self.steps.append(("convert_color", (("ColorFormat", target),)))
        self.sizes["C"], self.color_now = 3, target

    def _add_mean(self) -> None:
        self._add_real()
        numbers = [round(float(n), 2) for n in self.rng.uniform(0, 100, self.rng.choice([1, self.sizes["C"]]))]
        self.steps.append(("mean", (numbers if len(numbers) > 1 else numbers[0],)))

    def _add_scale(self) -> None:
        self._add_real()
        numbers = [round(float(n), 2) for n in self.rng.uniform(1, 3, self.rng.choice([1, self.sizes["C"]]))]
        self.steps.append(("scale", (numbers if len(numbers) > 1 else numbers[0],)))

    def _add_real(self) -> None:
        if self.now != "f32":
            self.steps.append(("convert_element_type", (("Type", "f32"),)))
            self.now = "f32"

    def _add_resize(self) -> None:
        algorithms = ALGORITHMS if self.layout in ("NCHW", "NHWC") else ALGORITHMS[:2]
        algorithm = str(self.rng.choice(algorithms))
        height, width = (int(n) for n in self.rng.integers(5, 70, 2))
        while "NEAREST" in algorithm and (ties(self.sizes["H"], height) or ties(self.sizes["W"], width)):
            height, width = (int(n) for n in self.rng.integers(5, 70, 2))
        self.steps.append(("resize", (("ResizeAlgorithm", algorithm), height, width)))
        self.sizes |= {"H": height, "W": width}

    def _add_crop(self) -> None:
        begins, ends = [0] * len(self.layout), [self.sizes[name] for name in self.layout]
        for name in "HW":
            axis, most = self.layout.index(name), max(self.sizes[name] // 4, 1)
            begins[axis], cut = (int(n) for n in self.rng.integers(0, most, 2))
            ends[axis] -= cut
            self.sizes[name] = ends[axis] - begins[axis]
        self.steps.append(("crop", (begins, ends)))

    def _add_pad(self) -> None:
        self._add_real()
        begins, ends = [0] * len(self.layout), [0] * len(self.layout)
        for name in "HW":
            axis = self.layout.index(name)
            begins[axis], ends[axis] = (int(n) for n in self.rng.integers(0, 4, 2))
            self.sizes[name] += begins[axis] + ends[axis]
        mode = str(self.rng.choice(["CONSTANT", "REFLECT", "SYMMETRIC"]))
        self.steps.append(("pad", (begins, ends, 7.0, ("PaddingMode", mode))))

    def _add_reverse(self) -> None:
        self.steps.append(("reverse_channels", ()))

    def _add_layout(self) -> None:
        if len(self.layout) == 4:
            order = [int(n) for n in self.rng.permutation(4)]
            layout = "".join(self.layout[axis] for axis in order)
            self.steps.append(("convert_layout", (order if self.rng.random() < 0.5 else ("Layout", layout),)))
            self.layout = layout

    def _add_gray(self) -> None:
        color = getattr(self, "color_now", self.color)
        if color in ("RGB", "BGR") and self.layout in ("NHWC", "NCHW"):
            self.steps.append(("convert_color", (("ColorFormat", "GRAY"),)))
            self.sizes["C"], self.color_now = 1, "GRAY"

    def run(self, engine: Any, words: Any) -> np.ndarray:
        """The result in one engine."""

        def own(argument: Any) -> Any:
            if not isinstance(argument, tuple):
                return argument
            kind, name = argument
            if kind == "Layout":
                return engine.Layout(name)
            return getattr(engine.Type if kind == "Type" else getattr(words, kind), name)

        core = engine.Core()
        model = core.read_model(identity([self.sizes[name] for name in self.last_layout]))
        ppp = words.PrePostProcessor(model)
        tensor = ppp.input().tensor()
        tensor.set_element_type(own(("Type", self.type))).set_layout(engine.Layout(self.first_layout))
        if self.color:
            names = {"NV12_TWO_PLANES": ["y", "uv"], "I420_THREE_PLANES": ["y", "u", "v"]}.get(self.color, [])
            tensor.set_color_format(own(("ColorFormat", self.color)), names)
        tensor.set_shape(self.first_shape)
        for method, arguments in self.steps:
            getattr(ppp.input().preprocess(), method)(*map(own, arguments))
        ppp.input().model().set_layout(engine.Layout(self.last_layout))
        ppp.output().model().set_layout(engine.Layout(self.last_layout))
        ppp.output().tensor().set_layout(engine.Layout(self.out_layout))
        compiled = core.compile_model(ppp.build(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.array(compiled(self.arrays)[0])

    def __str__(self) -> str:
        steps = " ".join(f"{name}{arguments}" for name, arguments in self.steps)
        return f"{self.type} {self.color or '-'} {self.first_layout} {self.first_shape}: {steps} -> {self.last_layout}"


def ties(source: int, target: int) -> bool:
    """Whether a target pixel lies half way between two source pixels: OpenVINO's single precision takes either."""
    return any((2 * i + 1) * source % (2 * target) == 0 for i in range(target))


def identity(shape: list[int]) -> bytes:
    """A model that returns its input, f32 of a shape."""
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def compare(count: int, seed: int) -> int:
    """Run chains on both engines; 1 where results differ by more than rounding to bytes explains."""
    theirs = import_module("openvino"), import_module("openvino.preprocess")
    rng, worst, failed = np.random.default_rng(seed), {"whole": 0.0, "real": 0.0}, 0
    for number in range(count):
        chain = Chain(rng)
        try:
            results = [chain.run(*engine) for engine in ((cpuruntime, cpuruntime.preprocess), theirs)]
        except RuntimeError as error:
            print(f"chain {number}: {' '.join(str(error).split())[:300]}: {chain}")
            failed += 1
            continue
        same_shape = results[0].shape == results[1].shape
        difference = float(np.max(np.abs(results[0] - results[1]))) if same_shape else float("inf")
        kind = "whole" if rounds(chain) else "real"
        worst[kind] = max(worst[kind], difference)
        if not difference <= (2.0 if kind == "whole" else 0.005):
            print(f"chain {number}: difference {difference:.4f}: {chain}")
            failed += 1
    print(
        f"{count} chains (seed {seed}): worst difference {worst['real']:.6f} where all is real, "
        f"{worst['whole']:.4f} where bytes are rounded, on a scale of 255; {failed} beyond the limits"
    )
    return int(failed > 0)


def rounds(chain: Chain) -> bool:
    """Whether the chain rounds to bytes in a step, where engines may differ by one."""
    for name, _ in chain.steps:
        if name == "convert_element_type":
            return False
        if name in ("resize", "convert_color") and chain.type == "u8":
            return True
    return False


def build(engine: Any, words: Any, algorithm: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function that makes [1,3,224,224] of BGR bytes [1080,1920,3] with one thread of an engine."""
    core = engine.Core()
    ppp = words.PrePostProcessor(core.read_model(identity([1, 3, 224, 224])))
    tensor = ppp.input().tensor().set_element_type(engine.Type.u8).set_layout(engine.Layout("NHWC"))
    tensor.set_color_format(words.ColorFormat.BGR).set_spatial_static_shape(*FRAME[:2])
    ppp.input().model().set_layout(engine.Layout("NCHW"))
    steps = ppp.input().preprocess().resize(getattr(words.ResizeAlgorithm, algorithm))
    steps.convert_color(words.ColorFormat.RGB).convert_element_type(engine.Type.f32).mean(MEAN).scale(SCALE)
    compiled = core.compile_model(ppp.build(), "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    request = compiled.create_infer_request()

    def run(frame: np.ndarray) -> np.ndarray:
        request.set_input_tensor(engine.Tensor(frame[None], shared_memory=True))
        request.infer()
        return request.get_output_tensor().data

    return run


def by_opencv(frame: np.ndarray) -> np.ndarray:
    """The same by OpenCV and NumPy, as programs write it."""
    small = cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR)
    pixels = (small[..., ::-1].astype(np.float32) - np.float32(MEAN)) / np.float32(SCALE)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]


def measure(rounds: int) -> int:
    """Times of preprocessing a frame, in turns; 1 where linear takes more than OpenVINO, or 0.6 of OpenCV and NumPy."""
    frame = np.random.default_rng(0).integers(0, 256, FRAME).astype(np.uint8)
    theirs = import_module("openvino"), import_module("openvino.preprocess")
    failed = False
    for algorithm in ALGORITHMS:
        engines = {"cpuruntime": build(cpuruntime, cpuruntime.preprocess, algorithm)}
        engines["openvino"] = build(*theirs, algorithm)
        if cv2 is not None and algorithm == "RESIZE_LINEAR":
            cv2.setNumThreads(1)
            engines["OpenCV + NumPy"] = by_opencv
        least = dict.fromkeys(engines, float("inf"))
        for _ in range(rounds):
            for name, run in engines.items():
                start = time.perf_counter()
                run(frame)
                least[name] = min(least[name], time.perf_counter() - start)
        ours = least["cpuruntime"]
        limits = {"openvino": 1.0, "OpenCV + NumPy": 0.6}
        texts = [f"{name} {1000 * spent:.3f} ms" for name, spent in least.items()]
        ratios = [f"{ours / least[name]:.2f} of {name}" for name in least if name in limits]
        if algorithm == "RESIZE_LINEAR":
            failed = any(ours > limits[name] * least[name] for name in least if name in limits)
        print(f"{algorithm}: {', '.join(texts)}; {', '.join(ratios)}")
    return int(failed)


def parser() -> Parser:
    """The command's options."""
    options = Parser(prog="preprocessing.py", description="Compare preprocessing with OpenVINO's.")
    options.add_argument("--time", action="store_true", help="time a 1080p frame to 224 x 224 instead, on one thread")
    options.add_argument("--rounds", type=positive, default=50, help="turns of each engine with --time (default: 50)")
    options.add_argument("--chains", type=positive, default=200, help="random chains to compare (default: 200)")
    options.add_argument("--seed", type=int, default=0, help="of the chains (default: 0)")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when results differ."""
    options = parser().parse_args(arguments)
    if not installed("openvino"):
        print('OpenVINO is needed: pip install -e ".[bench]" installs it.', file=sys.stderr)
        return 1
    if options.time:
        return measure(options.rounds)
    return compare(options.chains, options.seed)


if __name__ == "__main__":
    sys.exit(main())
