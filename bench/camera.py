"""What a second request gains in a camera loop: capture hidden behind inference, on a simulated camera.

    python bench/camera.py                                    squeezenet; a frame takes as long as an inference
    python bench/camera.py -m model.onnx --capture 33         a model of one image input, a camera of 30 frames/s

A capture waits, as for a camera, and needs no processor. The two loops take turns; the figures are medians of rounds,
and the bound is one frame in the longer one of capture and inference.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import cpuruntime as ov
import models
from cpuruntime.cli.parser import Parser, positive
from cpuruntime.errors import Error

BUILT = {"light": ov.light_model, "bench": models.build}


class Camera:
    """Gives frames of a shape, each after so many seconds; the first pixel of a frame is its number."""

    def __init__(self, shape: tuple[int, ...], seconds: float) -> None:
        self._frame = np.random.default_rng(0).random(shape, np.float32)
        self.seconds = seconds
        self.count = 0

    def capture(self) -> np.ndarray:
        """The next frame: the memory of the one before."""
        time.sleep(self.seconds)
        self._frame.flat[0] = self.count
        self.count += 1
        return self._frame


def one_request(camera: Camera, compiled: ov.CompiledModel, frames: int) -> Iterator[np.ndarray]:
    """Capture, then infer, a frame at a time: the first output for each frame."""
    request = compiled.create_infer_request()
    for _ in range(frames):
        yield request.infer(camera.capture())[0]


def two_requests(camera: Camera, compiled: ov.CompiledModel, frames: int) -> Iterator[np.ndarray]:
    """The same outputs in the same order, while the next frame is captured."""
    current, following = compiled.create_infer_request(), compiled.create_infer_request()
    current.start_async(camera.capture())
    for _ in range(frames - 1):
        following.start_async(camera.capture())
        current.wait()
        yield current.results[0]
        current, following = following, current
    current.wait()
    yield current.results[0]


Loop = Callable[[Camera, ov.CompiledModel, int], Iterator[np.ndarray]]


def rate(loop: Loop, camera: Camera, compiled: ov.CompiledModel, frames: int) -> float:
    """Frames a second."""
    begin = time.perf_counter()
    for _ in loop(camera, compiled, frames):
        pass
    return frames / (time.perf_counter() - begin)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="python bench/camera.py", description="Measure what a second request gains in a camera loop.")
    add = options.add_argument
    add("-m", "--model", default="light:squeezenet", help="an ONNX file, light:NAME or bench:NAME, with one input")
    add("--capture", type=positive, metavar="MS", help="milliseconds a frame takes (default: as long as an inference)")
    add("--frames", type=positive, default=50, metavar="N", help="frames of a round (default: 50)")
    add("--rounds", type=positive, default=5, metavar="N", help="rounds of each loop (default: 5)")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Prints the rates and the gain, and returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        print(report(options))
    except Error as error:
        print(f"[ ERROR ] {error}", file=sys.stderr)
        return 1
    return 0


def report(options: argparse.Namespace) -> str:
    """What is printed."""
    compiled = ov.compile_model(source(options.model), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    compiled.wait_until_optimized()
    camera = Camera(tuple(compiled.input().shape), 0.0)
    inference = 1 / median(rate(one_request, camera, compiled, 10) for _ in range(3))
    camera.seconds = options.capture / 1000 if options.capture else inference
    rates: dict[Loop, list[float]] = {one_request: [], two_requests: []}
    for _ in range(options.rounds):
        for loop, found in rates.items():
            found.append(rate(loop, camera, compiled, options.frames))
    one, two = (median(found) for found in rates.values())
    return (
        f"{options.model}: capture {camera.seconds * 1e3:.1f} ms, inference {inference * 1e3:.1f} ms\n"
        f"one request   {one:6.1f} frames/s\n"
        f"two requests  {two:6.1f} frames/s, {two / one:.2f} times as many; "
        f"bound {1 / max(camera.seconds, inference):.1f}"
    )


def source(model: str) -> Any:
    """What `compile_model` takes."""
    kind, _, name = model.partition(":")
    if kind in BUILT:
        return BUILT[kind](name)
    return Path(model)


if __name__ == "__main__":
    sys.exit(main())
