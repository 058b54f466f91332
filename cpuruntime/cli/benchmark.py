"""`cpuruntime benchmark`: reads, compiles and measures one model, step by step as OpenVINO's benchmark_app does."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

import cpuruntime as ov
from cpuruntime.cli.inputs import SEED, random_array
from cpuruntime.cli.measure import Limits, Measurement, measure_async, measure_sync
from cpuruntime.cli.model_options import LIGHT, add_model_options, hint_settings, reshape, source_of, stream_settings
from cpuruntime.cli.parser import Parser, boolean, non_negative, parse_per_device, percentile, positive
from cpuruntime.cli.report import Progress, Report, peak_memory_kilobytes, profile_rows, profile_table, stopwatch
from cpuruntime.errors import InvalidArgumentError, printable

DEFAULT_SECONDS = 60


class _BenchmarkParser(Parser):
    def format_help(self) -> str:
        devices = ", ".join(ov.Core().available_devices)
        return f"{super().format_help()}\nAvailable devices: {devices}\n"


def parser() -> argparse.ArgumentParser:
    """The command's options: names, values and defaults are benchmark_app's."""
    options = _BenchmarkParser(prog="cpuruntime benchmark", description="Measure how fast a model is inferred.")
    add = options.add_argument
    add_model_options(add, "latency with -api sync, else throughput")
    add("-d", "--target_device", default="CPU", metavar="DEVICE", help="the device to infer on (default: CPU)")
    add("-api", "--api_type", choices=("sync", "async"),
        help="one request at a time, or as many as the device needs (default: sync with -hint latency, else async)")
    add("-niter", "--number_iterations", type=non_negative, metavar="N",
        help="stop after N inferences; 0 compiles the model and stops (default: stop by time)")
    add("-t", "--time", type=positive, metavar="SECONDS",
        help=f"stop after this time (default: {DEFAULT_SECONDS}, or no limit with -niter)")
    add("-infer_precision", "--infer_precision", metavar="TYPE", help="element type to compute in: TYPE or DEVICE:TYPE")
    add("-latency_percentile", "--latency_percentile", type=percentile, default=50, metavar="P",
        help="the latency percentile to report, 1 to 100 (default: 50, the median)")
    add("-pc", "--perf_counts", type=boolean, nargs="?", const=True, default=False, metavar="YES|NO",
        help="print the time of each node")
    return options


def run(options: argparse.Namespace) -> None:
    """Carries out the eleven steps. Raises cpuruntime.Error when one fails."""
    with Report(sys.stdout).log_included() as report:
        _run_steps(options, report)


def _run_steps(options: argparse.Namespace, report: Report) -> None:
    report.step(1)
    report.info("Parsing input parameters")
    api = options.api_type or ("sync" if options.perf_hint == "latency" else "async")
    core = _load(report, options.target_device)
    config = _configure(report, core, options, api)
    model = _read(report, core, options.path_to_model)
    batch = _reshape(report, model, options)
    compiled = _compile(report, core, model, options.target_device, config)
    if options.number_iterations == 0:
        report.info("Model compiled successfully. Skipping inference due to -niter 0.")
        for number in (8, 9, 10):
            report.step(number, "skipped")
        report.step(11)
        return
    _describe(report, compiled)
    report.step(9)
    inputs = random_inputs(report, compiled)
    limits = Limits(options.time or (None if options.number_iterations else DEFAULT_SECONDS), options.number_iterations)
    requests, measurement = _measure(report, compiled, inputs, api, options.number_infer_requests, limits)
    report.step(11)
    if options.perf_counts:
        rows = profile_rows([request.profiling_info for request in requests])
        report.info("Time of each node, the mean of one inference of each request:")
        for line in profile_table(rows):
            report.info(line)
    devices = compiled.get_property("EXECUTION_DEVICES")
    report.results(measurement, percent=options.latency_percentile, batch=batch, devices=devices)


def _load(report: Report, device: str) -> ov.Core:
    report.step(2)
    core = ov.Core()
    report.info("cpuruntime:")
    report.info(f"{'Build ':.<39} {ov.get_version()}")
    report.info("")
    report.info("Device info:")
    for name, version in core.get_versions(device).items():
        report.info(name)
        report.info(f"{'Name ':.<39} {core.get_property(name, 'FULL_DEVICE_NAME')}")
        report.info(f"{'Build ':.<39} {version.build_number}")
    report.info("")
    return core


def _configure(report: Report, core: ov.Core, options: argparse.Namespace, api: str) -> dict[str, object]:
    report.step(3)
    device = options.target_device
    supported = core.get_property(device, "SUPPORTED_PROPERTIES")
    config = hint_settings(options)
    if options.perf_counts:
        config["PERF_COUNT"] = True
    if "PERFORMANCE_HINT" not in supported:
        config.pop("PERFORMANCE_HINT", None)
        report.warning(f"Device {device} does not support performance hint property(-hint).")
    elif options.perf_hint is None:
        config["PERFORMANCE_HINT"] = "LATENCY" if api == "sync" else "THROUGHPUT"
        report.warning(
            "Performance hint was not explicitly specified in command line. "
            f"Device({device}) performance hint will be set to {config['PERFORMANCE_HINT']}."
        )
    explicit = stream_settings(options, device)
    if explicit and "PERFORMANCE_HINT" in config:
        names = ", ".join(explicit)
        report.info(f"{names} given explicitly; the hint {config['PERFORMANCE_HINT']} decides the rest.")
    if options.infer_precision is not None:
        explicit["INFERENCE_PRECISION_HINT"] = parse_per_device("-infer_precision", options.infer_precision, device)
    return {**config, **explicit}


def _read(report: Report, core: ov.Core, path: str) -> ov.Model:
    report.step(4)
    report.info("Loading model files")
    if path.startswith(LIGHT):
        report.info(f"Filling the weights of {path} with random values (seed {SEED})")
    source = source_of(path)
    start = stopwatch()
    model = core.read_model(source)
    report.info(f"Read model took {stopwatch() - start:.2f} ms")
    report.info("Original model I/O parameters:")
    report.ports("Model inputs", model.inputs)
    report.ports("Model outputs", model.outputs)
    return model


def _reshape(report: Report, model: ov.Model, options: argparse.Namespace) -> int:
    report.step(5)
    if shapes := reshape(options, model):
        report.info(f"Reshaping model: {', '.join(f'{printable(name)}: {shape}' for name, shape in shapes.items())}")
    batch = batch_of(model)
    report.info(f"Model batch size: {batch}")
    report.step(6)
    report.ports("Model inputs", model.inputs)
    report.ports("Model outputs", model.outputs)
    return batch


def batch_of(model: ov.Model) -> int:
    """The first dimension that all inputs of two or more dimensions share; 1 when they share none."""
    firsts = {str(port.partial_shape[0]) for port in model.inputs if len(port.partial_shape) >= 2}
    only = firsts.pop() if len(firsts) == 1 else ""
    return int(only) if only.isdigit() else 1


def _compile(
    report: Report, core: ov.Core, model: ov.Model, device: str, config: Mapping[str, object]
) -> ov.CompiledModel:
    report.step(7)
    before, start = peak_memory_kilobytes(), stopwatch()
    compiled = core.compile_model(model, device, config)
    compiled.wait_until_optimized()
    report.info(f"Compile model took {stopwatch() - start:.2f} ms")
    after = peak_memory_kilobytes()
    report.info(f"Start of compilation memory usage: Peak {before} KB")
    report.info(f"End of compilation memory usage: Peak {after} KB")
    report.info(f"Compile model ram used {after - before} KB")
    return compiled


def _describe(report: Report, compiled: ov.CompiledModel) -> None:
    report.step(8)
    report.info("Model:")
    for name in compiled.get_property("SUPPORTED_PROPERTIES"):
        if name != "SUPPORTED_PROPERTIES":
            value = compiled.get_property(name)
            report.info(f"  {name}: {printable(value) if isinstance(value, str) else value}")
    explanation = compiled.explain()
    if explanation.decisions:
        report.info("Decisions:")
    for decision in explanation.decisions:
        report.info(f"  {decision}")
    if fallbacks := fallback_summary(explanation):
        report.warning(fallbacks)


def fallback_summary(explanation: ov.Explanation) -> str:
    """How many steps have no kernel, by operator; empty when all have one."""
    operators = Counter(row.op_type for row in explanation.fallbacks)
    if not operators:
        return ""
    names = ", ".join(f"{count} {operator}" for operator, count in operators.most_common())
    return f"{operators.total()} of {len(explanation.rows)} steps have no kernel and run slowly: {names}"


def random_inputs(report: Report, compiled: ov.CompiledModel) -> list[np.ndarray]:
    """A random array for each input, always the same ones.

    Raises InvalidArgumentError when an input's shape is dynamic.
    """
    generator = np.random.default_rng(SEED)
    arrays = []
    for port in compiled.inputs:
        name, shape = port.any_name, port.partial_shape
        if shape.is_dynamic:
            raise InvalidArgumentError(
                f"Input '{printable(name)}' has the dynamic shape {shape}, and a benchmark needs sizes. "
                f'Give them with -shape "{printable(name)}[...]" or, where only the first is open, with -b.'
            )
        report.info(f"Fill input '{printable(name)}' with random values (seed {SEED})")
        arrays.append(random_array(tuple(shape.to_shape()), port.element_type.to_dtype(), generator))
    return arrays


def _measure(
    report: Report, compiled: ov.CompiledModel, inputs: Sequence[np.ndarray], api: str, jobs: int | None, limits: Limits
) -> tuple[list[ov.InferRequest], Measurement]:
    """Fills the inputs once, infers once outside the measuring, and measures."""
    if api == "sync":
        requests = [compiled.create_infer_request()]
        detail = f"Start inference synchronously, limits: {limits}"
    else:
        queue = ov.AsyncInferQueue(compiled, jobs or 0)
        requests = list(queue)
        aligned = limits.aligned(len(requests))
        if aligned != limits:
            report.warning(
                f"Number of iterations was aligned by request number from {limits.iterations} to "
                f"{aligned.iterations} using number of requests {len(requests)}"
            )
        limits = aligned
        detail = f"Start inference asynchronously, {len(requests)} inference requests, limits: {limits}"
    for request in requests:
        for index, array in enumerate(inputs):
            request.get_input_tensor(index).data[...] = array
    report.step(10, detail)
    report.info("Benchmarking in inference only mode (inputs filling are not included in measurement loop).")
    requests[0].infer()
    report.info(f"First inference took {requests[0].latency:.2f} ms")
    progress = Progress(report, limits)
    try:
        if api == "sync":
            measurement = measure_sync(requests[0], limits, progress)
        else:
            measurement = measure_async(queue, limits, progress)
    finally:
        progress.close()
    return requests, measurement
