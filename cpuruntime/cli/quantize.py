"""`cpuruntime quantize`: writes a model of 8 bits from a float32 one and samples, and reports what that changes."""

from __future__ import annotations

import argparse
import sys
import time
from math import ceil
from pathlib import Path

from cpuruntime.cli.parser import Parser, positive
from cpuruntime.compare.gate import check_files
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.quantize.budget import Limit
from cpuruntime.quantize.check import check, lines
from cpuruntime.quantize.data import Preparation, read_samples
from cpuruntime.quantize.form import read_model
from cpuruntime.quantize.page import page
from cpuruntime.quantize.report import summary, table
from cpuruntime.quantize.tool import Quantisation

_BETWEEN = 0.9
"""Seconds between two lines of progress."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(
        prog="cpuruntime quantize",
        description="Write a model whose convolutions and products have 8 bits, and report what that changes.",
        epilog="A quarter of the samples is held out: errors are measured on it. 'cpuruntime docs quantize' explains.",
    )
    add = options.add_argument
    add("model", metavar="MODEL", help="an ONNX file, or light:NAME")
    add("data", nargs="?", metavar="DATA",
        help=".npz, .npy, an image, a folder of these, or module:function, which yields samples")  # fmt: skip
    add("-o", "--output", type=Path, metavar="FILE", help="the model to write (default: MODEL-int8.onnx)")
    add("--samples", type=positive, default=32, metavar="N", help="use the first N samples (default: 32)")
    limits = options.add_argument_group("limits: layers stay float32 where they cost more than they save")
    limits.add_argument("--max-error", type=share, metavar="E",
                        help="relative error of the outputs: 0.01, or 1%%")  # fmt: skip
    limits.add_argument("--min-cosine", type=share, metavar="C", help="cosine of the outputs to those in float32")
    images = options.add_argument_group("images: (pixel - mean) / scale, one number or one for each channel")
    images.add_argument("--mean", type=numbers, default=(0.0,), metavar="M,...", help="default: 0")
    images.add_argument("--scale", type=numbers, default=(1.0,), metavar="S,...", help="default: 1")
    images.add_argument("--bgr", action="store_true", help="the model takes BGR; RGB is the default")
    for name, what in (("json", "the report as JSON"), ("html", "the report as a page with plots")):
        add(f"--{name}", type=Path, metavar="FILE", help=f"write {what} to FILE")
    add("--check", action="store_true",
        help="MODEL is quantised: count the pairs of weights that saturate in other runtimes")  # fmt: skip
    return options


def run(options: argparse.Namespace) -> None:
    """Writes the model and prints the report. Raises cpuruntime.Error or OSError."""
    if options.check:
        if options.data is not None or options.output is not None:
            raise InvalidArgumentError("--check takes a quantised MODEL only; nothing is written.")
        for line in lines(check(read_model(options.model)[0])):
            print(line)
        return
    if options.data is None:
        raise InvalidArgumentError("DATA is missing: samples to calibrate with, or --check for a quantised model.")
    name = options.model.removeprefix("light:")
    output = options.output or Path(name).with_name(f"{Path(name).stem}-int8.onnx")
    files = {key: value for key, value in (("output", output), ("json", options.json), ("html", options.html)) if value}
    check_files(files)
    progress = Progress()
    progress(f"reading {options.model}", 0, 0)
    message, model = read_model(options.model)
    preparation = Preparation(options.mean, options.scale, options.bgr)
    samples = read_samples(options.data, model, preparation, options.samples)
    limit = Limit(options.max_error, options.min_cosine)
    done = Quantisation(message, Path(name).name, samples, limit, progress)
    output.write_bytes(done.written.SerializeToString())
    if options.json:
        options.json.write_text(done.report.json())
    if options.html:
        options.html.write_text(page(done.report), encoding="utf-8")
    for line in (*table(done.report), *summary(done.report), f"Written: {output}."):
        print(line)


class Progress:
    """Lines on stderr: the first of each stage, then at most one a second, with the seconds that the stage may last."""

    def __init__(self) -> None:
        self._stage, self._begin, self._last = "", 0.0, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Begins a stage, or says how many of its pieces are done if it has some."""
        now = time.monotonic()
        if stage == self._stage and now - self._last <= _BETWEEN:
            return
        if stage != self._stage:
            self._stage, self._begin = stage, now
        self._last = now
        line = f"{stage}, {done} of {total}" if total else stage
        if done:
            line += f", about {ceil((now - self._begin) * (total - done) / done)} s left"
        print(f"[ INFO ] {line}", file=sys.stderr, flush=True)


def share(text: str) -> float:
    """A number from 0 to 1, or a percentage."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number above 0 and up to 1, or a percentage")
    return value


def numbers(text: str) -> tuple[float, ...]:
    """Numbers separated by commas, perhaps in brackets."""
    try:
        return tuple(map(float, text.strip("[]").split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' must be numbers separated by commas") from None
