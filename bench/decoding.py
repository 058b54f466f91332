"""Measures text generation with keys and values of the tokens before: each step's outputs are the next one's inputs.

    python bench/decoding.py
    python bench/decoding.py --layers 2 --width 128 --vocabulary 1000 --tokens 300
    python bench/decoding.py --bits 4                   # weights of 4 bits

A model like GPT-2 reads a prompt, then gives a token a step, so that the shapes are new in every step. cpuruntime binds
its output tensors as the next step's inputs, ONNX Runtime does by I/O binding. What a step takes beyond its kernels is
all that is not between its first instruction and its last. Exits with 1 when that is above the limit.

With --bits the products have weights of 4 or 8 bits in blocks of 32 (MatMulNBits), and OpenVINO runs, too; engines
round differently then, so their tokens may differ.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from cpuruntime.cli.parser import Parser, positive, positive_seconds
from models.decoding import HEAD, gpt2_with_past
from models.few_bits import with_few_bits
from peer.engines import installed
from peer.progress import Progress
from peer.ratios import rotated

Step = Callable[[np.ndarray, bool], np.ndarray]
"""Logits for tokens, int64[1, tokens], behind those before; the first step of a text is marked."""


@dataclass
class Generation:
    """The tokens of a text, and of each step but the prompt's the milliseconds, and those of its kernels if known."""

    tokens: list[int] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    kernels: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return 1e3 * len(self.steps) / sum(self.steps)

    @property
    def cost(self) -> float:
        """What a step takes, as a multiple of its kernels: the median."""
        return statistics.median(step / kernels for step, kernels in zip(self.steps, self.kernels))


class OpenVino:
    """OpenVINO, one request."""

    runtime, shares = "openvino", False

    def __init__(self, path: Path, threads: int, empty: np.ndarray) -> None:
        core = importlib.import_module(self.runtime).Core()
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self._request = core.compile_model(path, "CPU", config).create_infer_request()
        self._empty = empty
        self._pasts = [port.any_name for port in self._request.model_inputs[1:]]

    def __call__(self, ids: np.ndarray, is_first: bool) -> np.ndarray:
        before = [self._empty] * len(self._pasts) if is_first else self._presents
        inputs = dict(zip(self._pasts, before), input_ids=ids)
        *self._presents, logits = self._request.infer(inputs, share_inputs=True, share_outputs=self.shares).to_tuple()
        return logits


class Streams(OpenVino):
    """cpuruntime, which has the same interface and lets a step read the memory of the last one's results."""

    runtime, shares = "cpuruntime", True

    def kernels(self) -> float:
        """Milliseconds from the first instruction of the last step to its last."""
        return self._request.latency_anatomy.executed


class Session:
    """ONNX Runtime with I/O binding."""

    def __init__(self, path: Path, threads: int, empty: np.ndarray) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._pasts = [port.name for port in self._session.get_inputs()[1:]]
        self._presents = [self._value(empty)] * len(self._pasts)
        self._empty = self._presents

    def __call__(self, ids: np.ndarray, is_first: bool) -> np.ndarray:
        binding = self._binding
        binding.clear_binding_inputs()
        binding.bind_ortvalue_input("input_ids", self._value(ids))
        for name, value in zip(self._pasts, self._empty if is_first else self._presents):
            binding.bind_ortvalue_input(name, value)
        for port in self._session.get_outputs():
            binding.bind_output(port.name, "cpu")
        self._session.run_with_iobinding(binding)
        *self._presents, logits = binding.get_outputs()
        return logits.numpy()


def generate(step: Step, kernels: Callable[[], float] | None, prompt: np.ndarray, count: int) -> Generation:
    """The likeliest tokens behind a prompt."""
    found = Generation()
    ids = prompt
    for index in range(count + 1):
        began = time.perf_counter()
        logits = step(ids, index == 0)
        taken = (time.perf_counter() - began) * 1e3
        ids = logits[:, -1].argmax(1, keepdims=True)
        found.tokens.append(int(ids.item()))
        if index:
            found.steps.append(taken)
            if kernels is not None:
                found.kernels.append(kernels())
    return found


def parser() -> Parser:
    """The command's options."""
    options = Parser(prog="decoding.py", description="Measure text generation with a cache of keys and values.")
    add = options.add_argument
    add("--layers", type=positive, default=12, help="of the model (default: 12)")
    add("--width", type=positive, default=768, help=f"of the model, a multiple of {HEAD} (default: 768)")
    add("--vocabulary", type=positive, default=50257, help="of the model (default: 50257)")
    add("--prompt", type=positive, default=16, help="tokens of the prompt (default: 16)")
    add("--tokens", type=positive, default=200, help="tokens to generate (default: 200)")
    add("--rounds", type=positive, default=3, help="texts of each engine; one more comes before (default: 3)")
    add("--threads", type=positive, default=len(os.sched_getaffinity(0)), help="of each engine (default: the cores)")
    add("--bits", type=int, choices=(4, 8, 32), default=32, help="of a weight of a product (default: 32)")
    add("--accuracy-level", type=int, choices=range(5), default=0, help="of MatMulNBits; 4: integers (default: 0)")
    add("--limit", type=positive_seconds, default=1.1, help="the most that a step takes, in kernels (default: 1.1)")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when a step takes more than the limit beside its kernels or the engines' tokens differ."""
    options = parser().parse_args(arguments)
    prompt = np.random.default_rng(0).integers(0, options.vocabulary, (1, options.prompt))
    empty = np.zeros((1, options.width // HEAD, 0, HEAD), np.float32)
    with tempfile.TemporaryDirectory(prefix="cpuruntime-decoding-") as folder:
        path = Path(folder) / "model.onnx"
        positions = options.prompt + options.tokens + 1
        shape = {"layers": options.layers, "width": options.width, "vocabulary": options.vocabulary}
        model = gpt2_with_past(positions=positions, **shape)
        onnx.save(model if options.bits == 32 else with_few_bits(model, options.bits, options.accuracy_level), path)
        engines: dict[str, Step] = {"cpuruntime": Streams(path, options.threads, empty)}
        if installed("onnxruntime"):
            engines["onnxruntime"] = Session(path, options.threads, empty)
        if options.bits < 32 and installed("openvino"):
            engines["openvino"] = OpenVino(path, options.threads, empty)
    texts: dict[str, list[Generation]] = {name: [] for name in engines}
    progress = Progress()
    for turn in range(1 + options.rounds):
        for name in rotated(list(engines), turn):
            progress(f"text {turn + 1} of {1 + options.rounds}: {name}")
            kernels = getattr(engines[name], "kernels", None)
            texts[name].append(generate(engines[name], kernels, prompt, options.tokens))
    progress.clear()
    for name, (first, *later) in texts.items():
        rates = f"{statistics.median(text.rate for text in later):8.1f} tokens/s, the first text {first.rate:.1f}"
        print(f"{name:<12} {rates}")
    costs = [text.cost for text in texts["cpuruntime"]]
    first, again = costs[0], statistics.median(costs[1:])
    print(f"A step takes {again:.3f} times its kernels, {first:.3f} in the first text; the limit is {options.limit:g}.")
    differ = len({tuple(text.tokens) for of in texts.values() for text in of}) > 1
    if differ:
        print("The engines' tokens differ.")
    return int(max(first, again) > options.limit or (differ and options.bits == 32))


if __name__ == "__main__":
    sys.exit(main())
