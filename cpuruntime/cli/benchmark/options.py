"""The options of `cpuruntime benchmark`: names, values and defaults are benchmark_app's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cpuruntime as ov
from cpuruntime.cli.benchmark.load import load
from cpuruntime.cli.benchmark.preprocessing import PRECISIONS
from cpuruntime.cli.benchmark.statistics import KINDS
from cpuruntime.cli.model_options import add_model_options
from cpuruntime.cli.parser import Parser, boolean, non_negative, percentile, positive, positive_seconds

DEFAULT_SECONDS = 60


class _BenchmarkParser(Parser):
    def format_help(self) -> str:
        devices = ", ".join(ov.Core().available_devices)
        return f"{super().format_help()}\nAvailable devices: {devices}\n"

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args)
        found = super().parse_args(arguments, namespace)
        found.arguments = arguments
        return found


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = _BenchmarkParser(
        prog="cpuruntime benchmark",
        description="Measure how fast a model is inferred.",
        epilog="'cpuruntime docs benchmarking' describes them by task.",
    )
    add = options.add_argument
    add_model_options(add, "latency with -api sync, else throughput")
    add("-d", "--target_device", default="CPU", metavar="DEVICE", help="the device to infer on (default: CPU)")
    add("-api", "--api_type", choices=("sync", "async"),
        help="one request at a time, or as many as the device needs (default: sync with -hint latency, else async)")
    add("-niter", "--number_iterations", type=non_negative, metavar="N",
        help="stop after N inferences; 0 compiles the model and stops (default: stop by time)")
    add("-t", "--time", type=positive, metavar="SECONDS",
        help=f"stop after this time (default: {DEFAULT_SECONDS}, or no limit with -niter)")
    add("-max_irate", "--maximum_inference_rate", type=_rate, metavar="RATE",
        help="at most so many frames a second; 0, the default, is no limit")
    add("--load", type=load, metavar="LOAD",
        help="requests arrive by open:RATE, burst, burst:COUNT:SECONDS or trace:FILE, whether or not earlier ones are "
        "finished (default: the next starts when one is finished)")
    _add_inputs(options)
    _add_running(options)
    _add_reports(options)
    return options


def _rate(text: str) -> float | None:
    """A number of at least 0; 0 is None."""
    return None if text in ("0", "0.0") else positive_seconds(text)


def _add_inputs(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("inputs").add_argument
    add("-i", "--paths_to_input", action="append", nargs="+", default=[], metavar="PATH",
        help="files for the inputs, or folders of them: images, .npy, .npz, .bin; input:file,folder for one of several "
        "inputs (default: random values)")
    add("-data_shape", "--data_shape", default="", metavar="SHAPES",
        help='sizes for dynamic inputs: "input1[1,128][1,256],input2[1,4]"; several of an input are taken in turns')
    add("-layout", "--layout", default="", metavar="LAYOUTS",
        help='what dimensions mean: "input1[NCHW],input2[NC]", or "[NCHW]" for all inputs (default: guessed)')
    add("-ip", "--input_precision", choices=PRECISIONS, metavar="TYPE",
        help=f"element type of all inputs: {', '.join(PRECISIONS)} (default: u8 for images of three channels, else the "
        "model's)")
    add("-op", "--output_precision", choices=PRECISIONS, metavar="TYPE",
        help="element type of all outputs (default: the model's)")
    add("-iop", "--input_output_precision", metavar="TYPES", help='element types by name: "input:f16, output:f16"')
    add("--mean_values", default="", metavar="VALUES",
        help='subtract from each channel: "input[123,116,103]", or "[123,116,103]" for all images')
    add("--scale_values", default="", metavar="VALUES", help="divide each channel by, after the mean")


def _add_running(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("running").add_argument
    add("-infer_precision", "--infer_precision", metavar="TYPE", help="element type to compute in: TYPE or DEVICE:TYPE")
    add("-inference_only", "--inference_only", type=boolean, nargs="?", const=True, metavar="YES|NO",
        help="set inputs before measuring, not in the loop (default: yes where all shapes are static)")
    add("-no_warmup", "--no_warmup", action="store_true", help="leave out the inference before measuring")
    add("-cdir", "--cache_dir", type=Path, metavar="FOLDER", help="the folder of the model cache (default: no cache)")
    add("-lfile", "--load_from_file", type=boolean, nargs="?", const=True, default=False, metavar="YES|NO",
        help="compile the file as it is, without steps 4 to 6")
    add("-load_config", "--load_config", type=Path, metavar="FILE", help="read properties from a JSON file")
    add("-dump_config", "--dump_config", type=Path, metavar="FILE", help="write the properties used to a JSON file")
    add("-extensions", "--extensions", metavar="LIBRARIES", help="libraries with operators; none can be loaded here")
    add("-c", "--path_to_cldnn_config", type=Path, metavar="FILE", help="kernels of OpenVINO's GPU; no effect here")


def _add_reports(options: argparse.ArgumentParser) -> None:
    add = options.add_argument_group("reports").add_argument
    add("-latency_percentile", "--latency_percentile", type=percentile, default=50, metavar="P",
        help="the latency percentile to report, 1 to 100 (default: 50, the median)")
    add("-pc", "--perf_counts", type=boolean, nargs="?", const=True, default=False, metavar="YES|NO",
        help="print the time of each node")
    add("-pcsort", "--perf_counts_sort", choices=("no_sort", "sort", "simple_sort"),
        help="print the time of each node in the order of running, by falling time, or by falling time those that ran")
    add("-pcseq", "--pcseq", type=boolean, nargs="?", const=True, default=False, metavar="YES|NO",
        help="print latencies of each group of -data_shape")
    add("-report_type", "--report_type", choices=KINDS,
        help="write a report: settings and results; with the mean time of each node; or with those of each request")
    add("-report_folder", "--report_folder", type=Path, default=Path(), metavar="FOLDER",
        help="where the report is written (default: here)")
    add("-json_stats", "--json_stats", type=boolean, nargs="?", const=True, default=False, metavar="YES|NO",
        help="write the report as JSON (default: as CSV)")
    add("--report", type=Path, metavar="FILE.html",
        help="write a page with the latencies, the steps by time and share of the roof, and the decisions")
    add("--trace", type=Path, metavar="FILE",
        help="write a timeline of requests, streams and steps, which https://ui.perfetto.dev shows")
    add("-exec_graph_path", "--exec_graph_path", type=Path, metavar="FILE",
        help="write the steps that were run, with their times, as an ONNX graph")
